//! Sends soft changes in parts to the leader, where those of all nodes become one log entry at a
//! time. Nobody waits for it.
//!
//! On every node: `Batcher` collects for a moment, what it gives out is sent until the leader says
//! that it is applied, or until it is worth nothing any more; the state applies it once, however
//! often it was sent. On the leader: `Merger` collects what comes in, `Timekeeper` puts the stamp
//! on it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::batch::Load;
use crate::command::{Command, Soft, SoftBatch, SoftPart};
use crate::config::SessionReplication;
use crate::engine::{Engine, Standing};
use crate::guarded::guarded;
use crate::network::{Answer, Request, Unconfirmed};
use crate::record::Moment;
use crate::types::Proposal;

/// How long changes are collected on a node, and the time between two entries of a leader.
const FLUSH: Duration = Duration::from_millis(50);

/// Parts of a node, and entries of a leader, on their way at once.
const IN_FLIGHT: usize = 2;

/// A part must be applied within this time, else it is sent again.
const FORWARD_LIMIT: Duration = Duration::from_millis(500);

/// A leader's entry must be committed within this time.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// Pause before a part is sent again.
const RETRY: Duration = Duration::from_millis(200);

/// How often a leader looks whether something expired while nothing was shared.
const TICK: Duration = Duration::from_secs(1);

/// How often an alarm about a clock is repeated.
const ALARM_EVERY: Duration = Duration::from_secs(60);

/// Told what became of a part.
pub(crate) type Outcome = oneshot::Sender<Result<(), Unconfirmed>>;

impl Engine {
    /// Queues one change; takes a short lock and never waits.
    pub(crate) fn share(&self, soft: Soft) {
        let is_off = self.config.session_replication == SessionReplication::Off;
        if is_off && matches!(soft, Soft::Session { .. }) {
            return;
        }
        let now = self.view.local();
        let mut queue = self.queue();
        let was_empty = queue.is_empty();
        match soft {
            Soft::Session { key, user, lifetime } => {
                queue.session(key, user, crate::clock::millis(lifetime), now);
            }
            Soft::Strike(strike) => queue.strike(strike.address, strike.at),
        }
        // Thousands come a second: what is added to others goes with them.
        let is_news = was_empty && !queue.is_empty() || queue.is_full();
        drop(queue);
        if is_news {
            self.wake_sharing.notify_one();
        }
    }

    /// Sends what this node collects, until dropped.
    pub(crate) async fn run_sharing(self: Arc<Self>) {
        let mut sending = JoinSet::new();
        loop {
            self.wake_sharing.notified().await;
            let flush_at = Instant::now() + FLUSH;
            while !self.queue().is_full() && Instant::now() < flush_at {
                tokio::select! {
                    () = sleep_until(flush_at) => {}
                    () = self.wake_sharing.notified() => {}
                }
            }
            loop {
                while sending.len() >= IN_FLIGHT {
                    sending.join_next().await;
                }
                let now = self.view.local();
                let Some(load) = self.queue().take(now) else { break };
                sending.spawn(guarded(Arc::clone(&self).send(load)));
            }
        }
    }

    /// Sends one load until it is applied or has expired.
    async fn send(self: Arc<Self>, load: Load) {
        loop {
            let Moment { wall, local } = self.moment();
            let Some(part) = load.part(local, wall) else {
                self.queue().give_up(&load);
                return;
            };
            let delivered = match self.standing() {
                Standing::Leads => self.merge(part).await,
                Standing::Follows(leader) => {
                    let request = Request::Share(part);
                    match self.call(leader, request, FORWARD_LIMIT).await {
                        Ok(Answer::Shared) => Ok(()),
                        Ok(_) | Err(_) => Err(Unconfirmed::Unknown),
                    }
                }
                Standing::Leaderless => Err(Unconfirmed::NotLeader),
                Standing::Stopped => return,
            };
            if delivered.is_ok() {
                return;
            }
            sleep(RETRY).await;
        }
    }

    /// As leader: takes a part of any node into the next entry and waits until it is applied.
    pub(crate) async fn merge(&self, part: SoftPart) -> Result<(), Unconfirmed> {
        if self.standing() != Standing::Leads {
            return Err(Unconfirmed::NotLeader);
        }
        let (tell, told) = oneshot::channel();
        let now = self.view.local();
        self.merger().add(part, now, tell).map_err(|_full| Unconfirmed::Busy)?;
        self.wake_merging.notify_one();
        match timeout(FORWARD_LIMIT, told).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(Unconfirmed::Unknown),
        }
    }

    /// Makes entries of what was handed in, until dropped. Does something only on a leader.
    pub(crate) async fn run_merging(self: Arc<Self>) {
        let mut writing = JoinSet::new();
        let mut last = Instant::now();
        loop {
            tokio::select! {
                () = self.wake_merging.notified() => {}
                () = sleep_until(last + TICK) => {}
            }
            loop {
                // Also after an entry that was refused at once, or this would spin.
                sleep_until(last + FLUSH).await;
                while writing.len() >= IN_FLIGHT {
                    writing.join_next().await;
                }
                last = Instant::now();
                let Some((batch, outcomes)) = self.next_entry() else { break };
                writing.spawn(guarded(Arc::clone(&self).write_batch(batch, outcomes)));
            }
        }
    }

    /// The next entry, if there is reason for one: something was handed in, or something expired
    /// that only a later stamp removes.
    fn next_entry(&self) -> Option<(SoftBatch, Vec<Outcome>)> {
        if self.standing() != Standing::Leads {
            for outcome in self.merger().drain() {
                // Whoever waited may have given up.
                let _ = outcome.send(Err(Unconfirmed::NotLeader));
            }
            return None;
        }
        let Moment { wall, local } = self.moment();
        let (clock, next_expiry) = self.view.read(|state| (state.clock(), state.next_expiry()));
        let due = next_expiry.is_some_and(|expiry| clock < expiry && expiry <= wall);
        let mut merger = self.merger();
        if merger.is_empty() && !due {
            return None;
        }
        let stamp = self.timekeeper().stamp(wall, clock, local);
        Some(merger.take(local, stamp))
    }

    async fn write_batch(self: Arc<Self>, batch: SoftBatch, outcomes: Vec<Outcome>) {
        let at = batch.now;
        let proposal = Proposal { ticket: None, at, command: Arc::new(Command::Soft(batch)) };
        let written = self.write(proposal, Instant::now() + WRITE_LIMIT).await.map(|_| ());
        for outcome in outcomes {
            let _ = outcome.send(written);
        }
    }

    /// Reports a clock that is off, at most once a minute, and keeps in mind that this node leads,
    /// until dropped.
    pub(crate) async fn run_watch(self: Arc<Self>) {
        let mut told_at = None;
        loop {
            sleep(TICK / 2).await;
            if self.standing() == Standing::Leads {
                self.view.touch();
            }
            if told_at.is_some_and(|at: Instant| at.elapsed() < ALARM_EVERY) {
                continue;
            }
            let local = self.view.local();
            let (stranger, error) = {
                let keeper = self.timekeeper();
                (keeper.stranger(local), keeper.error(local))
            };
            if let Some(behind_ms) = error {
                tracing::error!(
                    behind_ms,
                    "the clock of this node is off: check its time synchronisation"
                );
            } else if let Some((node, ahead_ms)) = stranger {
                tracing::warn!(node, ahead_ms, "clocks differ: check the time synchronisation");
            }
            let told = error.is_some() || stranger.is_some();
            told_at = told.then(Instant::now);
        }
    }
}
