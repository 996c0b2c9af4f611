//! Packets that should not be: every field wrong, the wrong sender, floods of them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use vrrp::{
    ChecksumChoice, Dialect, PacketErrors, RouterConfig, Speaker, SpeakerConfig, State, Unicast,
};

use crate::{
    VIP, VRID,
    capture::Capture,
    is_active,
    keepalived::{Instance, Keepalived},
    lan::{Host, Lan, eventually, throughout},
    router, speak, speak_as, status,
};

/// The group as the standard library wants it.
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// An advertisement of priority 255 with some bytes changed, checksum made right unless it is
/// among the changes.
fn forge(length: usize, changes: &[(usize, u8)]) -> Vec<u8> {
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
    message
}

/// Sends `messages` over and over, `count` in all.
fn send(host: &Host, ttl: u8, destination: Ipv4Addr, messages: &[Vec<u8>], count: usize) {
    let source = host.address();
    host.run(move || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112))).unwrap();
        socket.set_multicast_ttl_v4(u32::from(ttl)).unwrap();
        socket.set_multicast_if_v4(&source).unwrap();
        let destination = SocketAddrV4::new(destination, 0).into();
        for message in messages.iter().cycle().take(count) {
            // A full queue of the device loses a packet of a flood, which is all the same.
            let sent = socket.send_to(message, &destination);
            assert!(sent.is_ok() || count > 1, "{sent:?}");
        }
    });
}

/// Sends [`forge`]d bytes to the group with this TTL.
fn inject(host: &Host, ttl: u8, length: usize, changes: &[(usize, u8)]) {
    send(host, ttl, GROUP, &[forge(length, changes)], 1);
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

#[test]
fn a_host_that_is_no_member_is_not_obeyed() {
    let lan = Lan::new(3);
    let (ours, member, stranger) = (lan.host(1), lan.host(2), lan.host(3));
    let members = [ours, member].map(|host| host.address().into());
    let dialect = Dialect::default().with_members(members.to_vec());
    let (handle, _reports) = speak_as(ours, router(100).with_dialect(dialect).unwrap());
    eventually("we become active", || is_active(&handle));
    let since = status(&handle).since;
    inject(stranger, 255, 12, &[]);
    eventually("it is counted", || status(&handle).errors.stranger == 1);
    assert_eq!(status(&handle).since, since);
    inject(member, 255, 12, &[]);
    eventually("a member is obeyed", || status(&handle).since != since);
}

#[test]
fn by_unicast_only_peers_are_heard_and_only_by_unicast() {
    let lan = Lan::new(3);
    let (ours, peer, stranger) = (lan.host(1), lan.host(2), lan.host(3));
    let unicast = Unicast::new(None, vec![peer.address().into()]).unwrap();
    let dialect = Dialect::default().with_unicast(unicast);
    let (handle, _reports) = speak_as(ours, router(100).with_dialect(dialect).unwrap());
    eventually("we become active", || is_active(&handle));
    let since = status(&handle).since;
    send(stranger, 255, ours.address(), &[forge(12, &[])], 1);
    inject(peer, 255, 12, &[]);
    eventually("both are counted", || {
        let errors = status(&handle).errors;
        (errors.unknown_peer, errors.cast) == (1, 1)
    });
    assert_eq!(status(&handle).since, since);
    send(peer, 255, ours.address(), &[forge(12, &[])], 1);
    eventually("the peer is obeyed", || status(&handle).since != since);
}

#[test]
fn a_speaker_without_pseudo_header_is_answered_in_its_own_form() {
    for (choice, answer) in [(ChecksumChoice::Auto, "0"), (ChecksumChoice::PseudoHeader, "1")] {
        let lan = Lan::new(2);
        let (ours, other) = (lan.host(1), lan.host(2));
        let dialect = Dialect::version_3(choice);
        let (handle, _reports) = speak_as(ours, router(100).with_dialect(dialect).unwrap());
        eventually("we become active", || is_active(&handle));
        let capture = Capture::start(other);
        inject(other, 255, 12, &[(2, 1)]);
        eventually("it is heard", || status(&handle).adverts_message_only == 1);
        let sent = status(&handle).adverts_out;
        eventually("we go on", || status(&handle).adverts_out > sent + 2);
        let frames = capture.dissect("vrrp.prio == 100");
        // tshark calls the form of RFC 9568 bad.
        assert_eq!(frames.last().unwrap()["vrrp.checksum.status"], answer, "{choice:?}");
    }
}

#[test]
fn a_flood_changes_nothing_and_is_left_to_the_kernel() {
    let lan = Lan::new(3);
    let (first, second, stranger) = (lan.host(1), lan.host(2), lan.host(3));
    let (strong, _strong_reports) = speak(first, 254);
    let (weak, _weak_reports) = speak(second, 253);
    eventually("the first is active, the second follows", || {
        is_active(&strong) && status(&weak).peer.is_some()
    });
    let before = [status(&strong), status(&weak)];
    // Other virtual routers, and ours with a wrong checksum, a wrong length and no address.
    let flood = [
        forge(12, &[(1, VRID + 1)]),
        forge(12, &[(6, 0xde), (7, 0xad)]),
        forge(12, &[(3, 2)]),
        forge(12, &[(1, VRID + 2)]),
        forge(12, &[(3, 0)]),
    ];
    send(stranger, 255, GROUP, &flood, 200_000);
    let heard = status(&weak).adverts_in;
    eventually("advertisements go on", || status(&weak).adverts_in > heard + 3);
    for (before, handle) in before.iter().zip([&strong, &weak]) {
        let after = status(handle);
        assert_eq!((after.state, after.since), (before.state, before.since));
        assert!(after.storms > 0, "the kernel was told to filter");
        assert!(after.errors.foreign_vrid > 0 && after.errors.checksum > 0);
    }
    let sent = status(&strong).adverts_out - before[0].adverts_out;
    let heard = status(&weak).adverts_in - before[1].adverts_in;
    assert!(heard + 2 >= sent / 2, "{heard} of {sent} advertisements arrived");
}

/// A third host has an address that ours is about to take.
fn a_duplicate_is_named(address: IpAddr) {
    let lan = Lan::new(2);
    let (ours, other) = (lan.host(1), lan.host(2));
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    let nodad = if address.is_ipv4() { "" } else { "nodad" };
    other.ip(&format!("address add {address}/{prefix} dev eth0 {nodad}"));
    let router = RouterConfig::new("eth0", VRID, vec![address]).unwrap();
    let (handle, _reports) = speak_as(ours, router);
    eventually("we become active", || is_active(&handle));
    eventually("the other is named", || {
        let mac = status(&handle).duplicate.map(|mac| mac.map(|byte| format!("{byte:02x}")));
        mac.is_some_and(|mac| mac.join(":") == other.mac())
    });
    assert!(status(&handle).duplicates > 0);
}

#[test]
fn another_host_with_our_address_is_named_over_ipv4() {
    a_duplicate_is_named(VIP.into());
}

#[test]
fn another_host_with_our_address_is_named_over_ipv6() {
    a_duplicate_is_named("2001:db8:99::100".parse().unwrap());
}
