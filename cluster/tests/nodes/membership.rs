//! Nodes that are replaced, and nodes that lost their directory.

use cluster::{Member, Role};

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
