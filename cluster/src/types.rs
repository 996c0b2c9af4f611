//! What the engine is parameterised with, and the short names of its types.

use std::io::Cursor;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::{Command, Reply};
use crate::dice::Runtime;
use crate::record::NodeId;
use crate::state::Ticket;

openraft::declare_raft_types!(
    /// Members are bare ids: where a member listens is configuration, not replicated state.
    pub(crate) Types:
        D = Proposal,
        R = Reply,
        NodeId = NodeId,
        Node = (),
        AsyncRuntime = Runtime,
);

/// What a log entry carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// Keeps a repeated proposal from being applied twice; soft changes have none.
    pub(crate) ticket: Option<Ticket>,
    /// Shared, because the engine clones entries on their way to disk and to each peer.
    pub(crate) command: Arc<Command>,
}

pub(crate) type Raft = openraft::Raft<Types>;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<NodeId>;
pub(crate) type Vote = openraft::Vote<NodeId>;
pub(crate) type Membership = openraft::Membership<NodeId, ()>;
pub(crate) type StoredMembership = openraft::StoredMembership<NodeId, ()>;
pub(crate) type Metrics = openraft::RaftMetrics<NodeId, ()>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
pub(crate) type StorageIOError = openraft::StorageIOError<NodeId>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<NodeId, ()>;
pub(crate) type Snapshot = openraft::Snapshot<Types>;
