//! Every way of talking that we share with keepalived, in both directions, with everything on the
//! wire dissected by tshark.

use std::{net::IpAddr, time::Duration};

use vrrp::{ChecksumChoice, Dialect, PacketErrors, Password, Reason, RouterConfig, State, Unicast};

use crate::{
    VRID,
    capture::{Capture, Frame},
    is_active,
    keepalived::{Instance, Keepalived},
    lan::{Host, Lan, eventually, throughout},
    router, speak_as, status,
};

const V4: IpAddr = IpAddr::V4(crate::VIP);

fn v6(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// One way of talking, as we and keepalived are told it.
struct Way {
    addresses: Vec<IpAddr>,
    dialect: Dialect,
    interval: Duration,
    /// The fields that every advertisement must show.
    shows: &'static [(&'static str, &'static str)],
}

impl Way {
    fn version_3(addresses: &[IpAddr], dialect: Dialect) -> Self {
        let shows: &[_] = if addresses[0].is_ipv4() {
            &[("vrrp.version", "3"), ("ip.ttl", "255"), ("ip.dsfield", "0xc0")]
        } else {
            &[("vrrp.version", "3"), ("ipv6.hlim", "255")]
        };
        let interval = Duration::from_millis(100);
        Self { addresses: addresses.to_vec(), dialect, interval, shows }
    }

    fn ours(&self, priority: u8) -> RouterConfig {
        let router = RouterConfig::new("eth0", VRID, self.addresses.clone()).unwrap();
        let router = router.with_priority(priority).unwrap();
        let router = router.with_interval(self.interval).unwrap();
        router.with_dialect(self.dialect.clone()).unwrap()
    }

    /// We take over from keepalived, it takes over from us, we from it.
    fn go(&self, instance: impl Fn(u8) -> Instance) {
        let lan = Lan::new(3);
        let (ours, theirs, client) = (lan.host(1), lan.host(2), lan.host(3));
        let all = |host: &Host| self.addresses.iter().all(|address| host.holds(*address));
        let none = |host: &Host| !self.addresses.iter().any(|address| host.holds(*address));
        let target = *self.addresses.last().unwrap();
        let capture = Capture::start(theirs);

        let keepalived = Keepalived::start(theirs, &instance(100));
        eventually("keepalived becomes active", || all(theirs));
        eventually("the client reaches it", || client.reaches(target));
        let (strong, _reports) = speak_as(ours, self.ours(254));
        eventually("we preempt", || all(ours) && none(theirs));
        eventually("the client is told", || client.neighbour(target) == Some(ours.mac()));
        assert!(client.reaches(target));
        throughout("keepalived follows", 4 * self.interval, || none(theirs));
        strong.stop();
        assert!(none(ours), "stop() returns after the addresses are gone");
        eventually("keepalived takes over", || all(theirs));
        eventually("the client is told", || client.neighbour(target) == Some(theirs.mac()));

        let (weak, _reports) = speak_as(ours, self.ours(50));
        eventually("we hear keepalived", || status(&weak).peer.is_some());
        throughout("we follow", 4 * self.interval, || !is_active(&weak));
        let heard = status(&weak);
        let peer = heard.peers[0];
        assert_eq!((peer.priority, peer.adverts), (100, heard.adverts_in));
        assert_eq!(heard.errors, PacketErrors::default());
        keepalived.assert_content();
        keepalived.stop();
        eventually("we take over", || is_active(&weak) && all(ours));
        assert_eq!(status(&weak).last_reason, Some(Reason::ActiveLeft));
        weak.stop();
        self.check(&capture, ours, theirs);
    }

    fn check(&self, capture: &Capture, ours: &Host, theirs: &Host) {
        // A host without speaker quotes unicast advertisements when it says that it has none.
        let frames = capture.dissect(
            "(vrrp or arp.isgratuitous == 1 or icmpv6.nd.na.flag.o == 1) and not icmp.type == 3 \
             and not icmpv6.type == 4",
        );
        let is_ours = |frame: &&Frame| frame["eth.src"] == ours.mac();
        let vrrp = |frame: &&Frame| frame.contains_key("vrrp.version");
        for frame in &frames {
            assert!(!frame.contains_key("_ws.malformed"), "{frame:?}");
        }
        for frame in frames.iter().filter(vrrp) {
            for (field, value) in self.shows {
                // By unicast keepalived sends with the ordinary TTL.
                if matches!(*field, "ip.ttl" | "ipv6.hlim") && !is_ours(&frame) {
                    continue;
                }
                assert_eq!(frame.get(field).map(String::as_str), Some(*value), "{frame:?}");
            }
            assert_eq!(frame["vrrp.checksum.status"], "1", "good: {frame:?}");
            let list: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
            let field = if V4.is_ipv4() == self.addresses[0].is_ipv4() {
                "vrrp.ip_addr"
            } else {
                "vrrp.ipv6_addr"
            };
            assert_eq!(frame[field], list.join(","), "{frame:?}");
        }
        for host in [ours, theirs] {
            let farewell = frames
                .iter()
                .filter(vrrp)
                .any(|frame| frame["eth.src"] == host.mac() && frame["vrrp.prio"] == "0");
            assert!(farewell, "{host:?} said goodbye");
        }
        let announced = |frame: &Frame| {
            frame.contains_key("arp.isgratuitous")
                || frame.contains_key("icmpv6.nd.na.target_address")
                    && frame["icmpv6.checksum.status"] == "1"
                    && frame["ipv6.hlim"] == "255"
        };
        assert!(frames.iter().filter(is_ours).any(announced), "we announced the addresses");
    }
}

fn unicast(source: IpAddr, peer: IpAddr) -> Dialect {
    Dialect::default().with_unicast(Unicast::new(Some(source), vec![peer]).unwrap())
}

#[test]
fn version_3_over_ipv4() {
    let members = vec![[10, 99, 0, 1].into(), [10, 99, 0, 2].into()];
    let dialect = Dialect::version_3(ChecksumChoice::PseudoHeader).with_members(members);
    Way::version_3(&[V4], dialect).go(|priority| Instance::new(VRID, priority, V4));
}

#[test]
fn version_3_over_ipv4_by_unicast() {
    let (ours, theirs) = (IpAddr::from([10, 99, 0, 1]), IpAddr::from([10, 99, 0, 2]));
    Way::version_3(&[V4], unicast(ours, theirs))
        .go(|priority| Instance::new(VRID, priority, V4).unicast(theirs, ours));
}

#[test]
fn version_3_over_ipv6_with_a_link_local_address_first() {
    let (local, global) = (v6("fe80::100"), v6("2001:db8:99::100"));
    Way::version_3(&[local, global], Dialect::default())
        .go(|priority| Instance::new(VRID, priority, local).and(global));
}

#[test]
fn version_3_over_ipv6_without_a_link_local_address() {
    let global = v6("2001:db8:99::100");
    Way::version_3(&[global], Dialect::default())
        .go(|priority| Instance::new(VRID, priority, global));
}

#[test]
fn version_3_over_ipv6_by_unicast() {
    let (ours, theirs) = (v6("2001:db8:99::1"), v6("2001:db8:99::2"));
    let global = v6("2001:db8:99::100");
    Way::version_3(&[global], unicast(ours, theirs))
        .go(|priority| Instance::new(VRID, priority, global).unicast(theirs, ours));
}

fn version_2(dialect: Dialect, shows: &'static [(&'static str, &'static str)]) -> Way {
    Way { addresses: vec![V4], dialect, interval: Duration::from_secs(1), shows }
}

#[test]
fn version_2_over_ipv4() {
    let shows = &[("vrrp.version", "2"), ("ip.ttl", "255"), ("vrrp.auth_type", "0")];
    version_2(Dialect::version_2(None), shows)
        .go(|priority| Instance::new(VRID, priority, V4).version_2(None));
}

#[test]
fn version_2_with_a_password() {
    let password = Password::new(b"secret").unwrap();
    let shows = &[("vrrp.version", "2"), ("vrrp.auth_type", "1"), ("vrrp.auth_string", "secret")];
    version_2(Dialect::version_2(Some(password)), shows)
        .go(|priority| Instance::new(VRID, priority, V4).version_2(Some("secret")));
}

#[test]
fn version_2_by_unicast() {
    let (ours, theirs) = (IpAddr::from([10, 99, 0, 1]), IpAddr::from([10, 99, 0, 2]));
    let dialect = Dialect::version_2(None).with_unicast(Unicast::new(None, vec![theirs]).unwrap());
    version_2(dialect, &[("vrrp.version", "2"), ("ip.ttl", "255")])
        .go(|priority| Instance::new(VRID, priority, V4).version_2(None).unicast(theirs, ours));
}

#[test]
fn version_2_with_different_passwords_is_named_on_both_sides() {
    let lan = Lan::new(2);
    let (ours, theirs) = (lan.host(1), lan.host(2));
    let instance = Instance::new(VRID, 100, V4).version_2(Some("theirs"));
    let keepalived = Keepalived::start(theirs, &instance);
    let password = Some(Password::new(b"ours").unwrap());
    let way = version_2(Dialect::version_2(password), &[]);
    let (handle, _reports) = speak_as(ours, way.ours(200));
    // It sends a single one: each of ours makes its timer start over.
    eventually("we count its advertisement", || status(&handle).errors.password > 0);
    eventually("it complains", || keepalived.complains());
    let status = status(&handle);
    assert_eq!((status.adverts_in, status.peers.len()), (0, 0));
}

#[test]
fn versions_and_casts_that_differ_are_counted_by_name() {
    let lan = Lan::new(2);
    let (ours, theirs) = (lan.host(1), lan.host(2));
    let (own, peer) = (IpAddr::from([10, 99, 0, 1]), IpAddr::from([10, 99, 0, 2]));
    let _keepalived = Keepalived::start(theirs, &Instance::new(VRID, 200, V4));
    let by_unicast = router(100).with_dialect(unicast(own, peer)).unwrap();
    let (handle, _reports) = speak_as(ours, by_unicast);
    eventually("multicast where unicast is configured", || status(&handle).errors.cast > 1);
    handle.stop();
    let version_2 = router(100).with_interval(Duration::from_secs(1)).unwrap();
    let version_2 = version_2.with_dialect(Dialect::version_2(None)).unwrap();
    let (handle, _reports) = speak_as(ours, version_2);
    eventually("version 3 where 2 is configured", || status(&handle).errors.version > 1);
}

#[test]
fn without_preemption_neither_side_takes_over_from_a_lower_priority() {
    let lan = Lan::new(2);
    let (ours, theirs) = (lan.host(1), lan.host(2));
    let keepalived = Keepalived::start(theirs, &Instance::new(VRID, 100, V4));
    eventually("keepalived becomes active", || theirs.holds(V4));
    let (handle, _reports) = speak_as(ours, router(200).with_preempt(false));
    eventually("we follow", || status(&handle).peer.is_some());
    throughout("we wait", Duration::from_secs(1), || theirs.holds(V4) && !ours.holds(V4));
    keepalived.stop();
    eventually("we become active", || is_active(&handle));
    let eager = Instance::new(VRID, 250, V4).nopreempt();
    let keepalived = Keepalived::start(theirs, &eager);
    throughout("it waits", Duration::from_secs(1), || ours.holds(V4) && !theirs.holds(V4));
    keepalived.assert_content();
}

#[test]
fn at_equal_priority_the_higher_address_stays_active() {
    for (number, we_win) in [(1, false), (2, true)] {
        let lan = Lan::new(2);
        let (ours, theirs) = (lan.host(number), lan.host(3 - number));
        lan.part([1, 2], true);
        let keepalived = Keepalived::start(theirs, &Instance::new(VRID, 100, V4));
        let (handle, _reports) = speak_as(ours, router(100));
        eventually("both are active", || is_active(&handle) && theirs.holds(V4));
        lan.part([1, 2], false);
        eventually("the address decides", || {
            ours.holds(V4) == we_win && theirs.holds(V4) != we_win
        });
        throughout("for good", Duration::from_secs(1), || is_active(&handle) == we_win);
        keepalived.assert_content();
        let expected = if we_win { State::Active } else { State::Backup };
        assert_eq!(status(&handle).state, expected);
    }
}
