//! Interfaces and addresses that change under a running speaker.

use std::net::IpAddr;

use vrrp::{Error, Reason, RouterConfig, Speaker, SpeakerConfig, State};

use crate::{
    VIP, VRID, config, is_active,
    lan::{Lan, eventually},
    router, speak, speak_as, status,
};

#[test]
fn an_address_removed_by_someone_else_is_put_back() {
    let lan = Lan::new(1);
    let ours = lan.host(1);
    let (handle, _reports) = speak(ours, 254);
    eventually("we become active", || ours.holds(VIP));
    let since = status(&handle).since;
    ours.ip(&format!("address delete {VIP}/32 dev eth0"));
    eventually("it is put back", || ours.holds(VIP));
    assert_eq!(status(&handle).since, since, "without leaving active");
}

#[test]
fn a_cut_cable_ends_active_and_a_plugged_one_starts_over() {
    let lan = Lan::new(1);
    let ours = lan.host(1);
    let (handle, reports) = speak(ours, 254);
    eventually("we become active", || ours.holds(VIP));
    lan.set_cable(1, false);
    eventually("the address goes", || !ours.holds(VIP));
    eventually("we take no part", || status(&handle).state == State::Initialize);
    assert_eq!(status(&handle).last_reason, Some(Reason::LinkDown));
    lan.set_cable(1, true);
    eventually("we become active again", || is_active(&handle) && ours.holds(VIP));
    ours.ip(&format!("address delete {}/24 dev eth0", ours.address()));
    eventually("without own address we take no part", || !is_active(&handle));
    assert!(!ours.holds(VIP), "the virtual address never serves as source");
    ours.ip("address add 10.99.0.77/24 dev eth0");
    eventually("a new own address will do", || is_active(&handle));
    handle.stop();
    let states: Vec<_> = reports.iter().map(|report| report.to).collect();
    let round = [State::Backup, State::Active, State::Initialize];
    assert_eq!(states, [round, round, round].concat());
}

#[test]
fn a_virtual_address_that_is_configured_on_the_host_is_refused() {
    let lan = Lan::new(1);
    let ours = lan.host(1);
    ours.ip(&format!("address add {VIP}/24 dev eth0"));
    let error =
        ours.run(|| Speaker::spawn(config(254), Box::new(|_| {}), None)).map(drop).unwrap_err();
    assert!(matches!(error, Error::StaticAddress { prefix: 24, .. }), "{error}");
}

#[test]
fn whoever_takes_the_address_off_again_and_again_gets_his_way() {
    let lan = Lan::new(1);
    let ours = lan.host(1);
    let (handle, _reports) = speak(ours, 254);
    for removals in 1..=3 {
        eventually("we have it", || ours.holds(VIP));
        ours.ip(&format!("address delete {VIP}/32 dev eth0"));
        eventually("it is counted", || status(&handle).removals == removals);
    }
    eventually("we leave it to others", || status(&handle).state == State::Backup);
    assert_eq!(status(&handle).last_reason, Some(Reason::AddressContested));
    assert!(!ours.holds(VIP));
}

#[test]
fn a_renamed_interface_is_followed() {
    let lan = Lan::new(1);
    let ours = lan.host(1);
    let (handle, _reports) = speak(ours, 254);
    eventually("we become active", || ours.holds(VIP));
    ours.ip("link set eth0 down");
    eventually("we take no part", || status(&handle).state == State::Initialize);
    ours.ip("link set eth0 name lan0");
    ours.ip("link set lan0 up");
    eventually("we become active", || is_active(&handle));
    assert!(ours.ip("-o address show dev lan0").contains(&format!(" {VIP}/32 ")));
    handle.stop();
    assert!(!ours.ip("-o address show dev lan0").contains(&format!(" {VIP}/32 ")));
}

#[test]
fn an_interface_that_is_made_anew_is_found_by_its_name() {
    let lan = Lan::new(2);
    let (ours, neighbour) = (lan.host(1), lan.host(2));
    let (handle, _reports) = speak(ours, 254);
    eventually("we become active", || ours.holds(VIP));
    ours.ip("link delete eth0");
    eventually("we take no part", || status(&handle).state == State::Initialize);
    lan.plug(1);
    eventually("we become active", || is_active(&handle) && ours.holds(VIP));
    eventually("we are heard", || neighbour.reaches(VIP));
    assert_eq!(neighbour.neighbour(VIP), Some(ours.mac()));
    handle.stop();
    assert!(!ours.holds(VIP));
}

