//! What a node of the cluster is told at start, and what is wrong with it. Sans-io.
//!
//! Values arrive finished; whoever reads the configuration file builds this. Keys in problems
//! are the ones of that file.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::NodeId;

/// How this node takes part in the cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the cluster: part of every certificate, connection and snapshot.
    pub cluster_name: String,
    /// This node, one of `members`. Never reuse an id after its state directory was lost.
    pub node_id: NodeId,
    /// Where the log and the snapshots live; created with mode 0700 when missing.
    pub state_dir: PathBuf,
    /// Where the peers reach this node. Unused without members.
    pub listen: SocketAddr,
    /// Every voter, this node included. Empty: a cluster of one without any listener.
    pub members: Vec<Member>,
    /// Certificates of the peer port; needed as soon as there is a peer.
    pub tls: Option<TlsFiles>,
    /// Heartbeats and elections; the same on every node.
    pub timers: Timers,
    /// Log entries between two snapshots, at least 10. The log keeps a little more than that, so
    /// fewer entries mean a smaller directory and more writing.
    pub snapshot_every: u64,
}

/// One voter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id, for ever.
    pub id: NodeId,
    /// Where it listens for peers.
    pub address: SocketAddr,
    /// Whether it serves or only votes.
    pub role: Role,
}

/// What a voter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A load balancer.
    Node,
    /// The third vote: same engine, serves nothing, hands leadership over.
    Witness,
}

/// PEM files of the peer port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate of the cluster's own authority; nothing else is trusted.
    pub ca: PathBuf,
    /// This node's certificate, naming it (`node-<id>.<cluster>.trigon.internal`).
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
    /// A cluster of one in `state_dir`: no peers, no listener.
    pub fn single(node_id: NodeId, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            cluster_name: "trigon".to_owned(),
            node_id,
            state_dir: state_dir.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            members: Vec::new(),
            tls: None,
            timers: Timers::default(),
            snapshot_every: 10_000,
        }
    }

    /// This node's role; a cluster of one is always a node.
    pub fn role(&self) -> Role {
        self.members
            .iter()
            .find(|member| member.id == self.node_id)
            .map_or(Role::Node, |member| member.role)
    }

    /// Everything wrong with the values, without looking at any file.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut report = |key, text: String| found.push(Problem { key, text });
        if !is_label(&self.cluster_name) {
            report(
                "cluster.name",
                format!(
                    "{:?} is not a name; use 1 to 40 of a-z, 0-9 and inner hyphens",
                    self.cluster_name
                ),
            );
        }
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
        if self.members.is_empty() {
            return found;
        }
        let mut ids = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for member in &self.members {
            if !ids.insert(member.id) {
                report("cluster.members", format!("id {} is there twice", member.id));
            }
            if !addresses.insert(member.address) {
                report("cluster.members", format!("address {} is there twice", member.address));
            }
            if member.address.port() == 0 || member.address.ip().is_unspecified() {
                report(
                    "cluster.members",
                    format!(
                        "{} of node {} cannot be reached by peers; name its real address and port",
                        member.address, member.id
                    ),
                );
            }
        }
        if !ids.contains(&self.node_id) {
            report(
                "node.id",
                format!("{} is not among cluster.members {ids:?}; add it there", self.node_id),
            );
        }
        if self.members.iter().all(|member| member.role == Role::Witness) {
            report("cluster.members", "only witnesses; at least one needs role \"node\"".into());
        }
        if self.members.len() > 1 && self.tls.is_none() {
            report(
                "cluster.certificate",
                "missing; peers only talk over mutual TLS, set ca, certificate and key".into(),
            );
        }
        found
    }
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

    fn member(id: NodeId, port: u16, role: Role) -> Member {
        Member { id, address: SocketAddr::from(([192, 0, 2, 1], port)), role }
    }

    fn three() -> Config {
        let tls = TlsFiles { ca: "ca".into(), certificate: "c".into(), key: "k".into() };
        Config {
            members: vec![
                member(1, 1, Role::Node),
                member(2, 2, Role::Node),
                member(3, 3, Role::Witness),
            ],
            tls: Some(tls),
            ..Config::single(1, "/nowhere")
        }
    }

    #[test]
    fn a_problem_names_its_key() {
        type Edit = fn(&mut Config);
        let table: [(&str, Edit, &[&str]); 10] = [
            ("three members", |_| {}, &[]),
            ("alone", |c| c.members.clear(), &[]),
            ("capital name", |c| c.cluster_name = "Alpha".into(), &["cluster.name"]),
            ("empty name", |c| c.cluster_name.clear(), &["cluster.name"]),
            ("not a member", |c| c.node_id = 9, &["node.id"]),
            ("twice", |c| c.members[1].id = 1, &["cluster.members"]),
            ("port 0", |c| c.members[1].address.set_port(0), &["cluster.members"]),
            ("a snapshot each entry", |c| c.snapshot_every = 1, &["cluster.snapshot_every"]),
            ("no tls", |c| c.tls = None, &["cluster.certificate"]),
            (
                "hasty elections",
                |c| c.timers.election_min = Duration::from_millis(200),
                &["cluster.timers"],
            ),
        ];
        for (name, edit, expected) in table {
            let mut config = three();
            edit(&mut config);
            let keys: Vec<_> = config.problems().into_iter().map(|problem| problem.key).collect();
            assert_eq!(keys, expected, "{name}");
        }
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let mut config = three();
        config.cluster_name = "-".into();
        config.tls = None;
        assert_eq!(config.problems().len(), 2);
    }
}
