//! Packets that should not be: every field wrong, the wrong sender, floods of them.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use vrrp::{PacketErrors, RouterConfig, Speaker, SpeakerConfig, State};

use crate::{
    VIP, VRID, is_active,
    keepalived::{Instance, Keepalived},
    lan::{Host, Lan, eventually, throughout},
    speak, status,
};

/// The group as the standard library wants it.
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// An advertisement of priority 255 with some bytes changed, checksum made right unless it is
/// among the changes, sent with this TTL.
fn inject(host: &Host, ttl: u8, length: usize, changes: &[(usize, u8)]) {
    let mut message = vec![0x31, VRID, 255, 1, 0, 10, 0, 0];
    message.extend(VIP.octets());
    for (offset, value) in changes {
        message[*offset] = *value;
    }
    message.truncate(length);
    if length >= 8 && !changes.iter().any(|(offset, _)| (6..8).contains(offset)) {
        // The form without pseudo-header is accepted as well and easy to compute.
        let sum = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let sum: u32 = sum.sum();
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        message[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    let source = host.address();
    host.run(move || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112))).unwrap();
        socket.set_multicast_ttl_v4(u32::from(ttl)).unwrap();
        socket.set_multicast_if_v4(&source).unwrap();
        let group = SocketAddrV4::new(GROUP, 0);
        socket.send_to(&message, &group.into()).unwrap();
    });
}

#[test]
fn packets_of_strangers_are_counted_and_change_nothing() {
    let lan = Lan::new(2);
    let (ours, stranger) = (lan.host(1), lan.host(2));
    let (handle, _reports) = speak(ours, 100);
    eventually("we become active", || is_active(&handle));
    let before = status(&handle);

    inject(stranger, 254, 12, &[]);
    inject(stranger, 255, 12, &[(6, 0xde), (7, 0xad)]);
    inject(stranger, 255, 12, &[(1, 52)]);
    inject(stranger, 255, 12, &[(1, 0)]);
    inject(stranger, 255, 12, &[(0, 0x41)]);
    inject(stranger, 255, 12, &[(0, 0x32)]);
    inject(stranger, 255, 12, &[(3, 0)]);
    inject(stranger, 255, 12, &[(3, 2)]);
    inject(stranger, 255, 12, &[(5, 0)]);
    inject(stranger, 255, 7, &[]);
    inject(stranger, 255, 0, &[]);

    let expected = PacketErrors {
        ttl: 1,
        checksum: 1,
        foreign_vrid: 1,
        vrid_zero: 1,
        version: 1,
        kind: 1,
        count_zero: 1,
        length: 1,
        interval_zero: 1,
        truncated: 2,
        ..PacketErrors::default()
    };
    eventually("every packet is counted", || status(&handle).errors == expected);
    let after = status(&handle);
    assert_eq!((after.state, after.since), (State::Active, before.since));
    assert_eq!(after.adverts_in, 0);
    assert!(ours.holds(VIP));

    // The same packet without a fault is obeyed: the test does reach the speaker.
    inject(stranger, 255, 12, &[]);
    eventually("a sound packet of higher priority is obeyed", || {
        let status = status(&handle);
        status.adverts_in == 1 && status.since != before.since
    });
}

#[test]
fn keepalived_refuses_the_checksum_form_of_rfc_9568() {
    // Why we send the other form; and a proof that `assert_no_complaint` can fail.
    let lan = Lan::new(2);
    let (theirs, stranger) = (lan.host(1), lan.host(2));
    let keepalived = Keepalived::start(theirs, &Instance::new(VRID, 100, VIP));
    eventually("keepalived becomes active", || theirs.holds(VIP));
    keepalived.assert_content();
    inject(stranger, 255, 12, &[]);
    eventually("keepalived complains", || keepalived.complains());
    assert!(theirs.holds(VIP));
}

#[test]
fn two_routers_of_one_speaker_are_independent() {
    let lan = Lan::new(2);
    let (ours, stranger) = (lan.host(1), lan.host(2));
    let other = Ipv4Addr::new(10, 99, 0, 101);
    let routers = [(VRID, VIP), (VRID + 1, other)]
        .map(|(vrid, address)| RouterConfig::new("eth0", vrid, vec![address.into()]).unwrap());
    let config = SpeakerConfig::new(routers.to_vec()).unwrap();
    let handle = ours.run(|| Speaker::spawn(config, Box::new(|_| {}), None)).unwrap();
    eventually("both become active", || ours.holds(VIP) && ours.holds(other));
    handle.set_permission("eth0-52", false).unwrap();
    eventually("one yields", || !ours.holds(other));
    throughout("the other does not", Duration::from_secs(1), || ours.holds(VIP));
    let received = || handle.states().iter().map(|status| status.adverts_in).collect::<Vec<_>>();
    inject(stranger, 255, 12, &[(1, VRID + 1)]);
    eventually("each gets its own advertisements", || received() == [0, 1]);
    handle.stop();
    assert!(!ours.holds(VIP) && !ours.holds(other));
}