#[test]
fn a_missing_address_family_is_waited_for() {
    let lan = Lan::new(1);
    let ours = lan.host(1);
    ours.sysctl("ipv6/conf/eth0/disable_ipv6", "1");
    let v6: IpAddr = "2001:db8:99::100".parse().unwrap();
    let routers = vec![router(254), RouterConfig::new("eth0", VRID, vec![v6]).unwrap()];
    let config = SpeakerConfig::new(routers).unwrap();
    let handle = ours.run(|| Speaker::spawn(config, Box::new(|_| {}), None)).unwrap();
    let states = || handle.states().iter().map(|status| status.state).collect::<Vec<_>>();
    eventually("ipv4 is not concerned", || states() == [State::Active, State::Initialize]);
    ours.sysctl("ipv6/conf/eth0/disable_ipv6", "0");
    ours.ip(&format!("address add {}/64 dev eth0 nodad", ours.link_local()));
    eventually("ipv6 takes part", || states() == [State::Active, State::Active]);
    assert!(ours.holds(v6));
    let listing = ours.ip("-6 address show dev eth0");
    assert!(listing.contains("deprecated"), "never a source by itself:\n{listing}");
    assert!(!listing.contains("tentative"), "usable at once:\n{listing}");
    // Without IPv6 there is nothing to send from, and the kernel removes every address.
    ours.sysctl("ipv6/conf/eth0/disable_ipv6", "1");
    eventually("only ipv6 ends", || states() == [State::Active, State::Initialize]);
}

#[test]
fn every_interface_of_a_speaker_is_on_its_own() {
    let lan = Lan::new(1);
    let ours = lan.host(1);
    ours.ip("link add eth1 type veth peer name far1");
    ours.ip("link set far1 up");
    ours.ip("link set eth1 up");
    ours.ip("address add 10.98.0.1/24 dev eth1");
    let other = RouterConfig::new("eth1", VRID, vec![[10, 98, 0, 100].into()]).unwrap();
    let config = SpeakerConfig::new(vec![router(254), other]).unwrap();
    let handle = ours.run(|| Speaker::spawn(config, Box::new(|_| {}), None)).unwrap();
    let states = || handle.states().iter().map(|status| status.state).collect::<Vec<_>>();
    eventually("both are active", || states() == [State::Active, State::Active]);
    let since = handle.states()[0].since;
    ours.ip("link delete eth1");
    eventually("one ends", || states() == [State::Active, State::Initialize]);
    assert_eq!(handle.states()[0].since, since, "the other goes on");
}

#[test]
fn addresses_have_the_configured_prefix_and_others_move_along() {
    let lan = Lan::new(1);
    let ours = lan.host(1);
    let extra = vec!["2001:db8:99::200".parse().unwrap(), "10.99.0.200".parse().unwrap()];
    let router = router(254).with_prefix_length(VIP.into(), 24).unwrap();
    let router = router.with_extra_addresses(extra).unwrap();
    let (handle, _reports) = speak_as(ours, router);
    eventually("we become active", || is_active(&handle));
    let held = ["10.99.0.100/24", "10.99.0.200/32", "2001:db8:99::200/128"];
    let listing = || ours.ip("-o address show dev eth0");
    for address in held {
        assert!(listing().contains(&format!(" {address} ")), "{address}:\n{}", listing());
    }
    let since = status(&handle).since;
    ours.ip("address delete 2001:db8:99::200/128 dev eth0");
    eventually("it is put back", || listing().contains(held[2]));
    assert_eq!(status(&handle).since, since);
    handle.stop();
    for address in held {
        assert!(!listing().contains(&format!(" {address} ")), "{address}:\n{}", listing());
    }
}

#[test]
fn an_address_that_a_backup_is_given_by_someone_is_named_and_then_taken_over() {
    let lan = Lan::new(2);
    let (ours, other) = (lan.host(1), lan.host(2));
    let (weak, _weak_reports) = speak(ours, 100);
    let (strong, _strong_reports) = speak(other, 200);
    eventually("the other is active", || is_active(&strong) && !is_active(&weak));
    eventually("nothing is amiss", || status(&weak).misplaced.is_none());
    ours.ip(&format!("address add {VIP}/32 dev eth0"));
    eventually("it is named", || status(&weak).misplaced == Some(VIP.into()));
    strong.stop();
    eventually("it is ours by rights", || is_active(&weak));
    assert_eq!(status(&weak).misplaced, None);
    weak.stop();
    assert!(!ours.holds(VIP), "as if we had added it");
}
