//! Two nodes without a witness: rows p01 to p13 of the table. A votes and holds the address, B
//! learns. A test makes the failure, holds the place against its row, undoes the failure and sees
//! that everything is well again.

use std::net::Ipv4Addr;
use std::time::Instant;

use cluster::pair::{Refusal, Standing, Sync};
use rustix::process::Signal;
use trigon::admin::client;
use trigon::admin::cluster::{Cluster, Promotion};
use trigon::admin::nodes::Removal;
use trigon::lab::namespaces::Host;

use crate::disk::Disk;
use crate::forming;
use crate::machine::Machine;
use crate::place::{APP, Place, Setup, Side, VIP, knows};
use crate::quorum::{CONTROL, cut};
use crate::support::eventually;
use crate::tunnel::TunnelClient;
use crate::users::Users;

#[tokio::test]
async fn p01_the_machine_of_b_dies() {
    let mut place = Place::start(Setup::pair()).await;
    place.b.cut_power();
    is_degraded(&place.a).await;
    place.shows("p01").await;
    place.b.restore_power();
    place.is_whole().await;
}

#[tokio::test]
async fn p02_a_is_stopped_in_order() {
    let mut place = Place::start(Setup::pair()).await;
    place.a.end(Signal::TERM);
    place.shows("p02").await;
    place.a.start();
    place.is_whole().await;
}

#[tokio::test]
async fn p03_a_dies_and_p12_comes_back() {
    let mut place = Place::start(Setup::pair()).await;
    place.a.cut_power();
    place.shows("p03").await;
    place.begin();
    place.a.restore_power();
    place.is_one_pair().await;
    place.shows("p12").await;
    place.is_whole().await;
    assert!(votes(&place.b).await, "nothing moves back by itself");
}

#[tokio::test]
async fn p04_a_dies_while_the_pair_is_async() {
    let setup = Setup { disk_of_b: Disk::Own, ..Setup::pair() };
    let mut place = Place::start(setup).await;
    place.b.freeze_disk();
    // A confirms what B cannot store.
    place.confirms(Side::A, "p04").await;
    let lacks = |cluster: &Cluster| {
        cluster.pair.as_ref().is_some_and(|pair| matches!(pair.sync, Sync::Async { .. }))
    };
    place.b.until_cluster("knows what it lacks", lacks).await;
    place.begin();
    place.a.cut_power();
    place.b.thaw_disk();
    place.shows("p04").await;
    let left = waits_for(&place.b, |rules| rules.len() == 1).await;
    assert!(matches!(left[..], [Refusal::Behind { .. }]), "{left:?}");
    promote(&mut place, false).await;
    place.confirms(Side::B, "p04").await;
    // What B lacked was on the disk of A all the time.
    place.a.restore_power();
    place.is_whole().await;
}

#[tokio::test]
async fn p05_the_control_links_are_cut() {
    let mut place = Place::start(Setup::pair()).await;
    place.a.filter(CONTROL, CONTROL);
    // Silent for long enough, and yet B is not the Active.
    let left = waits_for(&place.b, |rules| rules.iter().all(|rule| rule.rule() == Some(2))).await;
    assert!(left.contains(&Refusal::NotActive), "{left:?}");
    place.shows("p05").await;
    place.a.unfilter();
    place.is_whole().await;
}

#[tokio::test]
async fn p05b_the_control_links_are_cut_and_b_holds_the_address() {
    let mut place = Place::start(Setup::pair()).await;
    // The address moves to B, and so does the vote; that comes back.
    place.a.end(Signal::TERM);
    place.b.until("active", |status| status.vrrp[0].state == "active").await;
    place.a.start();
    place.is_one_pair().await;
    eventually("A votes again", || async { client::hand_over(&place.b.socket()).await.ok() }).await;
    place.is_one_pair().await;
    place.users.are_served(Instant::now()).await;
    place.begin();
    place.a.filter(CONTROL, CONTROL);
    place.shows("p05b").await;
    place.a.unfilter();
    place.is_whole().await;
}

#[tokio::test]
async fn p06_a_is_cut_off_from_everything() {
    let mut place = Place::start(Setup::pair()).await;
    place.a.host().isolate(true).unwrap();
    place.shows("p06").await;
    place.a.host().isolate(false).unwrap();
    place.is_whole().await;
    assert!(place.b.holds(VIP), "the address stays where it is");
}

#[tokio::test]
async fn p07_b_is_cut_off_from_everything() {
    let mut place = Place::start(Setup::pair()).await;
    place.b.host().isolate(true).unwrap();
    is_degraded(&place.a).await;
    place.shows("p07").await;
    place.b.host().isolate(false).unwrap();
    place.is_whole().await;
}

#[tokio::test]
async fn p08_a_split_and_p09_its_end() {
    let mut place = Place::start(Setup::pair()).await;
    let there = split(&mut place).await;
    let (_client, users, served) = come(&place, &there).await;
    place.shows("p08").await;
    let failures = (place.users.failures(place.since), users.failures(served));
    assert!(failures.0.is_empty() && failures.1.is_empty(), "{failures:#?}");
    // An ExApp that was changed on both sides, on B last.
    for side in [Side::A, Side::B] {
        place.push_to(side, "changed").await;
        place.node(side).until("the record", |status| knows(status, "changed")).await;
    }
    drop((_client, users));
    place.begin();
    place.a.unfilter();
    place.is_one_pair().await;
    place.shows("p09").await;
    place.is_whole().await;
    assert!(votes(&place.b).await, "the later generation goes on");
    assert!(place.a.log().contains("changed on both sides"), "what is lost is named");
}

