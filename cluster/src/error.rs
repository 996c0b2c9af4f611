//! Why the cluster could not do what it was asked.

use std::path::PathBuf;

use crate::config::Problem;

/// A proposal that was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// No leader with a quorum was reached in time. The command may or may not be applied later.
    #[error("cluster: no quorum confirmed the change in time")]
    NoQuorum,
    /// Too many proposals are waiting already.
    #[error("cluster: too many changes are waiting")]
    Busy,
    /// The command is larger than one log entry may be; nothing was proposed.
    #[error("cluster: the change has {found} bytes, more than the {limit} of one entry")]
    TooLarge {
        /// Size of the encoded command.
        found: usize,
        /// Largest accepted.
        limit: usize,
    },
    /// The disk of the leader is full; nothing was proposed.
    #[error("cluster: the disk of the leader is full")]
    DiskFull,
    /// Some member runs a release that does not know the command; nothing was proposed.
    #[error(
        "cluster: every node has to run the newer release first (the change needs feature level \
         {needs}, the cluster has {level})"
    )]
    TooEarly {
        /// Level of the command.
        needs: u16,
        /// Level of the cluster.
        level: u16,
    },
    /// This node has stopped.
    #[error("cluster: this node has stopped")]
    Stopped,
}

/// A node that did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Values that cannot work; every problem at once.
    #[error("{}", list(.0))]
    Config(Vec<Problem>),
    /// A certificate file of the peer port.
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
    /// The peer port could not be opened.
    #[error("cluster.listen: {address} cannot be opened")]
    Listen {
        /// The address asked for.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The thread of the presence could not be started.
    #[error("the presence thread cannot be started")]
    Presence(#[source] std::io::Error),
    /// The state directory belongs to someone else.
    #[error(
        "node.state_dir: {} belongs to {found}, this is {expected}; point it to this node's own \
         directory", dir.display()
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// Its owner.
        found: String,
        /// This node.
        expected: String,
    },
    /// Nobody lives in the state directory yet.
    #[error(
        "node.state_dir: {} holds no node; found a cluster with `trigon init` or join one with \
         `trigon join`", .0.display()
    )]
    NoPassport(PathBuf),
    /// The passport.
    #[error("node.state_dir: {0}")]
    Passport(#[from] crate::passport::PassportError),
    /// A load balancer without the key of the cluster.
    #[error(
        "node.state_dir: {}: {text}; restore it from another load balancer of this cluster or a \
         backup with keys, or remove the node and join again", path.display()
    )]
    Kek {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        text: String,
    },
    /// The log of a node that took part already is gone.
    #[error(
        "node.state_dir: {} is missing: the votes and changes this node confirmed are lost, and \
         going on without them could undo changes. Remove the node on another one \
         (`trigon node remove {number}`), empty the state directory and `trigon join` again",
        dir.display()
    )]
    Lost {
        /// The directory.
        dir: PathBuf,
        /// This node.
        number: u64,
    },
    /// The state directory cannot be read or written.
    #[error("node.state_dir: {}: {text}", path.display())]
    Storage {
        /// File or directory.
        path: PathBuf,
        /// What is wrong and what to do.
        text: String,
    },
    /// Every member ran a newer release once.
    #[error(
        "cluster: its members have agreed on feature level {needs}, this release knows {knows}; \
         run the newer release of trigon"
    )]
    TooOld {
        /// Level of the cluster.
        needs: u16,
        /// Level of this release.
        knows: u16,
    },
    /// The engine refused to start on what it found on disk.
    #[error("cluster: the log could not be replayed: {0}")]
    Engine(String),
}

/// What helps a node whose own memory is damaged. Its number and its vote are lost with it, so it
/// must not come back under the same one.
pub(crate) const REJOIN: &str = "take this node out (`trigon node remove` on another node), move \
    the state directory away and let it join again (`trigon join`); if no other node is left, \
    restore a backup (`trigon restore`)";

fn list(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("; ")
}
