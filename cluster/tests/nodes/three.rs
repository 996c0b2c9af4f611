//! Three voters.

use std::time::Duration;

use cluster::record::{Ban, Strike, Subnet};
use cluster::{Command, Handle, Node, ProposeError, RaftState, Reply, Role, Soft, State};

use crate::support::{PATIENCE, Site, exapp, now, shows, until, version};

fn leader_of(nodes: &[(Node, Handle)]) -> usize {
    nodes.iter().position(|(_, handle)| handle.status().state == RaftState::Leader).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_proposed_on_any_node_shows_on_all() {
    let site = Site::three();
    let nodes = site.start_all().await;
    for (_, handle) in &nodes {
        let id = format!("from{}", handle.node_id());
        assert_eq!(handle.propose(exapp(&id, "1"), PATIENCE).await, Ok(Reply::Done));
        assert_eq!(version(handle, &id).as_deref(), Some("1"), "the proposer sees it at once");
        for (_, other) in &nodes {
            shows(other, &id, "1").await;
        }
    }
    let address = "192.0.2.7".parse().unwrap();
    for (_, handle) in &nodes {
        let node = handle.node_id();
        handle.share(Soft::Strike(Strike { node, address, at: now() }));
    }
    for (_, handle) in &nodes {
        let mut changes = handle.changes();
        let struck = async {
            while handle.read(|state| state.strikes(address, 0, handle.node_id())) < 2 {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, struck).await.unwrap();
    }
    let leader = &nodes[leader_of(&nodes)].1;
    let status = until(leader, "caught up peers", |status| {
        status.voters.iter().all(|voter| voter.reachable == Some(true) && voter.lag == Some(0))
    });
    assert_eq!(status.await.voters.len(), 3);
    for (node, _) in nodes {
        node.shutdown().await;
    }
}

/// Waits until the view of every node shows it.
async fn all_show(nodes: &[(Node, Handle)], what: &str, shows: impl Fn(&State) -> bool) {
    for (_, handle) in nodes {
        let mut changes = handle.changes();
        let seen = async {
            while !handle.read(&shows) {
                changes.changed().await.unwrap();
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, seen).await;
        assert!(in_time.is_ok(), "node {} never showed {what}", handle.node_id());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pardon_on_one_node_lifts_bans_and_failures_on_all() {
    let site = Site::three();
    let nodes = site.start_all().await;
    let address = "192.0.2.7".parse().unwrap();
    for (_, handle) in &nodes {
        let node = handle.node_id();
        handle.share(Soft::Strike(Strike { node, address, at: now() }));
    }
    let (subnet, since) = (Subnet::of(address), now());
    let ban = Ban { subnet, since, until: None, node: 1, reason: "scans".into() };
    assert_eq!(nodes[0].1.propose(Command::SetBan(ban), PATIENCE).await, Ok(Reply::Done));
    all_show(&nodes, "the ban and every failure", |state| {
        state.ban(address, now()).is_some() && state.strikes(address, 0, 9) == 3
    })
    .await;
    let pardon = Command::Pardon { subnet, at: now() };
    assert_eq!(nodes[1].1.propose(pardon.clone(), PATIENCE).await, Ok(Reply::Done));
    all_show(&nodes, "the pardon", |state| {
        state.ban(address, now()).is_none()
            && state.strikes(address, 0, 9) == 0
            && state.pardoned(address).is_some()
    })
    .await;
    assert_eq!(nodes[2].1.propose(pardon, PATIENCE).await, Ok(Reply::Nothing));
    for (node, _) in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_go_on_without_the_leader_and_it_catches_up() {
    let site = Site::three();
    let mut nodes = site.start_all().await;
    nodes[0].1.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    for (_, handle) in &nodes {
        shows(handle, "a", "1").await;
    }
    let (leader, stopped) = nodes.remove(leader_of(&nodes));
    let gone = stopped.node_id();
    drop(stopped);
    leader.shutdown().await;

    let (_, standby) = &nodes[0];
    assert_eq!(version(standby, "a").as_deref(), Some("1"), "reads need no leader");
    assert_eq!(standby.propose(exapp("a", "2"), PATIENCE).await, Ok(Reply::Done));
    until(standby, "another leader", |status| {
        status.quorum && status.leader.is_some_and(|leader| leader != gone)
    })
    .await;

    let (back, handle) = site.start(gone).await;
    shows(&handle, "a", "2").await;
    assert_eq!(handle.propose(exapp("b", "1"), PATIENCE).await, Ok(Reply::Done));
    back.shutdown().await;
    for (node, _) in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_confirmed_and_reading_goes_on() {
    let site = Site::three();
    let mut nodes = site.start_all().await;
    nodes[0].1.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    let (last, handle) = nodes.remove(leader_of(&nodes));
    for (node, _) in nodes {
        node.shutdown().await;
    }
    until(&handle, "lost quorum", |status| !status.quorum).await;
    let before = handle.status().last_log;
    for _ in 0..5 {
        let outcome = handle.propose(exapp("a", "2"), Duration::from_millis(200)).await;
        assert_eq!(outcome, Err(ProposeError::NoQuorum));
    }
    assert_eq!(handle.status().last_log, before, "a leader cut off does not fill its log");
    assert_eq!(version(&handle, "a").as_deref(), Some("1"));
    last.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_does_not_keep_leadership() {
    let site = Site::new(&[Role::Node, Role::Node, Role::Witness]);
    let mut nodes = site.start_all().await;
    // Whoever is elected when the leader goes, the witness or the other node.
    for _ in 0..2 {
        let leader = until(&nodes[0].1, "leader", |status| status.leader.is_some()).await.leader;
        let (node, handle) = nodes.remove(leader_of(&nodes));
        assert_eq!(Some(handle.node_id()), leader);
        let gone = handle.node_id();
        drop(handle);
        node.shutdown().await;
        for (_, handle) in &nodes {
            until(handle, "leader that serves", |status| {
                status.quorum && status.leader.is_some_and(|leader| leader != 3 && leader != gone)
            })
            .await;
        }
        nodes.push(site.start(gone).await);
    }
    assert_eq!(nodes[0].1.propose(exapp("a", "1"), PATIENCE).await, Ok(Reply::Done));
    for (node, _) in nodes {
        node.shutdown().await;
    }
}

/// Beside a witness, which may win the election and then looks for whom to hand leadership to.
#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_lets_go_of_leadership_once_and_for_all() {
    let site = Site::new(&[Role::Node, Role::Node, Role::Witness]);
    let nodes = site.start_all().await;
    for _ in 0..2 {
        let (_, drained) = &nodes[leader_of(&nodes)];
        let (_, other) = &nodes[1 - leader_of(&nodes)];
        drained.rest(true);
        let id = drained.node_id();
        until(other, "leader that serves", |status| {
            status.quorum && status.leader == Some(other.node_id())
        })
        .await;
        // For as long as some elections would take.
        for _ in 0..60 {
            assert_ne!(other.status().leader, Some(id), "it came back");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        drained.rest(false);
    }
    for (node, _) in nodes {
        node.shutdown().await;
    }
}
