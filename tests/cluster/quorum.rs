//! Two nodes and a witness: rows a01 to a19 of the table. A test makes the failure, holds the
//! place against its row, undoes the failure and sees that everything is well again.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::disk::Disk;
use crate::judge;
use crate::machine::Machine;
use crate::place::{ALICE, APP, Place, Setup, Side, VIP};
use crate::support::{eventually, http};
use crate::tunnel::TunnelClient;
use crate::users::Users;

/// Longest the log of a node may take to need more room.
const PATIENCE: Duration = Duration::from_secs(120);

/// What belongs to a control link, whoever opened it.
pub(crate) const CONTROL: &str = "tcp dport 7443 drop\ntcp sport 7443 drop";

#[tokio::test]
async fn a01_the_process_of_a_is_killed() {
    let mut place = Place::start(Setup::default()).await;
    place.a.end(Signal::KILL);
    place.shows("a01").await;
    place.a.start();
    place.is_whole().await;
    assert!(place.b.holds(VIP), "the address stays where it is");
}

#[tokio::test]
async fn a02_the_machine_of_a_dies() {
    let mut place = Place::start(Setup::default()).await;
    place.a.cut_power();
    place.shows("a02").await;
    place.a.restore_power();
    place.is_whole().await;
}

#[tokio::test]
async fn a03_a_is_stopped_in_order() {
    let mut place = Place::start(Setup::default()).await;
    place.a.end(Signal::TERM);
    place.shows("a03").await;
    place.a.start();
    place.is_whole().await;
}

#[tokio::test]
async fn a04_the_machine_of_b_dies() {
    let mut place = Place::start(Setup::default()).await;
    place.b.cut_power();
    place.a.until("misses b", |status| status.cluster.silent == [2]).await;
    place.shows("a04").await;
    place.b.restore_power();
    place.is_whole().await;
}

#[tokio::test]
async fn a05_the_witness_dies() {
    let mut place = Place::start(Setup::default()).await;
    place.witness().cut_power();
    place.a.until("misses the witness", |status| status.cluster.silent == [3]).await;
    place.shows("a05").await;
    place.witness().restore_power();
    place.is_whole().await;
}

#[tokio::test]
async fn a06_a_and_the_witness_die() {
    let mut place = Place::start(Setup::default()).await;
    place.witness().cut_power();
    place.a.cut_power();
    place.shows("a06").await;
    place.witness().restore_power();
    place.a.restore_power();
    place.is_whole().await;
}

#[tokio::test]
async fn a07_b_and_the_witness_die() {
    let mut place = Place::start(Setup::default()).await;
    place.witness().cut_power();
    place.b.cut_power();
    place.a.until("is alone", |status| !status.cluster.quorum).await;
    place.shows("a07").await;
    place.witness().restore_power();
    place.b.restore_power();
    place.is_whole().await;
}

#[tokio::test]
async fn a08_the_control_links_of_a_are_cut() {
    let setup = Setup { preempt: true, ..Setup::default() };
    let mut place = Place::start(setup).await;
    place.a.filter(CONTROL, CONTROL);
    place.a.until("is alone", |status| !status.cluster.quorum).await;
    place.shows("a08").await;
    assert!(place.a.is_lowered_by("the quorum").await, "and says why");
    place.a.unfilter();
    place.is_whole().await;
    assert!(place.b.holds(VIP), "who gave the address away does not want it back at once");
}

#[tokio::test]
async fn a09_the_segment_of_the_address_is_cut() {
    let mut place = Place::start(Setup::default()).await;
    for node in [&place.a, &place.b] {
        node.host().deafen(true).unwrap();
    }
    place.b.until("says so", |status| has_alarm(status, "vrrp_segment_cut")).await;
    place.shows("a09").await;
    for node in [&place.a, &place.b] {
        node.host().deafen(false).unwrap();
    }
    place.b.until("hears again", |status| !has_alarm(status, "vrrp_segment_cut")).await;
    place.is_whole().await;
}

#[tokio::test]
async fn a10_a_is_cut_off_from_everything() {
    let mut place = Place::start(Setup::default()).await;
    place.a.host().isolate(true).unwrap();
    place.a.until("knows it", |status| has_alarm(status, "isolated")).await;
    place.shows("a10").await;
    place.a.host().isolate(false).unwrap();
    place.is_whole().await;
    assert!(place.b.holds(VIP), "the address stays where it is");
}

#[tokio::test]
async fn a11_a_full_split_with_users_on_both_sides() {
    let mut place = Place::start(Setup::default()).await;
    // The users and the ExApp there were are on the side of A; others come on the side of B.
    let there = place.lan.host("there", Ipv4Addr::new(10, 66, 0, 51)).unwrap();
    place.pin(&place.client, Side::A);
    place.pin(&place.app, Side::A);
    place.pin(&there, Side::B);
    place.begin();
    let others = [place.b.address(), place.witness.as_ref().unwrap().address()];
    // The group is where its advertisements go.
    cut(&place.a, &[&others[..], &[Ipv4Addr::new(224, 0, 0, 18)]].concat());
    eventually("b claims the address", || async { place.b.holds(VIP).then_some(()) }).await;
    let since = Instant::now();
    let tunnel = place.tunnel("there", VIP, APP);
    let _client = TunnelClient::start(&there, place.path(), &tunnel);
    let users = Users::start(&there, VIP);
    let served = users.are_served(since).await;
    place.shows("a11").await;
    let failures = (place.users.failures(place.since), users.failures(served));
    assert!(failures.0.is_empty() && failures.1.is_empty(), "{failures:#?}");
    place.a.unfilter();
    place.is_whole().await;
}

