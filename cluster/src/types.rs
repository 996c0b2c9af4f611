//! What the engine is parameterised with, and the short names of its types.

use std::io::Cursor;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::{Command, Reply};
use crate::dice::Runtime;
use crate::record::{Millis, NodeId};
use crate::state::Ticket;

/// A member as the raft group knows it: its number, and in the upper half how often it came back
/// with an empty log by consent of the cluster. Only the engine, what it stores and what it sends
/// know these ids; everything else knows numbers.
pub type RaftId = u64;

/// The raft id of a member.
pub const fn raft_id(number: NodeId, incarnation: u32) -> RaftId {
    number + ((incarnation as u64) << 32)
}

/// The number of the member behind a raft id.
pub const fn number_of(id: RaftId) -> NodeId {
    id & 0xffff_ffff
}

openraft::declare_raft_types!(
    /// Members are bare ids: where a member listens stands in the replicated members.
    pub(crate) Types:
        D = Proposal,
        R = Reply,
        NodeId = RaftId,
        Node = (),
        AsyncRuntime = Runtime,
);

/// What a log entry carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// Keeps a repeated proposal from being applied twice; soft changes have none.
    pub(crate) ticket: Option<Ticket>,
    /// When it was proposed, by the proposer's clock; what branches are merged by.
    pub(crate) at: Millis,
    /// Shared, because the engine clones entries on their way to disk and to each peer.
    pub(crate) command: Arc<Command>,
}

pub(crate) type Raft = openraft::Raft<Types>;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<RaftId>;
pub(crate) type Vote = openraft::Vote<RaftId>;
pub(crate) type Membership = openraft::Membership<RaftId, ()>;
pub(crate) type StoredMembership = openraft::StoredMembership<RaftId, ()>;
pub(crate) type Metrics = openraft::RaftMetrics<RaftId, ()>;
pub(crate) type StorageError = openraft::StorageError<RaftId>;
pub(crate) type StorageIOError = openraft::StorageIOError<RaftId>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<RaftId, ()>;
pub(crate) type Snapshot = openraft::Snapshot<Types>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_comes_back_empty_has_another_raft_id_and_the_same_number() {
        assert_eq!(raft_id(3, 0), 3);
        assert_eq!(raft_id(3, 2), 0x2_0000_0003);
        assert_eq!(number_of(raft_id(3, 2)), 3);
    }
}
