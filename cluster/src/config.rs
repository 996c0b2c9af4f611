//! What a node of the cluster is told at start, and what is wrong with it. Sans-io.
//!
//! Values arrive finished; whoever reads the configuration file builds this. Keys in problems
//! are the ones of that file. Who the node is and who belongs to the cluster is not told: it
//! stands in the passport and in the replicated state.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::record::FEATURE;
pub use crate::record::Role;

/// How this node takes part in the cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// Highest feature level this node knows: that of the release, but for tests of upgrades.
    pub feature: u16,
    /// Where the passport, the keys, the log and the snapshots live.
    pub state_dir: PathBuf,
    /// Where the peers reach this node; none only for a cluster of one.
    pub listen: Option<SocketAddr>,
    /// The address the others are told; [`Config::listen`] if that is a real one.
    pub advertise: Option<SocketAddr>,
    /// Heartbeats and elections; the same on every node.
    pub timers: Timers,
    /// Log entries between two snapshots, at least 10. The log keeps a little more than that, so
    /// fewer entries mean a smaller directory and more writing.
    pub snapshot_every: u64,
    /// What two load balancers without a witness do when one of them is gone.
    pub pair: PairConfig,
    /// Whether validated sessions are shared.
    pub session_replication: SessionReplication,
}

/// Two load balancers without a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairConfig {
    /// Who decides that the survivor goes on alone.
    pub policy: PairPolicy,
    /// How long the voter must be gone from every path before the survivor may.
    pub promote_after: Duration,
}

impl Default for PairConfig {
    fn default() -> Self {
        Self { policy: PairPolicy::Auto, promote_after: Duration::from_secs(15) }
    }
}

/// Who decides that the survivor of a pair goes on alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairPolicy {
    /// The survivor itself, by its rules.
    Auto,
    /// An operator only.
    Manual,
}

/// Whether validated sessions are shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionReplication {
    /// In batches.
    #[default]
    Batch,
    /// Not at all: after a failover every visitor is validated anew.
    Off,
}

/// PEM files of the peer port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the cluster's own authority; nothing else is trusted.
    pub ca: PathBuf,
    /// This node's certificate, naming it (`node-<number>.<cluster id>.trigon.internal`).
    pub certificate: PathBuf,
    /// The key of that certificate.
    pub key: PathBuf,
}

/// Raft timers. The lease of a leader is the *voter's* `election_max`, so they must be the same
/// on every node, the witness included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timers {
    /// How often a leader speaks when it has nothing to say.
    pub heartbeat: Duration,
    /// Shortest random wait before an election.
    pub election_min: Duration,
    /// Longest random wait before an election, and how long a silent leader is believed.
    pub election_max: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(150),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
        }
    }
}

/// One thing wrong with a [`Config`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {text}")]
pub struct Problem {
    /// The key to change.
    pub key: &'static str,
    /// What was found, what is expected, what to do.
    pub text: String,
}

impl Config {
    /// The node of `state_dir` without a listener: for a cluster of one.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            listen: None,
            advertise: None,
            timers: Timers::default(),
            snapshot_every: 10_000,
            pair: PairConfig::default(),
            feature: FEATURE,
            session_replication: SessionReplication::default(),
        }
    }

    /// The address the others are told; none when nobody can reach this node.
    pub fn advertised(&self) -> Option<SocketAddr> {
        self.advertise.or(self.listen).filter(|address| is_reachable(*address))
    }

    /// Everything wrong with the values, without looking at any file.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut report = |key, text: String| found.push(Problem { key, text });
        let Timers { heartbeat, election_min, election_max } = self.timers;
        if heartbeat < Duration::from_millis(10)
            || heartbeat * 2 > election_min
            || election_min >= election_max
            || election_max > Duration::from_secs(60)
        {
            report(
                "cluster.timers",
                format!(
                    "heartbeat {heartbeat:?}, election {election_min:?} to {election_max:?}: \
                     expected 10ms <= heartbeat, 2 x heartbeat <= shortest < longest <= 60s"
                ),
            );
        }
        if self.snapshot_every < 10 {
            let found = self.snapshot_every;
            report("cluster.snapshot_every", format!("{found} is too few; use at least 10"));
        }
        let after = self.pair.promote_after;
        if after < self.timers.election_max * 3 || after > Duration::from_secs(3600) {
            report(
                "cluster.pair_promote_after",
                format!("{after:?}: expected 3 x the longest election to 1h"),
            );
        }
        match (self.listen, self.advertise) {
            (None, Some(_)) => {
                report("cluster.advertise", "is of no use without cluster.listen".to_owned());
            }
            (_, Some(address)) if !is_reachable(address) => {
                let text = format!("{address} cannot be reached by peers; name the real address");
                report("cluster.advertise", text);
            }
            (Some(listen), None) if !is_reachable(listen) => {
                let text = format!(
                    "missing; peers cannot reach this node at {listen}, name its real address"
                );
                report("cluster.advertise", text);
            }
            _ => {}
        }
        found
    }
}

/// Whether others can reach that address.
pub(crate) fn is_reachable(address: SocketAddr) -> bool {
    address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
}

/// Whether the name can stand in a certificate as one DNS label.
pub(crate) fn is_label(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Config {
        let listen = Some(SocketAddr::from(([192, 0, 2, 1], 7443)));
        Config { listen, ..Config::new("/nowhere") }
    }

    fn any(port: u16) -> Option<SocketAddr> {
        Some(SocketAddr::from(([0, 0, 0, 0], port)))
    }

    #[test]
    fn a_problem_names_its_key() {
        type Edit = fn(&mut Config);
        let table: [(&str, Edit, &[&str]); 9] = [
            ("a listener", |_| {}, &[]),
            ("alone", |c| c.listen = None, &[]),
            ("every interface", |c| c.listen = any(7443), &["cluster.advertise"]),
            ("advertise any", |c| c.advertise = any(7443), &["cluster.advertise"]),
            (
                "advertise alone",
                |c| (c.advertise, c.listen) = (c.listen, None),
                &["cluster.advertise"],
            ),
            ("both", |c| (c.advertise, c.listen) = (c.listen, any(7443)), &[]),
            ("a snapshot each entry", |c| c.snapshot_every = 1, &["cluster.snapshot_every"]),
            (
                "hasty elections",
                |c| c.timers.election_min = Duration::from_millis(200),
                &["cluster.timers"],
            ),
            (
                "hasty promotion",
                |c| c.pair.promote_after = Duration::from_secs(1),
                &["cluster.pair_promote_after"],
            ),
        ];
        for (name, edit, expected) in table {
            let mut config = good();
            edit(&mut config);
            let keys: Vec<_> = config.problems().into_iter().map(|problem| problem.key).collect();
            assert_eq!(keys, expected, "{name}");
        }
    }

    #[test]
    fn the_listening_address_is_told_only_if_it_is_a_real_one() {
        let mut config = good();
        assert_eq!(config.advertised(), config.listen);
        config.advertise = Some(SocketAddr::from(([192, 0, 2, 9], 1)));
        assert_eq!(config.advertised(), config.advertise);
        (config.advertise, config.listen) = (None, any(7443));
        assert_eq!(config.advertised(), None);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let mut config = good();
        config.snapshot_every = 1;
        config.listen = any(0);
        assert_eq!(config.problems().len(), 2);
    }
}
