//! What of the node's state is an alarm: the clock, the witness, the pair, certificates. Sans-io;
//! `alarms` carries it to the board.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster::pair::{Standing, Sync};
use cluster::presence::Heard;
use cluster::{ClusterStatus, Role};

use crate::failover::alarms::{Alarm, Kind};

/// A witness not heard for so long is lost.
const WITNESS_SILENT: Duration = Duration::from_secs(10);

/// A pair that is async for a moment catches up by itself.
const ASYNC_FOR: Duration = Duration::from_secs(10);

const DAY: u64 = 86_400;

/// What is looked at.
pub(super) struct Look<'l> {
    pub(super) now: Instant,
    /// Time since this node started.
    pub(super) up_for: Duration,
    pub(super) cluster: &'l ClusterStatus,
    pub(super) heard: &'l Heard,
    /// Certificates and when each ends, seconds since the Unix epoch.
    pub(super) certificates: &'l [(&'static str, u64)],
    /// Whether the node is drained.
    pub(super) draining: bool,
    /// Addresses it holds although it is drained.
    pub(super) last_resort: &'l [String],
    /// Seconds since the Unix epoch.
    pub(super) wall: u64,
}

/// Remembers since when each condition lasts.
#[derive(Debug, Default)]
pub(super) struct Conditions(BTreeMap<Kind, Instant>);

impl Conditions {
    /// The alarms of this look.
    pub(super) fn look(&mut self, look: &Look<'_>) -> Vec<Alarm> {
        let found = [
            (Kind::ClockOff, clock(look.cluster), Duration::ZERO),
            (Kind::WitnessLost, witness(look), Duration::ZERO),
            (Kind::PairDegraded, pair(look.cluster), Duration::ZERO),
            (Kind::PairAsync, copies(look.cluster), ASYNC_FOR),
            (Kind::CertificateEnds, certificates(look), Duration::ZERO),
            (Kind::Drained, drained(look), Duration::ZERO),
            (Kind::LastResort, last_resort(look), Duration::ZERO),
        ];
        let mut alarms = Vec::new();
        for (kind, text, patience) in found {
            let Some(text) = text else {
                self.0.remove(&kind);
                continue;
            };
            let since = *self.0.entry(kind).or_insert(look.now);
            if look.now.saturating_duration_since(since) >= patience {
                alarms.push(Alarm { kind, router: None, since, text });
            }
        }
        alarms
    }
}

fn clock(cluster: &ClusterStatus) -> Option<String> {
    let off = cluster.clock_off?;
    let whose = match off.node == cluster.node_id {
        true => "the clock of this node".to_owned(),
        false => format!("the clock of node {}", off.node),
    };
    let seconds = off.ahead_ms.unsigned_abs().div_ceil(1000);
    let way = if off.ahead_ms < 0 { "behind" } else { "ahead" };
    Some(format!("{whose} is {seconds} s {way}: look at its time service (chronyc tracking)"))
}

fn witness(look: &Look<'_>) -> Option<String> {
    let lost = look.heard.peers.iter().filter(|(_, peer)| {
        let silent = peer.last.as_ref().map(|told| look.now.saturating_duration_since(told.at));
        peer.role == Role::Witness && silent.unwrap_or(look.up_for) >= WITNESS_SILENT
    });
    let lost: Vec<_> = lost.map(|(node, _)| node.to_string()).collect();
    (!lost.is_empty()).then(|| {
        format!(
            "the witness (node {}) is not heard: the loss of one more member ends durable changes",
            lost.join(", ")
        )
    })
}

fn pair(cluster: &ClusterStatus) -> Option<String> {
    let pair = cluster.pair.as_ref()?;
    match pair.standing {
        Standing::Normal => None,
        Standing::Degraded => Some(format!(
            "node {} is not heard: `trigon cluster status` says what this one waits for",
            pair.peer
        )),
        Standing::Solo => Some(format!(
            "this node went on alone, in generation {}: bring node {} back, or remove it",
            cluster.group.generation, pair.peer
        )),
        Standing::Rejoining => Some(format!("this node comes back to node {}", pair.peer)),
    }
}

