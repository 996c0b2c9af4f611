//! The cluster of the lab is made as an admin makes one, by the commands of `trigon` itself: found
//! it on node a, make a token for each other member, and let them join.

use std::time::Duration;

use super::Error;
use super::configs::{A, CLUSTER, CLUSTER_PORT, Member};
use super::node::Node;

/// How long the first node may take until it can take somebody in.
const LIMIT: Duration = Duration::from_secs(60);

/// The first node: founds the cluster and starts.
pub(super) async fn begin(first: &mut Node) -> Result<(), Error> {
    first.call("init", &["--name", CLUSTER, "--json"], None).await?;
    first.start()?;
    let end = tokio::time::Instant::now() + LIMIT;
    while !first.status().await.is_some_and(|status| status.cluster.quorum) {
        first.check_alive()?;
        if tokio::time::Instant::now() >= end {
            return Err(Error::NotHealthy {
                waited_for: "node a leading a cluster of its own".into(),
                seconds: LIMIT.as_secs(),
                logs: first.log_tail(),
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// One more member: gets a token from the first one, joins with it and starts.
pub(super) async fn take_in(first: &Node, node: &mut Node, member: Member) -> Result<(), Error> {
    let token = first.ask(&["token", "create", "--role", member.role(), "--ttl", "5m"]).await?;
    let peer = format!("{}:{CLUSTER_PORT}", A.address);
    node.call("join", &["-", "--peer", &peer, "--json"], Some(&token)).await?;
    node.start()
}
