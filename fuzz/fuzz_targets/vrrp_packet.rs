//! What a raw socket delivers: any bytes. What is accepted is written back to the same bytes,
//! apart from the reserved bits, authentication data nobody looks at, and keepalived's trailer.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use vrrp::{Advertisement, Authentication, Datagram, Format, GROUP, GROUP_V6, TTL};

/// Header and 255 addresses, read into a list that grows by doubling.
const HEAP: usize = 24 * 1024;

fuzz_target!(|packet: &[u8]| {
    trigon_fuzz::within(HEAP, || {
        if let Ok(datagram) = Datagram::parse(packet) {
            assert!(datagram.message.len() + 20 <= packet.len());
            check(&datagram);
        }
        // Past the IP header, whose checks would stop nearly everything.
        check(&over_ipv4(packet));
        check(&Datagram {
            source: IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]),
            destination: GROUP_V6,
            ttl: TTL,
            message: packet,
        });
        repaired(packet);
    });
});

fn over_ipv4(message: &[u8]) -> Datagram<'_> {
    Datagram { source: [10, 99, 0, 1].into(), destination: GROUP, ttl: TTL, message }
}

fn check(datagram: &Datagram<'_>) {
    let Ok((advertisement, format)) = Advertisement::parse(datagram) else { return };
    assert!(
        datagram.ttl == TTL || !datagram.is_multicast(),
        "only senders of this segment are heard by multicast"
    );
    assert!((1..=255).contains(&advertisement.addresses.len()));
    let written = advertisement.emit(datagram.source, datagram.destination, format);
    let mut sent = datagram.message[..written.len()].to_vec();
    let mut back = written.clone();
    // What is not kept is not in the checksum either.
    match format {
        Format::V3(_) => sent[4] &= 0x0f,
        Format::V2(Authentication::None) => {
            let data = sent.len() - 8;
            sent[data..].fill(0);
        }
        Format::V2(Authentication::Simple(_)) => {}
    }
    for message in [&mut sent, &mut back] {
        message[6..8].fill(0);
    }
    assert_eq!(sent, back);
    let again = Advertisement::parse(&Datagram { message: &written, ..*datagram });
    assert_eq!(again.map(|(again, _)| again), Ok(advertisement));
}

/// The same message with a right checksum, which chance would hardly find.
fn repaired(message: &[u8]) {
    let mut message = message.to_vec();
    if message.len() < 8 {
        return;
    }
    message[6..8].fill(0);
    let words = message.chunks(2).map(|word| match *word {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.fold(0, u32::wrapping_add);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = u16::try_from(sum).unwrap_or_default();
    message[6..8].copy_from_slice(&(!sum).to_be_bytes());
    check(&over_ipv4(&message));
}