#[tokio::test]
async fn a12_the_link_between_a_and_the_witness_is_cut() {
    let mut place = Place::start(Setup::default()).await;
    cut(&place.a, &[place.witness.as_ref().unwrap().address()]);
    place.a.until("misses the witness", |status| status.cluster.silent == [3]).await;
    place.shows("a12").await;
    place.a.unfilter();
    place.is_whole().await;
    let failures = place.users.failures(place.since);
    assert!(failures.is_empty(), "after the repair: {failures:#?}");
}

#[tokio::test]
async fn a13_nothing_a_sends_on_its_control_links_arrives() {
    let setup = Setup { preempt: true, ..Setup::default() };
    let mut place = Place::start(setup).await;
    place.a.filter("", CONTROL);
    place.a.until("is alone", |status| !status.cluster.quorum).await;
    place.shows("a13").await;
    assert!(place.a.is_lowered_by("the quorum").await, "and says why");
    place.a.unfilter();
    place.is_whole().await;
    assert!(place.b.holds(VIP), "who gave the address away does not want it back at once");
}

#[tokio::test]
async fn a14_the_disk_of_a_stalls() {
    let setup = Setup { disk_of_a: Disk::Own, ..Setup::default() };
    let mut place = Place::start(setup).await;
    place.a.freeze_disk();
    // A leader with nothing to write does not notice.
    place.confirms(Side::B, "a14").await;
    place.b.until("another leads", |status| !matches!(status.cluster.leader, None | Some(1))).await;
    place.shows("a14").await;
    place.a.thaw_disk();
    place.is_whole().await;
    assert!(place.a.holds(VIP), "the address stays where it is");
}

#[tokio::test]
async fn a15_the_disk_of_a_fails() {
    let setup = Setup { disk_of_a: Disk::Own, ..Setup::default() };
    let mut place = Place::start(setup).await;
    place.a.fail_disk();
    // What it writes next finds out.
    place.push_to(Side::B, "finds-out").await;
    assert!(!place.a.ends().await.success(), "a node that gives up says so to its service manager");
    place.shows("a15").await;
    // A disk that has been checked and works again.
    place.a.start();
    place.is_whole().await;
}

#[tokio::test]
async fn a17_every_nextcloud_is_down() {
    let mut place = Place::start(Setup::default()).await;
    let page = || http::get(&format!("/exapps/{APP}/user/"), &[("cookie", ALICE)]);
    let as_alice = async |place: &Place| place.a.ask(page()).await.map(|a| a.status().as_u16());
    assert_eq!(as_alice(&place).await, Some(200));
    place.stop_nextcloud();
    assert_eq!(as_alice(&place).await, Some(200), "her session is remembered");
    eventually("and not for ever", || async { (as_alice(&place).await? >= 500).then_some(()) })
        .await;
    place.shows("a17").await;
    let failures = place.users.failures(place.since);
    assert!(failures.is_empty(), "pages for everybody go on: {failures:#?}");
    place.start_nextcloud();
    eventually("she is known again", || async { (as_alice(&place).await? == 200).then_some(()) })
        .await;
    place.is_whole().await;
}

#[tokio::test]
async fn a18_power_is_lost_everywhere() {
    let mut place = Place::start(Setup::default()).await;
    // That a change is confirmed is on disk with the next one.
    place.confirms(Side::A, "a18").await;
    place.b.cut_power();
    place.witness().cut_power();
    place.a.cut_power();
    place.begin();
    place.a.restore_power();
    place.a.until("serves alone", |status| status.ready && !status.cluster.quorum).await;
    place.shows("a18").await;
    place.users.are_served(Instant::now()).await;
    // Two of three are a quorum.
    place.witness().restore_power();
    place.confirms(Side::A, "a18").await;
    place.b.restore_power();
    place.is_whole().await;
    assert!(place.a.holds(VIP), "the address stays where it is");
}

#[tokio::test]
async fn a19_the_disk_of_a_is_full() {
    let setup = Setup { disk_of_a: Disk::Own, ..Setup::default() };
    let mut place = Place::start(setup).await;
    place.a.fill_disk();
    // A log grows in steps: only some of what a leader writes next finds no room.
    let fills = async {
        while !place.a.status().await.is_some_and(|status| status.cluster.disk_full) {
            let _ = place.b.ban(judge::next_address()).await;
        }
    };
    tokio::time::timeout(PATIENCE, fills).await.unwrap();
    place.a.until("another leads", |status| !matches!(status.cluster.leader, None | Some(1))).await;
    place.shows("a19").await;
    place.a.clear_disk();
    place.is_whole().await;
    assert!(place.a.holds(VIP), "the address stays where it is");
}

/// Nothing passes between that node and these addresses any more.
pub(crate) fn cut(node: &Machine, others: &[Ipv4Addr]) {
    let others: Vec<_> = others.iter().map(ToString::to_string).collect();
    let others = others.join(", ");
    let incoming = format!("ip saddr {{ {others} }} drop");
    let outgoing = format!("ip daddr {{ {others} }} drop");
    node.filter(&incoming, &outgoing);
}

fn has_alarm(status: &trigon::admin::Status, name: &str) -> bool {
    status.alarms.iter().any(|alarm| alarm.name == name)
}
