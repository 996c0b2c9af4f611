//! Who is Active and how it changes: beside keepalived, and among ourselves.

use std::{net::IpAddr, time::Duration};

use vrrp::{Error, PacketErrors, Reason, RouterConfig, State};

use crate::{
    NAME, VIP, VRID,
    capture::Capture,
    is_active,
    keepalived::{Instance, Keepalived},
    lan::{Host, Lan, eventually, throughout},
    speak, speak_as, status,
};

#[test]
fn keepalived_follows_us_and_takes_over_when_we_stop() {
    let lan = Lan::new(3);
    let (ours, theirs, client) = (lan.host(1), lan.host(2), lan.host(3));
    let keepalived = Keepalived::start(theirs, &Instance::new(VRID, 100, VIP));
    let (handle, reports) = speak(ours, 254);
    eventually("we become active", || is_active(&handle) && !theirs.holds(VIP));
    eventually("the client reaches us", || client.reaches(VIP));
    assert_eq!(client.neighbour(VIP), Some(ours.mac()));
    throughout("keepalived stays backup", Duration::from_secs(2), || {
        ours.holds(VIP) && !theirs.holds(VIP)
    });
    keepalived.assert_content();

    handle.stop();
    assert!(!ours.holds(VIP), "stop() returns after the address is gone");
    eventually("keepalived takes over", || theirs.holds(VIP));
    eventually("the client is told", || client.neighbour(VIP) == Some(theirs.mac()));
    let states: Vec<_> = reports.iter().map(|report| report.to).collect();
    assert_eq!(states.first(), Some(&State::Backup), "never straight to active");
    assert_eq!(states.last(), Some(&State::Initialize));
}

#[test]
fn we_follow_keepalived_and_take_over_when_it_stops() {
    let lan = Lan::new(3);
    let (ours, theirs, client) = (lan.host(1), lan.host(2), lan.host(3));
    let keepalived = Keepalived::start(theirs, &Instance::new(VRID, 200, VIP));
    eventually("keepalived becomes active", || theirs.holds(VIP));
    let (handle, reports) = speak(ours, 100);
    eventually("the client reaches keepalived", || client.reaches(VIP));
    throughout("we stay backup", Duration::from_secs(2), || {
        !is_active(&handle) && !ours.holds(VIP)
    });
    let before = status(&handle);
    assert_eq!(
        before.peer.map(|peer| (peer.source, peer.priority)),
        Some((theirs.address().into(), 200))
    );
    assert!(before.adverts_in > 5);
    assert_eq!(before.errors, PacketErrors::default());

    keepalived.stop();
    eventually("we become active", || is_active(&handle));
    assert!(ours.holds(VIP), "reported only after the address is there");
    eventually("the client is told", || client.neighbour(VIP) == Some(ours.mac()));
    assert!(client.reaches(VIP));
    assert_eq!(status(&handle).last_reason, Some(Reason::ActiveLeft));
    let takeover = reports.iter().find(|report| report.to == State::Active).unwrap();
    assert_eq!((takeover.vrid, takeover.addresses), (VRID, vec![VIP.into()]));
}

#[test]
fn priority_and_permission_decide_at_run_time() {
    let lan = Lan::new(2);
    let (ours, theirs) = (lan.host(1), lan.host(2));
    let keepalived = Keepalived::start(theirs, &Instance::new(VRID, 100, VIP));
    eventually("keepalived becomes active", || theirs.holds(VIP));
    let (handle, _reports) = speak(ours, 254);
    let we_have_it = || ours.holds(VIP) && !theirs.holds(VIP);
    let they_have_it = || theirs.holds(VIP) && !ours.holds(VIP);
    eventually("the higher priority preempts", we_have_it);
    handle.set_priority(NAME, 10).unwrap();
    eventually("keepalived preempts a lower priority", they_have_it);
    handle.set_priority(NAME, 254).unwrap();
    eventually("we preempt again", we_have_it);
    handle.set_permission(NAME, false).unwrap();
    eventually("we yield without permission", they_have_it);
    assert_eq!(status(&handle).last_reason, Some(Reason::PermissionWithdrawn));
    throughout("without permission priority does not count", Duration::from_secs(1), they_have_it);
    handle.set_permission(NAME, true).unwrap();
    eventually("with permission it does", we_have_it);
    keepalived.assert_content();
    assert!(matches!(handle.set_priority("eth0-52", 1), Err(Error::UnknownRouter(_))));
    assert!(matches!(handle.set_priority(NAME, 255), Err(Error::Config(_))));
}