#[tokio::test]
async fn p08m_a_split_under_an_operator() {
    let setup = Setup { manual: true, ..Setup::pair() };
    let mut place = Place::start(setup).await;
    let there = split(&mut place).await;
    let (_client, users, served) = come(&place, &there).await;
    let left = waits_for(&place.b, |rules| rules.len() == 1).await;
    assert_eq!(left, [Refusal::Manual]);
    place.shows("p08m").await;
    let failures = (place.users.failures(place.since), users.failures(served));
    assert!(failures.0.is_empty() && failures.1.is_empty(), "{failures:#?}");
    drop((_client, users));
    place.a.unfilter();
    place.is_whole().await;
}

#[tokio::test]
async fn p10_power_is_lost_and_a_is_back_first() {
    let mut place = Place::start(Setup::pair()).await;
    power_is_lost(&mut place).await;
    place.a.restore_power();
    place.a.until("serves alone", |status| status.ready && !status.cluster.quorum).await;
    place.shows("p10").await;
    place.users.are_served(Instant::now()).await;
    // The other one says that nothing has changed meanwhile.
    place.b.restore_power();
    place.is_whole().await;
    assert!(votes(&place.a).await, "the same generation goes on");
}

#[tokio::test]
async fn p11_power_is_lost_and_b_is_back_first() {
    let mut place = Place::start(Setup::pair()).await;
    power_is_lost(&mut place).await;
    place.b.restore_power();
    place.b.until("serves alone", |status| status.ready && !status.cluster.quorum).await;
    place.shows("p11").await;
    place.users.are_served(Instant::now()).await;
    let left = waits_for(&place.b, |rules| rules.iter().all(|rule| rule.rule() > Some(3))).await;
    assert!(left.contains(&Refusal::NeverSeen), "{left:?}");
    promote(&mut place, true).await;
    place.confirms(Side::B, "p11").await;
    place.a.restore_power();
    place.is_whole().await;
}

#[tokio::test]
async fn p13_the_disk_of_a_is_lost() {
    let mut place = Place::start(Setup::pair()).await;
    place.a.cut_power();
    place.a.replace_disk();
    place.a.restore_power();
    assert!(!place.a.ends().await.success(), "started without knowing who it is");
    assert!(place.a.log().contains("trigon join"), "{}", place.a.log_tail());
    place.shows("p13").await;
    // A new machine in its place.
    let removal = Removal { id: place.a.number() };
    client::remove_node(&place.b.socket(), removal).await.unwrap();
    forming::take_in(&place.b, &mut place.a).await;
    // Numbers are not given twice.
    place.a.until("is number 3", |status| status.cluster.node_id == 3).await;
    place.is_whole().await;
}

async fn is_degraded(node: &Machine) {
    let degraded = |cluster: &Cluster| {
        cluster.pair.as_ref().is_some_and(|pair| pair.standing == Standing::Degraded)
    };
    node.until_cluster("is alone", degraded).await;
}

async fn votes(node: &Machine) -> bool {
    client::cluster(&node.socket()).await.unwrap().pair.unwrap().votes
}

/// What stands against a promotion of that node, once it is what `is_so` wants.
async fn waits_for(node: &Machine, is_so: impl Fn(&[Refusal]) -> bool) -> Vec<Refusal> {
    let waits = |cluster: &Cluster| {
        cluster
            .pair
            .as_ref()
            .is_some_and(|pair| !pair.waits_for.is_empty() && !pair.votes && is_so(&pair.waits_for))
    };
    let cluster = node.until_cluster("waits for a promotion", waits).await;
    cluster.pair.unwrap().waits_for
}

/// An operator has B go on alone.
async fn promote(place: &mut Place, force: bool) {
    let order = Promotion { force };
    let promoted = client::promote(&place.b.socket(), order).await.unwrap();
    place.generation += 1;
    assert_eq!(promoted.generation, place.generation);
}

/// Both machines lose power; what was confirmed is on their disks.
async fn power_is_lost(place: &mut Place) {
    // That a change is confirmed is on disk with the next one.
    place.confirms(Side::A, "power").await;
    place.b.cut_power();
    place.a.cut_power();
    place.begin();
}

/// Cuts A and B off from each other. The users and the ExApp there were are on the side of A; the
/// host that is given back is on the side of B.
async fn split(place: &mut Place) -> Host {
    let there = place.lan.host("there", Ipv4Addr::new(10, 66, 0, 51)).unwrap();
    place.pin(&place.client, Side::A);
    place.pin(&place.app, Side::A);
    place.pin(&there, Side::B);
    place.begin();
    // The group is where its advertisements go.
    cut(&place.a, &[place.b.address(), Ipv4Addr::new(224, 0, 0, 18)]);
    eventually("B claims the address", || async { place.b.holds(VIP).then_some(()) }).await;
    there
}

/// Users and an ExApp on that side; since when they are served.
async fn come(place: &Place, there: &Host) -> (TunnelClient, Users, Instant) {
    let since = Instant::now();
    let tunnel = place.tunnel("there", VIP, APP);
    let client = TunnelClient::start(there, place.path(), &tunnel);
    let users = Users::start(there, VIP);
    let served = users.are_served(since).await;
    (client, users, served)
}
