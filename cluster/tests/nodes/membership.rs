//! Nodes that are replaced, and nodes that lost their directory.

use cluster::{Member, Node, Role};

use crate::support::{PATIENCE, Site, exapp, free_address, shows, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_new_id_replaces_a_lost_one() {
    let mut site = Site::three();
    let mut nodes = site.start_all().await;
    nodes[0].1.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    let (lost, _) = nodes.pop().unwrap();
    lost.shutdown().await;

    // The operator writes node 4 in the place of node 3 and restarts one node after the other.
    site.members.pop();
    site.members.push(Member { id: 4, address: free_address(), role: Role::Node });
    let (fresh, handle) = site.start(4).await;
    let mut restarted = Vec::new();
    for (node, old) in nodes {
        let id = old.node_id();
        drop(old);
        node.shutdown().await;
        restarted.push(site.start(id).await);
        until(&restarted.last().unwrap().1, "quorum", |status| status.quorum).await;
    }
    shows(&handle, "a", "1").await;
    let voters = |status: &cluster::ClusterStatus| {
        status.voters.iter().map(|voter| voter.id).collect::<Vec<_>>()
    };
    for (_, handle) in &restarted {
        until(handle, "new set of voters", |status| voters(status) == [1, 2, 4]).await;
    }
    handle.propose(exapp("b", "1"), PATIENCE).await.unwrap();
    fresh.shutdown().await;
    for (node, _) in restarted {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_directory_does_not_vote_again() {
    let site = Site::three();
    let mut nodes = site.start_all().await;
    nodes[0].1.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    let (node, old) = nodes.pop().unwrap();
    let id = old.node_id();
    drop(old);
    node.shutdown().await;
    std::fs::remove_dir_all(site.config(id).state_dir).unwrap();

    let (empty, handle) = site.start(id).await;
    let (_, healthy) = &nodes[0];
    // Time enough for the leader to try, and for the empty node to stand for election.
    for version in ["2", "3", "4"] {
        healthy.propose(exapp("a", version), PATIENCE).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    }
    let status = handle.status();
    assert_eq!((status.last_log, status.term, status.quorum), (None, 0, false), "{status:?}");
    empty.shutdown().await;
    for (node, _) in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_grows_and_new_nodes_get_what_the_log_no_longer_has() {
    let mut site = Site::three();
    let members = std::mem::take(&mut site.members);
    let mut alone = cluster::Config::single(1, site.dir.path().join("state-1"));
    alone.cluster_name = crate::support::CLUSTER.into();
    alone.snapshot_every = 10;
    let (node, handle) = Node::start(alone).await.unwrap();
    for n in 0..60 {
        handle.propose(exapp("a", &n.to_string()), PATIENCE).await.unwrap();
    }
    drop(handle);
    node.shutdown().await;

    site.members = members;
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let config = cluster::Config { snapshot_every: 10, ..site.config(id) };
        nodes.push(Node::start(config).await.unwrap());
    }
    for (_, handle) in &nodes {
        shows(handle, "a", "59").await;
        until(handle, "three voters", |status| status.voters.len() == 3 && status.quorum).await;
    }
    nodes[2].1.propose(exapp("a", "60"), PATIENCE).await.unwrap();
    for (node, _) in nodes {
        node.shutdown().await;
    }
    // The snapshot itself arrived, not entry 0.
    let files = std::fs::read_dir(site.dir.path().join("state-3/snapshots")).unwrap();
    assert!(files.count() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_forms_only_when_every_member_is_there() {
    let site = Site::three();
    let (node, handle) = site.start(1).await;
    let (second, _) = site.start(2).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(handle.status().last_log, None, "not formed without node 3");
    let (third, last) = site.start(3).await;
    last.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    for node in [node, second, third] {
        node.shutdown().await;
    }
}
