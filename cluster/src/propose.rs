//! Bringing a change to the leader, wherever it is, and waiting until it shows here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::codec;
use crate::command::{Command, Reply};
use crate::engine::{Engine, Own, Standing};
use crate::error::ProposeError;
use crate::mutation::mutated;
use crate::network::{Answer, Request, Unconfirmed};
use crate::state::{Ticket, WINDOW};
use crate::types::{Proposal, RaftId, number_of};

/// Largest encoded command in one log entry, in bytes.
pub(crate) const MAX_COMMAND: usize = 64 << 10;

/// Pause before trying again while an election is under way.
const RETRY: Duration = Duration::from_millis(50);

/// Gives every proposal of this process its name. A node of a pair that comes to another group
/// goes on with the same one, so that a proposal may begin in one group and be settled in the next.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    boot: OnceLock<u64>,
    next: AtomicU64,
}

impl Tickets {
    fn draw(&self, own: &Own) -> Ticket {
        let boot = *self.boot.get_or_init(|| own.boot);
        Ticket { node: own.number, boot, seq: self.next.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Engine {
    /// Proposes a change of this node and waits at most `within` until it shows here.
    pub(crate) async fn propose(
        &self,
        command: Command,
        within: Duration,
    ) -> Result<Reply, ProposeError> {
        let proposal = self.proposal(command)?;
        let began = Instant::now();
        let settled = self.settle(&proposal, began + within).await;
        self.measures.proposed(settled.is_ok(), began.elapsed());
        settled
    }

    /// A change of this node, to be [settled](Self::settle).
    pub(crate) fn proposal(&self, command: Command) -> Result<Proposal, ProposeError> {
        fits(&command)?;
        self.is_understood(&command)?;
        let ticket = Some(self.tickets.draw(&self.own));
        Ok(Proposal { ticket, at: (self.clock)(), command: Arc::new(command) })
    }

    /// Brings a proposal to the engine here, or over the wire to the leader. The same ticket goes
    /// with every attempt, so trying again after a lost leader is safe.
    pub(crate) async fn settle(
        &self,
        proposal: &Proposal,
        deadline: Instant,
    ) -> Result<Reply, ProposeError> {
        let _permit = self.own_open.try_acquire().map_err(|_| ProposeError::Busy)?;
        loop {
            // A leader that died silently must not use up all the time there is.
            let attempt_ends = deadline.min(Instant::now() + 2 * self.lease());
            let outcome = match self.standing() {
                Standing::Leads => self.write(proposal.clone(), attempt_ends).await,
                Standing::Follows(leader) => self.forward(leader, proposal, attempt_ends).await,
                Standing::Leaderless => Err(Unconfirmed::NotLeader),
                Standing::Stopped => return Err(ProposeError::Stopped),
            };
            match outcome {
                Ok((reply, index)) => {
                    // Confirmed even if this node does not see it in time.
                    if !mutated!(OwnWriteNotAwaited) {
                        let _ =
                            timeout_at(deadline, self.view.wait_for(self.own.group, index)).await;
                    }
                    return Ok(reply);
                }
                Err(reason @ (Unconfirmed::Busy | Unconfirmed::DiskFull)) => {
                    return Err(reason.into());
                }
                Err(reason) => {
                    let retry = Instant::now() + RETRY;
                    if retry >= deadline || self.is_outdated(proposal) {
                        return Err(reason.into());
                    }
                    sleep_until(retry).await;
                }
            }
        }
    }

    /// Writes a proposal, of this node or forwarded, if this node leads with a quorum.
    pub(crate) async fn write(
        &self,
        proposal: Proposal,
        deadline: Instant,
    ) -> Result<(Reply, u64), Unconfirmed> {
        if self.standing() != Standing::Leads {
            return Err(Unconfirmed::NotLeader);
        }
        if self.space.is_full() {
            return Err(Unconfirmed::DiskFull);
        }
        if mutated!(ConfirmedEarly) {
            let raft = self.raft.clone();
            tokio::spawn(async move { raft.client_write(proposal).await });
            return Ok((Reply::Done, 0));
        }
        let is_durable = proposal.ticket.is_some();
        match timeout_at(deadline, self.raft.client_write(proposal)).await {
            Ok(Ok(written)) => {
                let index = written.log_id.index;
                if is_durable {
                    self.wait_for_learner(index, deadline).await;
                }
                Ok((written.data, index))
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Err(Unconfirmed::NotLeader)
            }
            Ok(Err(_)) | Err(_) => Err(Unconfirmed::Unknown),
        }
    }

    /// Waits until the view shows everything that was confirmed before now.
    pub(crate) async fn confirm(&self, within: Duration) -> Result<(), ProposeError> {
        let deadline = Instant::now() + within;
        loop {
            let confirmed = match self.standing() {
                Standing::Leads => self.confirmed(deadline).await,
                Standing::Follows(leader) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    match self.call(leader, Request::Confirm, left).await {
                        Ok(Answer::Confirmed(entries)) => Ok(entries),
                        Ok(_) | Err(_) => Err(Unconfirmed::Unknown),
                    }
                }
                Standing::Leaderless => Err(Unconfirmed::NotLeader),
                Standing::Stopped => return Err(ProposeError::Stopped),
            };
            if let Ok(entries) = confirmed
                && let Some(last) = entries.checked_sub(1)
            {
                let seen = timeout_at(deadline, self.view.wait_for(self.own.group, last)).await;
                return seen.map_err(|_| ProposeError::NoQuorum);
            }
            let retry = Instant::now() + RETRY;
            if retry >= deadline {
                return Err(ProposeError::NoQuorum);
            }
            sleep_until(retry).await;
        }
    }

    /// As leader: how many entries were confirmed, once a majority has said that it still leads.
    pub(crate) async fn confirmed(&self, deadline: Instant) -> Result<u64, Unconfirmed> {
        if self.standing() != Standing::Leads {
            return Err(Unconfirmed::NotLeader);
        }
        match timeout_at(deadline, self.raft.ensure_linearizable()).await {
            Ok(Ok(read)) => Ok(read.map_or(0, |id| id.index + 1)),
            Ok(Err(_)) | Err(_) => Err(Unconfirmed::NotLeader),
        }
    }

    async fn forward(
        &self,
        leader: RaftId,
        proposal: &Proposal,
        deadline: Instant,
    ) -> Result<(Reply, u64), Unconfirmed> {
        let within = deadline.saturating_duration_since(Instant::now());
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Propose { proposal: proposal.clone(), within_ms };
        match self.call(leader, request, within).await {
            Ok(Answer::Proposed { reply, index }) => Ok((reply, index)),
            Ok(Answer::Unconfirmed(reason)) => Err(reason),
            Ok(_) => Err(Unconfirmed::Unknown),
            Err(error) => {
                tracing::debug!(
                    leader = number_of(leader),
                    error = &error as &dyn std::error::Error,
                    "proposal not forwarded"
                );
                Err(Unconfirmed::Unknown)
            }
        }
    }

    /// Whether the state may soon have forgotten this ticket.
    fn is_outdated(&self, proposal: &Proposal) -> bool {
        let newest = self.tickets.next.load(Ordering::Relaxed);
        proposal.ticket.is_some_and(|ticket| newest.saturating_sub(ticket.seq) > WINDOW / 2)
    }
}

/// Whether the command fits one entry.
pub(crate) fn fits(command: &Command) -> Result<(), ProposeError> {
    let found = codec::encode(command).map_or(usize::MAX, |bytes| bytes.len());
    if found > MAX_COMMAND {
        return Err(ProposeError::TooLarge { found, limit: MAX_COMMAND });
    }
    Ok(())
}
