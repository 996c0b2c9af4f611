//! A witness that came to lead lets go as soon as a serving node can take over, and so does a node
//! whose clock is off, since its stamps decide when things expire, and one whose disk is full.
//!
//! The engine has no transfer of leadership: the witness stops its heartbeats and does not stand
//! for election until it sees another leader. It must stay electable otherwise, because it may be
//! the only one left that has an entry the others need.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::ServerState;
use tokio::time::{Instant, sleep};

use crate::config::Role;
use crate::engine::{Engine, Standing};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// A node this close behind is caught up.
const CLOSE: u64 = 16;

/// How many leases to stay silent before taking leadership back.
const PATIENCE: u32 = 6;

impl Engine {
    /// Watches until dropped.
    pub(crate) async fn run_handover(self: Arc<Self>) {
        loop {
            sleep(PAUSE).await;
            if self.standing() != Standing::Leads {
                continue;
            }
            let Some(reason) = self.reason_to_go() else { continue };
            if self.has_heir() {
                self.let_go(reason).await;
            }
        }
    }

    fn reason_to_go(&self) -> Option<&'static str> {
        if self.own.role == Role::Witness {
            return Some("a witness leads and a node is ready");
        }
        if self.space.asks_for_another_leader() {
            return Some("the disk of the leader is full");
        }
        let local = self.view.local();
        self.timekeeper().error(local).map(|_| "the clock of the leader is off")
    }

    /// Whether another serving node is reachable and caught up.
    fn has_heir(&self) -> bool {
        self.status().voters.iter().any(|voter| {
            voter.id != self.own.number
                && voter.role == Role::Node
                && voter.reachable == Some(true)
                && voter.lag.is_some_and(|lag| lag <= CLOSE)
        })
    }

    async fn let_go(&self, reason: &str) {
        tracing::info!(reason, "handing leadership over");
        // New entries would go out like heartbeats and renew the leases.
        self.letting_go.store(true, Ordering::Relaxed);
        self.space.handed_over();
        self.raft.runtime_config().heartbeat(false);
        self.raft.runtime_config().elect(false);
        let deadline = Instant::now() + PATIENCE * self.lease();
        while Instant::now() < deadline && !self.sees_other_leader() {
            sleep(PAUSE / 10).await;
        }
        self.raft.runtime_config().elect(true);
        self.raft.runtime_config().heartbeat(true);
        self.letting_go.store(false, Ordering::Relaxed);
    }

    fn sees_other_leader(&self) -> bool {
        let metrics = self.metrics();
        metrics.state != ServerState::Leader
            && metrics.current_leader.is_some_and(|leader| leader != self.own.raft_id)
    }
}
