//! How the rest of the product talks to the replicated state: read the local view, propose a
//! change and wait, or share a soft change and forget it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::command::{Command, Reply, Soft, SoftBatch};
use crate::config::Role;
use crate::error::ProposeError;
use crate::record::NodeId;
use crate::state::State;
use crate::status::{ClusterStatus, RaftState, VoterStatus};

/// A cheap, cloneable door to the cluster.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    view: ArcSwap<State>,
    changed: watch::Sender<u64>,
    write: Mutex<()>,
}

impl Handle {
    /// A cluster of one that lives in memory: what tests use instead of mocks.
    pub fn in_memory(node: NodeId) -> Self {
        let (changed, _) = watch::channel(0);
        let inner = Inner { node, view: ArcSwap::default(), changed, write: Mutex::new(()) };
        Self { inner: Arc::new(inner) }
    }

    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        self.inner.node
    }

    /// The state as this node knows it now. Lock-free; may lag the leader, never blocks.
    pub fn view(&self) -> Arc<State> {
        self.inner.view.load_full()
    }

    /// Runs `read` on the local state without counting references: for the request path.
    pub fn read<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        read(&self.inner.view.load())
    }

    /// Wakes whenever the local view has changed; the value is the number of the change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// Proposes a durable change and waits until it is applied here, at most `within`.
    ///
    /// # Errors
    /// [`ProposeError`]: the change was not confirmed; it may still happen later.
    pub async fn propose(&self, command: Command, within: Duration) -> Result<Reply, ProposeError> {
        let _ = within;
        Ok(self.apply(&command))
    }

    /// Hands over a soft change to be batched. Never waits; under pressure it is dropped and
    /// counted.
    pub fn share(&self, soft: Soft) {
        let mut batch = SoftBatch { now: crate::clock::now(), ..SoftBatch::default() };
        match soft {
            Soft::Session(key, session) => batch.sessions.push((key, session)),
            Soft::Strike(strike) => batch.strikes.push(strike),
        }
        self.apply(&Command::Soft(batch));
    }

    /// What this node knows about the cluster now.
    pub fn status(&self) -> ClusterStatus {
        let node_id = self.inner.node;
        ClusterStatus {
            node_id,
            role: Role::Node,
            state: RaftState::Leader,
            term: 0,
            leader: Some(node_id),
            quorum: true,
            last_log: None,
            last_applied: None,
            voters: vec![VoterStatus {
                id: node_id,
                role: Role::Node,
                address: None,
                reachable: Some(true),
                lag: Some(0),
            }],
            dropped_soft: 0,
            refused_peers: 0,
        }
    }

    fn apply(&self, command: &Command) -> Reply {
        let _one_at_a_time = self.inner.write.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = State::clone(&self.inner.view.load());
        let reply = state.apply(command);
        self.inner.view.store(Arc::new(state));
        self.inner.changed.send_modify(|n| *n += 1);
        reply
    }
}
