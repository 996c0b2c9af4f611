//! What nodes that all call themselves primary are worth beside each other. Sans-io.

use std::time::{Duration, Instant};

/// How long after one node has told of a newer view another may still answer with the one before:
/// they learn of it within milliseconds, unless they have much to apply first.
const SETTLE: Duration = Duration::from_millis(250);

/// A node that calls itself primary and has answered last time.
pub(super) struct Voter<'r> {
    pub(super) cluster: &'r str,
    pub(super) view: u64,
    /// When the question was sent that it answered so.
    pub(super) asked: Instant,
    /// When it first answered with this view.
    pub(super) since: Instant,
}

/// What the vote says of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is one of those that go on.
    Within,
    /// It may be; it has to be asked again.
    Unsettled,
    /// It is not, and does not know.
    LeftBehind,
    /// It belongs to another cluster.
    OtherCluster,
}

/// In the order of `voters`, which stand by their priority.
pub(super) fn vote(voters: &[Voter<'_>]) -> Vec<Standing> {
    let shared = |voter: &Voter<'_>| voters.iter().filter(|v| v.cluster == voter.cluster).count();
    // Of two as large the one with the first node: `max_by_key` would take the last.
    let Some(main) = voters.iter().rev().max_by_key(|voter| shared(voter)) else {
        return Vec::new();
    };
    let own: Vec<_> = voters.iter().filter(|voter| voter.cluster == main.cluster).collect();
    let newest = own.iter().map(|voter| voter.view).max().unwrap_or(0);
    let told = own.iter().filter(|voter| voter.view == newest).map(|voter| voter.since).min();
    let is_unsettled = |voter: &Voter<'_>| {
        voter.view < newest && told.is_some_and(|told| voter.asked <= told + SETTLE)
    };
    let settled: Vec<_> = own.iter().filter(|voter| !is_unsettled(voter)).collect();
    let in_view = |view| settled.iter().filter(|voter| voter.view == view).count();
    // The newest view is right, as no older one can have a majority of it. Two primary parts at
    // once are an admin's doing; then the larger one counts.
    let going_on = settled.iter().map(|voter| (in_view(voter.view), voter.view)).max();
    let standing = |voter: &Voter<'_>| match voter {
        _ if voter.cluster != main.cluster => Standing::OtherCluster,
        _ if is_unsettled(voter) => Standing::Unsettled,
        _ if going_on.is_some_and(|(_, view)| view != voter.view) => Standing::LeftBehind,
        _ => Standing::Within,
    };
    voters.iter().map(standing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{LeftBehind, OtherCluster, Unsettled, Within};

    #[test]
    fn the_view_of_those_that_go_on_counts() {
        let start = Instant::now();
        // Cluster, view, asked at and in this view since, in milliseconds.
        for (name, voters, expect) in [
            ("nobody", &[][..], &[][..]),
            ("alone", &[("a", 5, 0, 0)], &[Within]),
            ("all alike", &[("a", 5, 0, 0), ("a", 5, 9, 0), ("a", 5, 9, 0)], &[Within; 3]),
            (
                "one was frozen and comes back",
                &[("a", 5, 9000, 0), ("a", 6, 9000, 2000), ("a", 6, 9000, 2010)],
                &[LeftBehind, Within, Within],
            ),
            (
                "one of two was frozen",
                &[("a", 5, 9000, 0), ("a", 6, 9000, 2000)],
                &[LeftBehind, Within],
            ),
            (
                "one has just told of a newer view",
                &[("a", 6, 1000, 1001), ("a", 5, 900, 0), ("a", 5, 1240, 0)],
                &[Within, Unsettled, Unsettled],
            ),
            (
                "one keeps to the old view",
                &[("a", 6, 1000, 1001), ("a", 6, 1400, 1401), ("a", 5, 1300, 0)],
                &[Within, Within, LeftBehind],
            ),
            (
                "two primary parts, somebody bootstrapped the smaller one",
                &[("a", 9, 5000, 1000), ("a", 8, 5000, 900), ("a", 8, 5000, 900)],
                &[LeftBehind, Within, Within],
            ),
            (
                "a node of another cluster has a higher number",
                &[("b", 90, 0, 0), ("a", 5, 0, 0), ("a", 5, 0, 0)],
                &[OtherCluster, Within, Within],
            ),
            ("two clusters as large", &[("a", 5, 0, 0), ("b", 9, 0, 0)], &[Within, OtherCluster]),
        ] {
            let at = |millis| start + Duration::from_millis(millis);
            let voters: Vec<_> = voters
                .iter()
                .map(|&(cluster, view, asked, since)| Voter {
                    cluster,
                    view,
                    asked: at(asked),
                    since: at(since),
                })
                .collect();
            assert_eq!(vote(&voters), expect, "{name}");
        }
    }
}
