//! The address never outlives a dead or hung process, and a killed one is followed as fast as one
//! that stopped in order.

use rustix::process::Signal;
use trigon::admin::Status;

use super::two::{self, VIP, guardian, signal};

/// What the log of a dead worker's node says.
const ACTED: &str = "the worker died as Active";
const LEFT: &str = "the active stopped";
const SILENT: &str = "no advertisement from the active";

#[tokio::test]
async fn a_killed_worker_is_followed_like_one_that_said_goodbye() {
    let [mut a, b] = two::start("").await;
    a.end(Signal::KILL);
    let status = b.until("b is Active", |status| status.vrrp[0].state == "active").await;
    assert_eq!(status.vrrp[0].last_reason, LEFT, "the guardian said goodbye\n{}", a.log());
    a.is_empty().await;
    assert!(!a.host.holds(VIP).unwrap());
    assert!(a.log().contains(ACTED), "{}", a.log());
    assert!(b.host.holds(VIP).unwrap());
}

#[tokio::test]
async fn every_router_of_a_killed_worker_is_followed_whatever_its_family() {
    let more = "extra_addresses = ['10.68.0.101/24', 'fd68::101']\n\
         [[vrrp]]\n\
         interface = 'eth0'\n\
         vrid = 68\n\
         priority = PRIORITY\n\
         addresses = ['fe80::68:1', 'fd68::100']\n";
    let moved =
        ["10.68.0.100/32", "10.68.0.101/24", "fd68::101/128", "fe80::68:1/128", "fd68::100/128"];
    let [mut a, b] = two::start(more).await;
    let held = a.addresses();
    for address in moved {
        assert!(held.iter().any(|found| found == address), "{address}: {held:?}");
    }
    a.end(Signal::KILL);
    let all_active = |status: &Status| status.vrrp.iter().all(|router| router.state == "active");
    let status = b.until("b is Active for both", all_active).await;
    for router in status.vrrp {
        assert_eq!(router.last_reason, LEFT, "{}\n{}", router.name, a.log());
    }
    a.is_empty().await;
    let left = a.addresses();
    assert!(!left.iter().any(|found| moved.contains(&found.as_str())), "{left:?}");
}

#[tokio::test]
async fn a_worker_that_stops_in_order_leaves_nothing_for_the_guardian() {
    let [mut a, b] = two::start("").await;
    // As a service manager does that signals every process of the unit.
    let watching = guardian(&a.status().await.unwrap()).unwrap();
    signal(watching, Signal::TERM);
    a.end(Signal::TERM);
    let status = b.until("b is Active", |status| status.vrrp[0].state == "active").await;
    assert_eq!(status.vrrp[0].last_reason, LEFT);
    a.is_empty().await;
    assert!(!a.log().contains(ACTED) && !a.log().contains("guardian is gone"), "{}", a.log());
}

#[tokio::test]
async fn a_killed_guardian_is_replaced_and_nobody_notices() {
    let [mut a, b] = two::start("").await;
    let first = guardian(&a.status().await.unwrap()).unwrap();
    let (before, followed) = (a.router().await, b.router().await);
    signal(first, Signal::KILL);
    let is_new = |status: &_| guardian(status).is_some_and(|pid| pid != first);
    let status = a.until("a new guardian", is_new).await;
    assert_eq!(status.guardian.unwrap().restarts, 1);
    assert_eq!(
        (&*status.vrrp[0].state, &status.vrrp[0].last_reason),
        ("active", &before.last_reason)
    );
    let still = b.router().await;
    assert_eq!((still.state, still.last_reason), (followed.state, followed.last_reason));

    // It was told what the first one knew.
    a.end(Signal::KILL);
    let status = b.until("b is Active", |status| status.vrrp[0].state == "active").await;
    assert_eq!(status.vrrp[0].last_reason, LEFT, "{}", a.log());
}

#[tokio::test]
async fn with_worker_and_guardian_killed_at_once_the_lease_ends_the_address() {
    let [mut a, b] = two::start("").await;
    let watching = guardian(&a.status().await.unwrap()).unwrap();
    // Stopped first, so that it cannot act between the two.
    signal(watching, Signal::STOP);
    a.end(Signal::KILL);
    signal(watching, Signal::KILL);
    a.holds(false).await;
    let status = b.until("b is Active", |status| status.vrrp[0].state == "active").await;
    assert_eq!(status.vrrp[0].last_reason, SILENT);

    // The next start finds what a longer life of the address would have left, and clears it.
    a.host.set_address(VIP, true).unwrap();
    a.start();
    a.until("a runs", |status| status.vrrp[0].state != "initialize").await;
    assert!(a.log().contains("removed virtual addresses that an earlier process left behind"));
}

#[tokio::test]
async fn a_stopped_worker_loses_the_address_and_comes_back_as_backup() {
    let [a, b] = two::start("preempt = false").await;
    signal(a.worker(), Signal::STOP);
    b.until("b is Active", |status| status.vrrp[0].state == "active").await;
    a.holds(false).await;
    signal(a.worker(), Signal::CONT);
    a.until("a follows b", |status| status.vrrp[0].state == "backup").await;
    let (a, b) = (a.router().await, b.router().await);
    assert_eq!((&*a.state, &*b.state), ("backup", "active"), "{a:?} {b:?}");
    assert_eq!(b.last_reason, SILENT, "b was Active all the time since");
}
