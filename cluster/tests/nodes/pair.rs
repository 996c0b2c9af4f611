//! Two load balancers without a witness: handing over, going on alone, coming together again.

use std::time::Duration;

use cluster::pair::{Consent, PairError, PairStatus, Refusal, Standing, Surroundings, Sync};
use cluster::{
    ClusterStatus, Config, Handle, Node, ProposeError, RaftState, Role, StartError, Timers,
};

use crate::link::Links;
use crate::support::{PATIENCE, Site, exapp, shows, until, version, voters};

/// The Active, with the world in reach.
const ACTIVE: Surroundings = Surroundings {
    active: Some(true),
    active_for: Some(Duration::from_secs(60)),
    advert_heard: None,
    gateway: Some(true),
    nextcloud: Some(true),
};

/// The Backup of somebody who advertises.
const BACKUP: Surroundings = Surroundings {
    active: Some(false),
    active_for: None,
    advert_heard: Some(Duration::ZERO),
    ..ACTIVE
};

/// Rules that do not make a test wait for long.
fn eager(config: Config) -> Config {
    let timers = Timers {
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(300),
        election_max: Duration::from_millis(600),
    };
    let pair = cluster::PairConfig { promote_after: Duration::from_secs(4), ..config.pair };
    Config { timers, pair, ..config }
}

async fn start(site: &Site, id: u64) -> (Node, Handle) {
    // One that was killed closes its files a moment later.
    for _ in 0..200 {
        match Node::start(eager(site.config(id))).await {
            Ok(started) => return started,
            Err(StartError::Storage { .. } | StartError::Listen { .. }) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("node {id}: {error}"),
        }
    }
    panic!("node {id} cannot be started again");
}

fn pair_of(status: &ClusterStatus) -> &PairStatus {
    status.pair.as_ref().unwrap()
}

async fn until_pair(handle: &Handle, what: &str, holds: impl Fn(&PairStatus) -> bool) {
    until(handle, what, |status| status.pair.as_ref().is_some_and(&holds)).await;
}

async fn both_sync(handles: [&Handle; 2]) {
    for handle in handles {
        until_pair(handle, "sync pair", |pair| {
            pair.sync == Sync::Sync && pair.standing == Standing::Normal
        })
        .await;
    }
}

/// A voter and a learner, sync.
async fn pair(site: &Site) -> [(Node, Handle); 2] {
    let (one, two) = (start(site, 1).await, start(site, 2).await);
    until(&two.1, "learner", |status| status.state == RaftState::Learner && status.quorum).await;
    both_sync([&one.1, &two.1]).await;
    [one, two]
}

