//! Nodes that come, go, are replaced, and nodes that lost their log.

use cluster::{Node, Reply, Role};

use crate::support::{PATIENCE, Site, exapp, session_key, settled, shows, until, voters};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_grows_to_a_pair_and_then_to_three_votes() {
    let site = Site::one();
    let one = Node::start(cluster::Config { snapshot_every: 10, ..site.config(1) }).await.unwrap();
    for n in 0..60 {
        one.1.propose(exapp("a", &n.to_string()), PATIENCE).await.unwrap();
    }
    let mut nodes = vec![one];
    let second = site.join(&nodes[0].1, "second", Role::Node).await;
    // What the log no longer has comes as a snapshot.
    shows(&second.1, "a", "59").await;
    nodes.push(second);
    settled(&nodes).await;
    let pair = nodes[0].1.status();
    assert_eq!((voters(&pair), pair.learners.len()), (vec![1], 1), "one votes, one learns");
    nodes[1].1.propose(exapp("a", "60"), PATIENCE).await.unwrap();

    // Any load balancer may be asked.
    let witness = site.join(&nodes[0].1, "witness", Role::Witness).await;
    assert!(witness.1.kek().is_none() && nodes[1].1.kek().is_some());
    nodes.push(witness);
    for (_, handle) in &nodes {
        until(handle, "three voters", |status| voters(status) == [1, 2, 3]).await;
        shows(handle, "a", "60").await;
    }
    let names: Vec<_> = nodes[2].1.members().iter().map(|member| member.name.clone()).collect();
    assert_eq!(names, ["n1", "second", "witness"]);
    assert!(site.dir_of("second").join("kek").exists());
    assert!(!site.dir_of("witness").join("kek").exists());
    for (node, _) in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_told_and_another_one_takes_its_place() {
    let site = Site::three();
    let mut nodes = site.start_all().await;
    nodes[0].1.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    let (lost, lost_handle) = nodes.pop().unwrap();
    let known_to_it = session_key(&lost_handle, 1).await;
    lost.shutdown().await;
    nodes[1].1.remove_node(3, PATIENCE).await.unwrap();
    until(&nodes[0].1, "a pair", |status| status.voters.len() == 1).await;
    assert_ne!(session_key(&nodes[0].1, 2).await, known_to_it);

    // It comes back and knows nothing of it.
    let (mut back, _) = site.start(3).await;
    let reason = tokio::time::timeout(PATIENCE, back.failed()).await.unwrap();
    assert!(reason.contains("node 3 was removed from the cluster"), "{reason}");
    back.shutdown().await;

    let fresh = site.join(&nodes[1].1, "fresh", Role::Node).await;
    shows(&fresh.1, "a", "1").await;
    assert_eq!(fresh.1.node_id(), 4, "a number is never given again");
    nodes.push(fresh);
    for (_, handle) in &nodes {
        until(handle, "the new voters", |status| voters(status) == [1, 2, 4]).await;
    }
    nodes[2].1.propose(exapp("b", "1"), PATIENCE).await.unwrap();
    for (node, _) in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_leaves_hands_over_first() {
    let site = Site::three();
    let mut nodes = site.start_all().await;
    let leader = until(&nodes[0].1, "leader", |status| status.leader.is_some()).await.leader;
    let leaves = nodes.iter().position(|(_, handle)| Some(handle.node_id()) == leader).unwrap();
    let (mut node, handle) = nodes.remove(leaves);
    handle.leave(PATIENCE).await.unwrap();
    let reason = tokio::time::timeout(PATIENCE, node.failed()).await.unwrap();
    assert!(reason.contains("has left the cluster"), "{reason}");
    node.shutdown().await;
    for (_, other) in &nodes {
        until(other, "a leader of the rest", |status| status.quorum && status.leader != leader)
            .await;
        assert_eq!(other.propose(exapp("a", "1"), PATIENCE).await, Ok(Reply::Done));
    }
    let last = [&nodes[0].1, &nodes[1].1].map(|handle| handle.node_id());
    nodes[0].1.remove_node(last[1], PATIENCE).await.unwrap();
    let refused = nodes[0].1.leave(PATIENCE).await.unwrap_err().to_string();
    assert!(refused.contains("last load balancer") || refused.contains("alone"), "{refused}");
    for (node, _) in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_log_does_not_start_with_half_of_it() {
    let site = Site::three();
    let mut nodes = site.start_all().await;
    nodes[0].1.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    let (node, _) = nodes.pop().unwrap();
    node.shutdown().await;
    std::fs::remove_dir_all(site.state_dir(3).join("raft")).unwrap();
    let refused = Node::start(site.config(3)).await.err().unwrap().to_string();
    assert!(refused.contains("trigon node remove 3"), "{refused}");

    std::fs::remove_file(site.state_dir(3).join("node.json")).unwrap();
    let refused = Node::start(site.config(3)).await.err().unwrap().to_string();
    assert!(refused.contains("holds no node") && refused.contains("trigon join"), "{refused}");

    std::fs::remove_file(site.state_dir(1).join("kek")).unwrap();
    let (node, _) = nodes.remove(0);
    node.shutdown().await;
    let refused = Node::start(site.config(1)).await.err().unwrap().to_string();
    assert!(refused.contains("the key of the cluster is missing"), "{refused}");
    for (node, _) in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_moves_is_followed() {
    let mut site = Site::three();
    let mut nodes = site.start_all().await;
    let (node, _) = nodes.pop().unwrap();
    node.shutdown().await;
    let elsewhere = crate::support::free_address();
    site.members[2].address = Some(elsewhere);
    nodes.push(site.start(3).await);
    for (_, handle) in &nodes {
        until(handle, "the new address", |status| {
            status.voters.iter().any(|voter| voter.address == Some(elsewhere))
        })
        .await;
    }
    settled(&nodes).await;
    for (node, _) in nodes {
        node.shutdown().await;
    }
}