/// What a neighbour sees of a virtual router.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Advertisement { priority: u8 },
    Arp { operation: u8 },
}

/// What has been captured of `sender`; every advertisement is checked for its IP header.
fn seen(capture: &Capture, sender: &Host) -> Vec<Seen> {
    let mut seen = Vec::new();
    for frame in capture.frames() {
        match (&frame[12..14], &frame[14..]) {
            ([0x08, 0x00], packet) if packet[9] == 112 => {
                assert_eq!(frame[..6], [0x01, 0, 0x5e, 0, 0, 0x12], "the group's mac address");
                assert_eq!((packet[1], packet[8]), (0xc0, 255), "tos and ttl");
                assert_eq!(packet[12..16], sender.address().octets(), "never from the vip");
                assert_eq!(packet[16..20], [224, 0, 0, 18]);
                seen.push(Seen::Advertisement { priority: packet[22] });
            }
            ([0x08, 0x06], arp) if arp[14..18] == VIP.octets() && arp[24..28] == VIP.octets() => {
                assert_eq!(frame[..6], [0xff; 6], "broadcast");
                seen.push(Seen::Arp { operation: arp[7] });
            }
            _ => {}
        }
    }
    seen
}

#[test]
fn on_the_wire_a_takeover_is_advertised_then_announced_and_ends_with_a_goodbye() {
    let lan = Lan::new(2);
    let (ours, neighbour) = (lan.host(1), lan.host(2));
    let capture = Capture::start(neighbour);
    let (handle, _reports) = speak(ours, 254);
    eventually("we have announced twice", || status(&handle).adverts_out > 4);
    handle.stop();
    let seen = seen(&capture, ours);
    let advertisement = Seen::Advertisement { priority: 254 };
    let announcement = [Seen::Arp { operation: 1 }, Seen::Arp { operation: 2 }];
    assert_eq!(seen[0], advertisement);
    assert_eq!(seen[1..3], announcement);
    assert!(seen[3..].windows(2).any(|pair| pair == announcement), "again after 0.2 s");
    assert_eq!(seen.last(), Some(&Seen::Advertisement { priority: 0 }));
}

#[test]
fn two_speakers_of_ours_hand_over_and_back() {
    let lan = Lan::new(2);
    let (first, second) = (lan.host(1), lan.host(2));
    let (strong, _strong_reports) = speak(first, 254);
    eventually("the first becomes active", || first.holds(VIP));
    let (weak, _weak_reports) = speak(second, 253);
    throughout("the second stays backup", Duration::from_secs(1), || !second.holds(VIP));
    strong.stop();
    eventually("the second takes over", || is_active(&weak) && second.holds(VIP));
    let (strong, _strong_reports) = speak(first, 254);
    eventually("the first preempts", || first.holds(VIP) && !second.holds(VIP));
    assert_eq!(
        status(&weak).last_reason,
        Some(Reason::BetterAdvertisement { source: first.address().into(), priority: 254 })
    );
    assert!(is_active(&strong));
}

#[test]
fn at_a_virtual_mac_address_neighbours_need_not_learn_anything() {
    for (address, mac) in [
        (IpAddr::V4(VIP), "00:00:5e:00:01:33"),
        ("2001:db8:99::100".parse().unwrap(), "00:00:5e:00:02:33"),
    ] {
        let lan = Lan::new(3);
        let (first, second, client) = (lan.host(1), lan.host(2), lan.host(3));
        let router = |priority| {
            let router = RouterConfig::new("eth0", VRID, vec![address]).unwrap();
            router.with_priority(priority).unwrap().with_virtual_mac(true)
        };
        let (strong, _strong_reports) = speak_as(first, router(254));
        eventually("the first becomes active", || is_active(&strong));
        assert!(!first.holds(address), "its own interface has the address");
        assert!(first.ip("-d -o link show").contains("macvlan"));
        eventually("the client reaches it", || client.reaches(address));
        assert_eq!(client.neighbour(address).as_deref(), Some(mac));
        let (weak, _weak_reports) = speak_as(second, router(253));
        eventually("the second follows", || status(&weak).peer.is_some());
        strong.stop();
        assert!(!first.ip("-d -o link show").contains("macvlan"), "nothing is left behind");
        eventually("the second takes over", || is_active(&weak));
        assert_eq!(client.neighbour(address).as_deref(), Some(mac));
        eventually("the client reaches it", || client.reaches(address));
        let status = status(&weak);
        assert_eq!((status.duplicates, status.removals), (0, 0));
    }
}