/// As power goes off: nothing is handed over and nothing is stored.
fn kill((node, handle): (Node, Handle)) {
    drop(node);
    drop(handle);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_voters_part_is_handed_over_without_a_new_generation() {
    let site = Site::new(&[Role::Node, Role::Node]);
    let [(one, first), (two, second)] = pair(&site).await;
    first.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    assert_eq!(second.hand_over().await, Err(PairError::NotVoter));
    first.hand_over().await.unwrap();
    until(&second, "leader", |status| status.state == RaftState::Leader && status.quorum).await;
    until(&first, "learner", |status| status.state == RaftState::Learner).await;
    first.propose(exapp("a", "2"), PATIENCE).await.unwrap();
    shows(&second, "a", "2").await;
    assert_eq!(second.status().group.generation, 1);

    // A voter that is stopped hands over by itself.
    both_sync([&first, &second]).await;
    two.shutdown().await;
    let status = until(&first, "leader", |status| status.state == RaftState::Leader).await;
    assert_eq!((voters(&status), status.group.generation), (vec![1], 1));
    first.propose(exapp("a", "3"), PATIENCE).await.unwrap();
    one.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_learner_goes_on_when_the_voter_is_dead_and_takes_it_back() {
    let site = Site::new(&[Role::Node, Role::Node]);
    let [one, (two, second)] = pair(&site).await;
    one.1.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    second.tell_surroundings(BACKUP);
    kill(one);

    until_pair(&second, "degraded pair", |pair| {
        let rules: Vec<_> = pair.waits_for.iter().filter_map(Refusal::rule).collect();
        pair.standing == Standing::Degraded && rules.contains(&1) && rules.contains(&2)
    })
    .await;
    let refused = second.propose(exapp("a", "2"), Duration::from_millis(200)).await;
    assert_eq!(refused, Err(ProposeError::NoQuorum));
    assert!(matches!(second.promote(Consent::Promote).await, Err(PairError::Refused(_))));
    assert_eq!(version(&second, "a").as_deref(), Some("1"), "reading goes on");

    second.tell_surroundings(ACTIVE);
    // Asked for in the one generation and confirmed in the next.
    second.propose(exapp("a", "2"), PATIENCE).await.unwrap();
    let status = second.status();
    assert_eq!((voters(&status), status.group.generation), (vec![2], 2));
    until_pair(&second, "solo node", |pair| pair.standing == Standing::Solo).await;

    let one = start(&site, 1).await;
    shows(&one.1, "a", "2").await;
    let status = until(&one.1, "learner", |status| status.state == RaftState::Learner).await;
    assert_eq!(status.group, second.status().group);
    both_sync([&one.1, &second]).await;
    one.1.propose(exapp("a", "3"), PATIENCE).await.unwrap();
    shows(&second, "a", "3").await;

    // Nothing of it is forgotten by a restart.
    one.0.shutdown().await;
    let one = start(&site, 1).await;
    shows(&one.1, "a", "3").await;
    assert_eq!(one.1.status().group, second.status().group);
    one.0.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_voter_asks_before_it_leads() {
    let site = Site::new(&[Role::Node, Role::Node]);
    let [one, two] = pair(&site).await;
    one.1.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    shows(&two.1, "a", "1").await;
    kill(one);
    kill(two);
    let (one, first) = start(&site, 1).await;
    shows(&first, "a", "1").await;
    let refused = first.propose(exapp("a", "2"), Duration::from_millis(300)).await;
    assert_eq!(refused, Err(ProposeError::NoQuorum));
    let silent = |pair: &PairStatus| pair.silence == Some(cluster::pair::Silence::Asking);
    until_pair(&first, "question", silent).await;
    let (two, second) = start(&site, 2).await;
    first.propose(exapp("a", "2"), PATIENCE).await.unwrap();
    shows(&second, "a", "2").await;
    assert_eq!(pair_of(&first.status()).silence, None);
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_may_force_a_voter_that_nobody_answers() {
    let site = Site::new(&[Role::Node, Role::Node]);
    let [one, two] = pair(&site).await;
    one.1.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    kill(two);
    kill(one);
    let (one, first) = start(&site, 1).await;
    assert!(matches!(first.promote(Consent::Promote).await, Err(PairError::Refused(_))));
    until_pair(&first, "silent peer", |pair| pair.standing == Standing::Degraded).await;
    let group = first.promote(Consent::Force).await.unwrap();
    assert_eq!(group.generation, 2);
    first.propose(exapp("a", "2"), PATIENCE).await.unwrap();
    let (two, second) = start(&site, 2).await;
    shows(&second, "a", "2").await;
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_branches_come_together_and_the_later_generation_wins() {
    let site = Site::new(&[Role::Node, Role::Node]);
    let links = Links::of(&site).await;
    let [(one, first), (two, second)] = links.start_pair(&site, eager).await;
    for id in ["both", "voter"] {
        first.propose(exapp(id, "1"), PATIENCE).await.unwrap();
    }
    both_sync([&first, &second]).await;
    // Both hold an address and reach the world, but not each other.
    first.tell_surroundings(ACTIVE);
    second.tell_surroundings(ACTIVE);
    links.set(1, false, false);
    until_pair(&second, "solo node", |pair| pair.standing == Standing::Solo).await;
    first.propose(exapp("both", "2"), PATIENCE).await.unwrap();
    first.propose(exapp("voter", "2"), PATIENCE).await.unwrap();
    first.propose(exapp("new", "2"), PATIENCE).await.unwrap();
    second.propose(exapp("both", "3"), PATIENCE).await.unwrap();
    until_pair(&first, "async pair", |pair| matches!(pair.sync, Sync::Async { .. })).await;

    links.set(1, true, true);
    for handle in [&first, &second] {
        shows(handle, "both", "3").await;
        shows(handle, "voter", "2").await;
        shows(handle, "new", "2").await;
        until_pair(handle, "normal pair", |pair| pair.standing == Standing::Normal).await;
    }
    assert_eq!(first.status().group, second.status().group);
    first.propose(exapp("both", "4"), PATIENCE).await.unwrap();
    shows(&second, "both", "4").await;
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_is_not_active_falls_silent_when_it_sees_nobody() {
    let site = Site::new(&[Role::Node, Role::Node]);
    let links = Links::of(&site).await;
    let [(one, first), (two, second)] = links.start_pair(&site, eager).await;
    both_sync([&first, &second]).await;
    first.tell_surroundings(BACKUP);
    second.tell_surroundings(BACKUP);
    links.set(1, false, false);
    until_pair(&first, "silence", |pair| pair.silence == Some(cluster::pair::Silence::NotActive))
        .await;
    let refused = first.propose(exapp("a", "1"), Duration::from_millis(300)).await;
    assert_eq!(refused, Err(ProposeError::NoQuorum));
    links.set(1, true, true);
    first.propose(exapp("a", "2"), PATIENCE).await.unwrap();
    shows(&second, "a", "2").await;
    assert_eq!(first.status().group.generation, 1);
    one.shutdown().await;
    two.shutdown().await;
}