fn drained(look: &Look<'_>) -> Option<String> {
    let text = "this node is out of service: `trigon undrain` when the work on it is done";
    look.draining.then(|| text.to_owned())
}

fn last_resort(look: &Look<'_>) -> Option<String> {
    (!look.last_resort.is_empty()).then(|| {
        format!(
            "drained, and holds {} because no other node can: do not stop it now",
            look.last_resort.join(" ")
        )
    })
}

fn copies(cluster: &ClusterStatus) -> Option<String> {
    match cluster.pair.as_ref()?.sync {
        Sync::Sync => None,
        Sync::Async { behind } => {
            Some(format!("the pair is async: {behind} entries or more are on the voter only"))
        }
    }
}

/// How long before its end a certificate should have been replaced: what renews itself has missed
/// its time by then, and for what somebody has to do there is time left.
fn warned_before(certificate: &str) -> u64 {
    match certificate {
        "cluster" => 5 * DAY,
        "https" | "public" => 14 * DAY,
        "frp_server" => 30 * DAY,
        _ => 90 * DAY,
    }
}

fn certificates(look: &Look<'_>) -> Option<String> {
    let near = look
        .certificates
        .iter()
        .filter(|(name, ends)| ends.saturating_sub(look.wall) <= warned_before(name));
    let texts: Vec<_> = near
        .map(|(name, ends)| match ends.saturating_sub(look.wall) {
            0 => format!("{name} has ended"),
            left => format!("{name} ends in {} days", left / DAY),
        })
        .collect();
    (!texts.is_empty()).then(|| format!("certificates: {}", texts.join(", ")))
}

#[cfg(test)]
mod tests {
    use cluster::ClockOff;
    use cluster::pair::PairStatus;

    use super::*;

    fn status() -> ClusterStatus {
        cluster::Handle::in_memory(1).status()
    }

    fn pair_of(standing: Standing, sync: Sync) -> ClusterStatus {
        let pair = PairStatus {
            standing,
            peer: 2,
            peer_silent_s: Some(4),
            votes: true,
            sync,
            silence: None,
            waits_for: Vec::new(),
            healed: None,
        };
        ClusterStatus { pair: Some(pair), ..status() }
    }

