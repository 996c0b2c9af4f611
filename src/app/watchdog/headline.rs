//! How the process stands in a line, for `systemctl status`. Sans-io.

use cluster::{ClusterStatus, RaftState};

use crate::admin::vrrp::Router;

/// For instance `eth0-51 active, eth0-52 backup; follows node 1`.
pub(in crate::app) fn headline(
    waiting_for: &[String],
    routers: &[Router],
    cluster: &ClusterStatus,
) -> String {
    let waits = waiting_for.iter().map(|what| format!("waits for {what}"));
    let routers: Vec<_> =
        routers.iter().map(|router| format!("{} {}", router.name, router.state)).collect();
    let routers = (!routers.is_empty()).then(|| routers.join(", "));
    let parts: Vec<_> = waits.chain(routers).chain([standing(cluster)]).collect();
    parts.join("; ")
}

fn standing(cluster: &ClusterStatus) -> String {
    match (cluster.quorum, cluster.state, cluster.leader) {
        (false, _, _) => "no quorum".to_owned(),
        (true, RaftState::Leader, _) => "leads the cluster".to_owned(),
        (true, _, Some(leader)) => format!("follows node {leader}"),
        (true, _, None) => "knows no leader".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(quorum: bool, state: RaftState, leader: Option<u64>) -> ClusterStatus {
        let status = cluster::Handle::in_memory(1).status();
        ClusterStatus { quorum, state, leader, ..status }
    }

    fn router(name: &str, state: &str) -> Router {
        Router { name: name.to_owned(), state: state.to_owned(), ..Router::default() }
    }

    #[test]
    fn the_line_names_what_is_missing_first_and_every_virtual_router() {
        let two = [router("eth0-51", "active"), router("eth0-52", "fault")];
        let leads = cluster(true, RaftState::Leader, Some(1));
        let follows = cluster(true, RaftState::Follower, Some(3));
        let alone = cluster(false, RaftState::Candidate, None);
        let missing = ["the frp certificates".to_owned()];
        for (waiting, routers, cluster, line) in [
            (&[][..], &two[..], &follows, "eth0-51 active, eth0-52 fault; follows node 3"),
            (&[], &[], &leads, "leads the cluster"),
            (
                &missing,
                &two[..1],
                &alone,
                "waits for the frp certificates; eth0-51 active; no quorum",
            ),
        ] {
            assert_eq!(headline(waiting, routers, cluster), line);
        }
    }
}
