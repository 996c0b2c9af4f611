//! Who is kept out, who is on the way to it, why and until when. Sans-io.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cluster::record::{Ban, Millis, NodeId, Strike, Subnet};

/// One client or network with failures or a ban of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whom it is about.
    pub subnet: Subnet,
    /// Why it is listed.
    pub source: Source,
    /// Whether it is kept out.
    pub banned: bool,
    /// When it stops being kept out if nothing else happens; none when it is not, or for good.
    pub until: Option<Millis>,
}

/// What brought somebody onto the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Failures within the window.
    Failures {
        /// How many, on all nodes.
        count: usize,
        /// Nodes that saw them.
        nodes: BTreeSet<NodeId>,
    },
    /// An admin set it.
    Admin {
        /// Node it was set on.
        node: NodeId,
        /// When.
        since: Millis,
        /// The admin's words.
        reason: String,
    },
}

/// What makes failures a ban.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// Failures within the window that do.
    pub(super) count: usize,
    /// Length of the window.
    pub(super) window: Millis,
}

/// Bans set by admins and in force at `now`, then clients with failures, each by address.
/// `strikes` are those that count.
pub(super) fn entries<'b>(
    rule: Rule,
    now: Millis,
    bans: impl Iterator<Item = &'b Ban>,
    strikes: impl Iterator<Item = Strike>,
) -> Vec<Entry> {
    let bans = bans.filter(|ban| ban.is_in_force(now)).map(|ban| Entry {
        subnet: ban.subnet,
        source: Source::Admin { node: ban.node, since: ban.since, reason: ban.reason.clone() },
        banned: true,
        until: ban.until,
    });
    let mut by_address: BTreeMap<IpAddr, Vec<(Millis, NodeId)>> = BTreeMap::new();
    for strike in strikes {
        by_address.entry(strike.address).or_default().push((strike.at, strike.node));
    }
    let failing = by_address.into_iter().map(|(address, mut times)| {
        times.sort_unstable();
        let count = times.len();
        // The ban ends when one fewer than it takes are left in the window.
        let last = count.checked_sub(rule.count).and_then(|at| times.get(at));
        Entry {
            subnet: Subnet::of(address),
            source: Source::Failures {
                count,
                nodes: times.iter().map(|(_, node)| *node).collect(),
            },
            banned: count >= rule.count,
            until: last.map(|(at, _)| at.saturating_add(rule.window)),
        }
    });
    bans.chain(failing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strike(node: NodeId, last: u8, at: Millis) -> Strike {
        Strike { node, address: [192, 0, 2, last].into(), at }
    }

    #[test]
    fn a_ban_by_failures_ends_when_too_few_are_left_in_the_window() {
        let rule = Rule { count: 3, window: 100 };
        let strikes = [
            strike(1, 1, 30),
            strike(2, 1, 10),
            strike(1, 1, 20),
            strike(1, 1, 40),
            strike(1, 2, 5),
        ];
        let listed = entries(rule, 50, [].into_iter(), strikes.into_iter());
        let shown: Vec<_> =
            listed.iter().map(|e| (e.subnet.to_string(), e.banned, e.until)).collect();
        // Of four failures the two oldest have to go.
        let banned = ("192.0.2.1".to_owned(), true, Some(120));
        assert_eq!(shown, [banned, ("192.0.2.2".to_owned(), false, None)]);
        let source = Source::Failures { count: 4, nodes: [1, 2].into() };
        assert_eq!(listed[0].source, source);
    }

    #[test]
    fn bans_that_have_ended_are_not_listed() {
        let ban = |subnet: &str, until| Ban {
            subnet: subnet.parse().unwrap(),
            since: 0,
            until,
            node: 1,
            reason: "why".into(),
        };
        let bans =
            [ban("10.0.0.0/8", None), ban("11.0.0.0/8", Some(50)), ban("12.0.0.0/8", Some(51))];
        let rule = Rule { count: 3, window: 100 };
        let listed = entries(rule, 50, bans.iter(), [].into_iter());
        let shown: Vec<_> =
            listed.iter().map(|e| (e.subnet.to_string(), e.banned, e.until)).collect();
        let forever = ("10.0.0.0/8".to_owned(), true, None);
        assert_eq!(shown, [forever, ("12.0.0.0/8".to_owned(), true, Some(51))]);
    }

    #[test]
    fn when_everybody_is_banned_no_end_is_promised() {
        let rule = Rule { count: 0, window: 100 };
        let listed = entries(rule, 50, [].into_iter(), [strike(1, 1, 5)].into_iter());
        assert!(listed[0].banned && listed[0].until.is_none());
    }
}
