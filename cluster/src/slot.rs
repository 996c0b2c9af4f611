//! The engine a node runs now. Handles and the peer port ask here each time, so that a node of a
//! pair can come to another raft group without anybody having to know. Whoever is refused by an
//! engine that has stopped asks [`after`](Slot::after) it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::command::{Command, Reply};
use crate::engine::Engine;
use crate::error::ProposeError;
use crate::group::Group;
use crate::network::{Answer, JoinRequest, Judgement, Request, Service};
use crate::record::{NodeId, TunnelKey};
use crate::relay::{Opened, RelayRefusal};
use crate::types::RaftId;

/// Clones hold the same engine.
#[derive(Clone)]
pub(crate) struct Slot {
    engine: Arc<ArcSwap<Engine>>,
    /// Whether another engine is on its way to take its place.
    is_changing: watch::Sender<bool>,
}

/// While it lives, another engine is on its way.
pub(crate) struct Changing(watch::Sender<bool>);

impl Drop for Changing {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

impl Slot {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine: Arc::new(ArcSwap::new(engine)), is_changing: watch::Sender::new(false) }
    }

    pub(crate) fn engine(&self) -> Arc<Engine> {
        self.engine.load_full()
    }

    /// To be called before the engine is stopped for another one's sake.
    pub(crate) fn begin_change(&self) -> Changing {
        self.is_changing.send_replace(true);
        Changing(self.is_changing.clone())
    }

    pub(crate) fn put(&self, engine: Arc<Engine>) {
        self.engine.store(engine);
    }

    /// The engine that took the place of one that has stopped, or is about to; none: the node
    /// stops.
    async fn after(&self, stopped: &Arc<Engine>) -> Option<Arc<Engine>> {
        // The other one is put in before the change is over.
        let _ = self.is_changing.subscribe().wait_for(|changing| !changing).await;
        let engine = self.engine();
        (!Arc::ptr_eq(&engine, stopped)).then_some(engine)
    }

    /// As [`Engine::propose`], from one engine to the next.
    pub(crate) async fn propose(
        &self,
        command: Command,
        within: Duration,
    ) -> Result<Reply, ProposeError> {
        let began = Instant::now();
        let deadline = began + within;
        let mut engine = self.engine();
        let proposal = engine.proposal(command)?;
        loop {
            match engine.settle(&proposal, deadline).await {
                Err(ProposeError::Stopped) => engine = self.next(&engine, deadline).await?,
                settled => {
                    engine.measures.proposed(settled.is_ok(), began.elapsed());
                    return settled;
                }
            }
        }
    }

    /// As [`Engine::confirm`], from one engine to the next.
    pub(crate) async fn confirm(&self, within: Duration) -> Result<(), ProposeError> {
        let deadline = Instant::now() + within;
        let mut engine = self.engine();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match engine.confirm(left).await {
                Err(ProposeError::Stopped) => engine = self.next(&engine, deadline).await?,
                confirmed => return confirmed,
            }
        }
    }

    async fn next(
        &self,
        stopped: &Arc<Engine>,
        deadline: Instant,
    ) -> Result<Arc<Engine>, ProposeError> {
        let next = timeout_at(deadline, self.after(stopped)).await;
        next.map_err(|_elapsed| ProposeError::NoQuorum)?.ok_or(ProposeError::Stopped)
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
