//! Frames that claim an address, from anybody on the segment: any bytes. Reading takes no memory, and
//! what we announce ourselves is read as what it says.

#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use vrrp::{Mac, fuzzing, gratuitous_arp, unsolicited_advertisement};

fuzz_target!(|frame: &[u8]| {
    trigon_fuzz::within(0, || {
        if fuzzing::read_arp_claim(frame).is_some() {
            assert!(frame.len() >= 42, "read beyond the frame");
        }
        if fuzzing::read_neighbour_claim(frame).is_some() {
            assert!(frame.len() >= 78, "read beyond the frame");
        }
    });
    // Any bytes as addresses.
    let Some(bytes) = frame.first_chunk::<22>() else { return };
    let mac: Mac = bytes.first_chunk().copied().unwrap_or_default();
    let v6: [u8; 16] = bytes[6..].first_chunk().copied().unwrap_or_default();
    let v4: [u8; 4] = v6.first_chunk().copied().unwrap_or_default();
    for arp in gratuitous_arp(mac, v4.into()) {
        let expected = (v4 != [0; 4]).then(|| (Ipv4Addr::from(v4), mac));
        assert_eq!(fuzzing::read_arp_claim(&arp), expected);
    }
    let advertisement = unsolicited_advertisement(mac, v6.into(), mac[0] & 1 == 1);
    assert_eq!(fuzzing::read_neighbour_claim(&advertisement), Some((Ipv6Addr::from(v6), mac)));
});
