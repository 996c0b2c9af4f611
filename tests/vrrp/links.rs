//! Interfaces and addresses that change under a running speaker.

use vrrp::{Error, Reason, Speaker, State};

use crate::{
    VIP, config, is_active,
    lan::{Lan, eventually},
    speak, status,
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
