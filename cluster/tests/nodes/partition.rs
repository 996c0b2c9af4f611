//! Nodes that cannot reach each other.

use std::time::Duration;

use cluster::{ProposeError, RaftState, Reply};

use crate::link::Links;
use crate::support::{PATIENCE, Site, exapp, shows, until, version};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_confirms_nothing_and_follows_after_healing() {
    let site = Site::three();
    let links = Links::of(&site).await;
    let nodes = links.start_all(&site).await;
    let leader =
        nodes.iter().position(|(_, handle)| handle.status().state == RaftState::Leader).unwrap();
    let (_, old) = &nodes[leader];
    let (_, other) = &nodes[(leader + 1) % 3];
    links.set(old.node_id(), false, false);

    until(old, "closed gate", |status| !status.quorum).await;
    let refused = old.propose(exapp("ghost", "1"), Duration::from_millis(300)).await;
    assert_eq!(refused, Err(ProposeError::NoQuorum));
    let stale = old.confirm(Duration::from_millis(300)).await;
    assert_eq!(stale, Err(ProposeError::NoQuorum), "what it shows may be old");
    other.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    assert_eq!(version(old, "a"), None);

    links.set(old.node_id(), true, true);
    old.confirm(PATIENCE).await.unwrap();
    assert_eq!(version(old, "a").as_deref(), Some("1"), "confirmed means that it is there");
    old.propose(exapp("a", "2"), PATIENCE).await.unwrap();
    for (_, handle) in &nodes {
        shows(handle, "a", "2").await;
        assert_eq!(version(handle, "ghost"), None);
    }
    for (node, _) in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_confirmed_is_lost_while_nodes_come_and_go() {
    let site = Site::three();
    let links = Links::of(&site).await;
    let mut nodes = links.start_all(&site).await;
    // (node cut, outgoing works, incoming works): both ways, then each way alone.
    let faults = [
        (1, false, false),
        (2, false, true),
        (3, true, false),
        (2, false, false),
        (1, true, false),
    ];
    let mut confirmed = Vec::new();
    let mut written = 0;
    for (node, outgoing, incoming) in faults {
        for (outgoing, incoming) in [(outgoing, incoming), (true, true)] {
            links.set(node, outgoing, incoming);
            let ends = tokio::time::Instant::now() + Duration::from_millis(1500);
            while tokio::time::Instant::now() < ends {
                let (_, handle) = &nodes[written % 3];
                let id = format!("w{written}");
                written += 1;
                if handle.propose(exapp(&id, "1"), Duration::from_millis(400)).await.is_ok() {
                    confirmed.push(id);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    assert!(written < 1000, "the state keeps that many records");
    for (node, handle) in &mut nodes {
        let outcome = handle.propose(exapp("last", &handle.node_id().to_string()), PATIENCE).await;
        if outcome == Err(ProposeError::Stopped) {
            panic!("node {} stopped: {}", handle.node_id(), node.failed().await);
        }
        assert_eq!(outcome, Ok(Reply::Done));
    }
    for (_, handle) in &nodes {
        shows(handle, "last", "3").await;
        let lost: Vec<_> = confirmed.iter().filter(|id| version(handle, id).is_none()).collect();
        assert!(lost.is_empty(), "node {} lost {lost:?}", handle.node_id());
    }
    assert!(confirmed.len() > 20, "{} of {written} confirmed", confirmed.len());
    for (node, _) in nodes {
        node.shutdown().await;
    }
}
