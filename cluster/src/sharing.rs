//! Sends soft changes in batches: on the leader as one log entry, elsewhere as one message to
//! the leader. Nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use crate::command::{Command, Soft, SoftBatch};
use crate::engine::{Engine, Standing};
use crate::network::{Answer, Request, Unconfirmed};
use crate::types::Proposal;

/// How long changes are collected.
const FLUSH: Duration = Duration::from_millis(50);

/// Batches on their way at once.
const IN_FLIGHT: usize = 2;

/// A follower's message must be taken over by the leader within this time.
const FORWARD_LIMIT: Duration = Duration::from_millis(500);

/// A leader's entry must be committed within this time.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// Pause while nobody leads.
const LEADERLESS: Duration = Duration::from_millis(200);

impl Engine {
    /// Queues one change; takes a short lock and never waits.
    pub(crate) fn share(&self, soft: Soft) {
        self.queue().share(soft);
        self.wake_sharing.notify_one();
    }

    /// Takes over what another node collected.
    pub(crate) fn share_batch(&self, batch: SoftBatch) {
        self.queue().merge(batch);
        self.wake_sharing.notify_one();
    }

    /// Sends until dropped.
    pub(crate) async fn run_sharing(self: Arc<Self>) {
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
        loop {
            self.wake_sharing.notified().await;
            let flush_at = Instant::now() + FLUSH;
            while !self.queue().is_full() && Instant::now() < flush_at {
                tokio::select! {
                    () = tokio::time::sleep_until(flush_at) => {}
                    () = self.wake_sharing.notified() => {}
                }
            }
            loop {
                let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else { return };
                let Some(batch) = self.queue().take((self.clock)()) else { break };
                tokio::spawn(Arc::clone(&self).send(batch, permit));
            }
        }
    }

    async fn send(self: Arc<Self>, batch: SoftBatch, permit: OwnedSemaphorePermit) {
        let outcome = match self.standing() {
            Standing::Leads => self.write_batch(&batch).await,
            Standing::Follows(leader) => {
                let request = Request::Share(batch.clone());
                match self.peers.call(leader, request, FORWARD_LIMIT).await {
                    Ok(Answer::Shared) => Ok(()),
                    Ok(_) => Err(Unconfirmed::Unknown),
                    Err(error) if error.is_undelivered() => Err(Unconfirmed::NotLeader),
                    Err(_) => Err(Unconfirmed::Unknown),
                }
            }
            Standing::Leaderless | Standing::Stopped => Err(Unconfirmed::NotLeader),
        };
        match outcome {
            Ok(()) => {}
            Err(Unconfirmed::NotLeader | Unconfirmed::Busy) => {
                self.queue().put_back(batch);
                sleep(LEADERLESS).await;
                self.wake_sharing.notify_one();
            }
            Err(Unconfirmed::Unknown) => self.queue().give_up(&batch),
        }
        drop(permit);
    }

    async fn write_batch(&self, batch: &SoftBatch) -> Result<(), Unconfirmed> {
        let command = Arc::new(Command::Soft(batch.clone()));
        let proposal = Proposal { ticket: None, command };
        self.write(proposal, Instant::now() + WRITE_LIMIT).await.map(|_| ())
    }
}
