//! A witness that came to lead lets go as soon as a serving node can take over, and so does a node
//! whose clock is off, since its stamps decide when things expire, one whose disk is full, and one
//! that is drained.
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
use crate::mutation::mutated;
use crate::status::VoterStatus;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// A node this close behind is caught up.
const CLOSE: u64 = 16;

/// How many leases to stay silent before taking leadership back.
const PATIENCE: u32 = 6;

/// How many leases a node whose clock is off does not stand for election after it let go, so that
/// the witness can pass leadership on to the one whose clock is right.
const ABSTENTION: u32 = 10;

/// Without a leader for so many leases it stands again: a wrong clock is better than none. An heir
/// that once saw a longer log than its own takes four until it stands.
const FORLORN: u32 = 5;

/// Why a leader lets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Witness,
    Disk,
    Clock,
    /// It is asked to rest.
    Rest,
}

impl Engine {
    /// Watches until dropped.
    pub(crate) async fn run_handover(self: Arc<Self>) {
        loop {
            sleep(PAUSE).await;
            self.raft.runtime_config().elect(!self.rests());
            if self.standing() != Standing::Leads {
                continue;
            }
            let Some(reason) = self.reason_to_go() else { continue };
            if self.has_heir(reason) {
                self.let_go(reason).await;
            }
        }
    }

    fn reason_to_go(&self) -> Option<Reason> {
        if self.own.role == Role::Witness && !mutated!(WitnessKeepsLeading) {
            return Some(Reason::Witness);
        }
        if self.space.asks_for_another_leader() {
            return Some(Reason::Disk);
        }
        if self.errands.is_resting() {
            return Some(Reason::Rest);
        }
        let local = self.view.local();
        self.timekeeper().error(local).map(|_| Reason::Clock)
    }

    /// Whether another serving node is reachable, caught up and better in what this one lacks.
    fn has_heir(&self, reason: Reason) -> bool {
        self.status().voters.iter().any(|voter| {
            voter.id != self.own.number
                && voter.role == Role::Node
                && voter.reachable == Some(true)
                && voter.lag.is_some_and(|lag| lag <= CLOSE)
                // With two clocks that are off they would hand it back and forth.
                && (reason != Reason::Clock
                    || self.timekeeper().is_right(voter.id, self.view.local()))
        })
    }

    async fn let_go(&self, reason: Reason) {
        match reason {
            Reason::Witness => {
                tracing::info!("witness leads and a node is ready, handing leadership over");
            }
            Reason::Rest => {
                tracing::info!("this leader is drained, handing leadership over");
            }
            Reason::Disk => {
                tracing::warn!("the disk of this leader is full, handing leadership over");
            }
            Reason::Clock => {
                tracing::warn!("the clock of this leader is off, handing leadership over");
            }
        }
        // New entries would go out like heartbeats and renew the leases.
        self.letting_go.store(true, Ordering::Relaxed);
        self.space.handed_over();
        self.raft.runtime_config().heartbeat(false);
        self.raft.runtime_config().elect(false);
        let deadline = Instant::now() + PATIENCE * self.lease();
        while Instant::now() < deadline && !self.sees_other_leader() {
            sleep(PAUSE / 10).await;
        }
        self.raft.runtime_config().heartbeat(true);
        self.letting_go.store(false, Ordering::Relaxed);
        if reason == Reason::Clock && self.sees_other_leader() {
            self.abstain().await;
        }
        self.raft.runtime_config().elect(!self.rests());
    }

    /// Whether this node leaves elections to others. If it stood, leadership would come back to it
    /// as often as it lets go, with a gap without a quorum each time. As with a clock, a leader
    /// that is drained is better than none.
    fn rests(&self) -> bool {
        let other = |voter: &VoterStatus| voter.id != self.own.number && voter.role == Role::Node;
        self.errands.is_resting()
            && self.view.behind() < FORLORN * self.lease()
            && self.status().voters.iter().any(other)
    }

    async fn abstain(&self) {
        let end = Instant::now() + ABSTENTION * self.lease();
        while Instant::now() < end && self.view.behind() < FORLORN * self.lease() {
            sleep(PAUSE).await;
        }
    }

    fn sees_other_leader(&self) -> bool {
        let metrics = self.metrics();
        metrics.state != ServerState::Leader
            && metrics.current_leader.is_some_and(|leader| leader != self.own.raft_id)
    }
}
