//! The engine a node runs now. Handles and the peer port ask here each time, so that a node of a
//! pair can come to another raft group without anybody having to know.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::engine::Engine;
use crate::group::Group;
use crate::network::{Answer, JoinRequest, Judgement, Request, Service};
use crate::record::{NodeId, TunnelKey};
use crate::relay::{Opened, RelayRefusal};
use crate::types::RaftId;

/// Clones hold the same engine.
#[derive(Clone)]
pub(crate) struct Slot(Arc<ArcSwap<Engine>>);

impl Slot {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self(Arc::new(ArcSwap::new(engine)))
    }

    pub(crate) fn engine(&self) -> Arc<Engine> {
        self.0.load_full()
    }

    pub(crate) fn put(&self, engine: Arc<Engine>) {
        self.0.store(engine);
    }
}

impl Service for Slot {
    fn group(&self) -> Group {
        self.engine().group()
    }

    fn raft_id(&self) -> RaftId {
        self.engine().raft_id()
    }

    fn leader(&self) -> Option<NodeId> {
        self.engine().leader()
    }

    fn judge(&self, number: NodeId) -> Judgement {
        self.engine().judge(number)
    }

    async fn answer(&self, from: RaftId, request: Request) -> Answer {
        self.engine().answer(from, request).await
    }

    async fn relay(&self, from: NodeId, tunnel: TunnelKey) -> Result<Opened, RelayRefusal> {
        self.engine().relay(from, tunnel).await
    }

    async fn admit(&self, request: JoinRequest) -> Answer {
        self.engine().admit(request).await
    }
}
