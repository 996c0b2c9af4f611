//! What a node knows about the cluster, for the status page and for VRRP's priority. Plain
//! values.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::config::Role;
use crate::group::Group;
use crate::pair::PairStatus;
use crate::record::NodeId;

/// One node's opinion of the cluster at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Who says this.
    pub node_id: NodeId,
    /// Serves or only votes.
    pub role: Role,
    /// Part it plays now.
    pub state: RaftState,
    /// The raft group it takes part in.
    pub group: Group,
    /// Raft term.
    pub term: u64,
    /// Leader as far as known here.
    pub leader: Option<NodeId>,
    /// Whether a change proposed here now should be confirmed: a leader that a majority answered
    /// within the lease, or a follower that heard its leader within the lease.
    pub quorum: bool,
    /// Index of the last entry in the local log.
    pub last_log: Option<u64>,
    /// Index of the last entry applied to the local view.
    pub last_applied: Option<u64>,
    /// Whoever votes.
    pub voters: Vec<VoterStatus>,
    /// Whether a change of who votes is under way: until it is over a quorum of the voters before
    /// is needed too.
    pub changing: bool,
    /// Whoever gets the log but has no vote.
    pub learners: Vec<VoterStatus>,
    /// Soft changes given up since start.
    pub dropped_soft: u64,
    /// Connections to the peer port that were refused since start.
    pub refused_peers: u64,
    /// Whether this node takes no changes because its disk is full.
    pub disk_full: bool,
    /// The clock that is off, as far as this node can tell: only a leader hears the others'.
    pub clock_off: Option<ClockOff>,
    /// How the pair stands; none: this cluster is no pair.
    pub pair: Option<PairStatus>,
}

/// A wall clock that is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOff {
    /// Whose it is. Of two nodes nobody can tell which one's; then it is the other one's.
    pub node: NodeId,
    /// By how many milliseconds it is ahead of what most say, or of this node's; behind, if it is
    /// negative.
    pub ahead_ms: i64,
}

/// The part a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RaftState {
    /// Decides the order of changes.
    Leader,
    /// Follows a leader.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Gets the log but has no vote.
    Learner,
    /// Stopped, on request or because its storage failed.
    Shutdown,
}

/// One member of the raft group, as seen from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterStatus {
    /// Its number.
    pub id: NodeId,
    /// Its name; empty while it is not known here.
    pub name: String,
    /// Serves or only votes.
    pub role: Role,
    /// Where it listens; none for a cluster of one.
    pub address: Option<SocketAddr>,
    /// Whether it answered lately. Only a leader speaks to every voter and can tell.
    pub reachable: Option<bool>,
    /// Entries it has yet to store. Only a leader can tell.
    pub lag: Option<u64>,
}