    fn at<'l>(
        now: Instant,
        up_for: Duration,
        cluster: &'l ClusterStatus,
        heard: &'l Heard,
    ) -> Look<'l> {
        let (certificates, last_resort) = (&[], &[]);
        Look { now, up_for, cluster, heard, certificates, draining: false, last_resort, wall: 0 }
    }

    #[test]
    fn a_drained_node_is_told_about_and_one_that_serves_all_the_same_more_so() {
        let (cluster, heard, addresses) = (&status(), &Heard::default(), ["192.0.2.10".to_owned()]);
        let base = || at(Instant::now(), Duration::ZERO, cluster, heard);
        let kinds = |look| {
            let found = Conditions::default().look(&look);
            found.into_iter().map(|alarm| alarm.kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(base()), []);
        assert_eq!(kinds(Look { draining: true, ..base() }), [Kind::Drained]);
        let holds = Look { draining: true, last_resort: &addresses, ..base() };
        assert_eq!(kinds(holds), [Kind::Drained, Kind::LastResort]);
    }

    /// The alarms after two looks, twenty seconds apart.
    fn alarms(
        cluster: &ClusterStatus,
        certificates: &[(&'static str, u64)],
    ) -> Vec<(Kind, String)> {
        let start = Instant::now();
        let mut conditions = Conditions::default();
        let mut look = |seconds| {
            let up_for = Duration::from_secs(seconds);
            let (now, heard, wall) = (start + up_for, &Heard::default(), 1_000 * DAY);
            conditions.look(&Look { certificates, wall, ..at(now, up_for, cluster, heard) })
        };
        look(0);
        look(20).into_iter().map(|alarm| (alarm.kind, alarm.text)).collect()
    }

    #[test]
    fn what_is_an_alarm() {
        let clock = |node, ahead_ms| ClusterStatus {
            clock_off: Some(ClockOff { node, ahead_ms }),
            ..status()
        };
        let (sync, behind) = (Sync::Sync, Sync::Async { behind: 3 });
        type Row = (ClusterStatus, &'static [(&'static str, u64)], &'static [(Kind, &'static str)]);
        let table: [Row; 11] = [
            (status(), &[("cluster", 1_020 * DAY), ("cluster_ca", 4_000 * DAY)], &[]),
            (clock(1, 6_500), &[], &[(Kind::ClockOff, "of this node is 7 s ahead")]),
            (clock(3, -9_000), &[], &[(Kind::ClockOff, "of node 3 is 9 s behind")]),
            (pair_of(Standing::Normal, sync), &[], &[]),
            (pair_of(Standing::Normal, behind), &[], &[(Kind::PairAsync, "3 entries")]),
            (
                pair_of(Standing::Degraded, sync),
                &[],
                &[(Kind::PairDegraded, "node 2 is not heard")],
            ),
            (pair_of(Standing::Solo, sync), &[], &[(Kind::PairDegraded, "alone, in generation 1")]),
            (pair_of(Standing::Rejoining, sync), &[], &[(Kind::PairDegraded, "comes back")]),
            (status(), &[("cluster", 1_005 * DAY)], &[(Kind::CertificateEnds, "in 5 days")]),
            (status(), &[("https", 999 * DAY)], &[(Kind::CertificateEnds, "https has ended")]),
            (status(), &[("frp_oldest_ca", 1_090 * DAY)], &[(Kind::CertificateEnds, "90 days")]),
        ];
        for (cluster, certificates, expected) in table {
            let found = alarms(&cluster, certificates);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for ((kind, text), (wanted, part)) in found.iter().zip(expected) {
                assert!(kind == wanted && text.contains(part), "{text}");
            }
        }
    }

    #[test]
    fn an_alarm_keeps_its_beginning_and_what_lasts_a_moment_is_none() {
        let start = Instant::now();
        let mut conditions = Conditions::default();
        let mut look = |seconds, cluster: &ClusterStatus| {
            let up_for = Duration::from_secs(seconds);
            let now = start + up_for;
            let heard = &Heard::default();
            let found = conditions.look(&at(now, up_for, cluster, heard));
            found.first().map(|alarm| (alarm.since - start).as_secs())
        };
        let behind = pair_of(Standing::Normal, Sync::Async { behind: 1 });
        assert_eq!(look(1, &behind), None);
        assert_eq!(look(5, &status()), None);
        assert_eq!(look(6, &behind), None);
        assert_eq!(look(16, &behind), Some(6));
        assert_eq!(look(30, &behind), Some(6));
    }

    #[test]
    fn a_witness_that_is_not_heard_is_lost() {
        use std::sync::Arc;
        let now = Instant::now() + Duration::from_secs(60);
        let peer = |role, ago: Option<u64>| cluster::presence::Peer {
            role,
            connected: false,
            last: ago.map(|ago| cluster::presence::Told {
                at: now - Duration::from_secs(ago),
                word: Arc::default(),
            }),
            round_trip: None,
            hears: Arc::default(),
            beats: 0,
            mark: cluster::flows::Mark::default(),
        };
        for (role, ago, up, lost) in [
            (Role::Witness, Some(1), 60, false),
            (Role::Witness, Some(10), 60, true),
            (Role::Witness, None, 60, true),
            (Role::Witness, None, 5, false),
            (Role::Node, Some(30), 60, false),
        ] {
            let heard = Heard { peers: BTreeMap::from([(3, peer(role, ago))]) };
            let (cluster, up_for) = (&status(), Duration::from_secs(up));
            let found = Conditions::default().look(&at(now, up_for, cluster, &heard));
            assert_eq!(found.iter().any(|alarm| alarm.kind == Kind::WitnessLost), lost, "{ago:?}");
        }
    }
}
