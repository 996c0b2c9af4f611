//! What this node answers its peers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::raft::AppendEntriesResponse;
use tokio::time::{Instant, timeout};

use crate::engine::{Engine, Standing};
use crate::network::{Answer, Request, Service, Unconfirmed};
use crate::propose::fits;
use crate::record::{NodeId, TunnelKey};
use crate::relay::{Opened, RelayRefusal};
use crate::snapshot::MAX_SNAPSHOT;

/// Longest the engine may think about a request; the peer has given up long before.
const LIMIT: Duration = Duration::from_secs(10);

impl Service for Engine {
    async fn answer(&self, from: NodeId, request: Request) -> Answer {
        let answer = timeout(LIMIT, self.carry_out(from, request)).await;
        answer.unwrap_or_else(|_| Answer::Refused("this node is too slow".to_owned()))
    }

    async fn relay(&self, from: NodeId, tunnel: TunnelKey) -> Result<Opened, RelayRefusal> {
        self.relays.open(from, tunnel).await
    }
}

impl Engine {
    async fn carry_out(&self, from: NodeId, request: Request) -> Answer {
        if self.standing() == Standing::Stopped {
            return Answer::Refused("this node has stopped".to_owned());
        }
        match request {
            Request::Append(request) => {
                if let Some(refused) = self.refuse_stranger().await {
                    return refused;
                }
                // The room that is left is for votes, a last snapshot and cutting the log.
                if self.space.is_full() && !request.is_heartbeat() {
                    return Answer::Refused("the disk of this node is full".to_owned());
                }
                match self.raft.append_entries(request.into()).await {
                    Ok(answer) => {
                        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
                            self.heard_leader();
                        }
                        Answer::Append { answer: answer.into(), clock: (self.clock)() }
                    }
                    Err(error) => Answer::Refused(error.to_string()),
                }
            }
            Request::Vote(request) => {
                if let Some(refused) = self.refuse_stranger().await {
                    return refused;
                }
                match self.raft.vote(request.into()).await {
                    Ok(answer) => Answer::Vote(answer.into()),
                    Err(error) => Answer::Refused(error.to_string()),
                }
            }
            Request::Snapshot(chunk) => {
                if let Some(refused) = self.refuse_stranger().await {
                    return refused;
                }
                if self.space.is_full() {
                    return Answer::Refused("the disk of this node is full".to_owned());
                }
                let end = chunk.offset.saturating_add(chunk.data.len() as u64);
                if end > MAX_SNAPSHOT as u64 {
                    return Answer::Refused(format!("a snapshot of {end} bytes is too large"));
                }
                match self.raft.install_snapshot(chunk.into()).await {
                    Ok(answer) => {
                        self.heard_leader();
                        Answer::Snapshot(answer.vote.into())
                    }
                    Err(error) => Answer::Refused(error.to_string()),
                }
            }
            Request::Propose { proposal, within_ms } => {
                if proposal.ticket.is_some_and(|ticket| ticket.node != from) {
                    return Answer::Refused("a proposal must carry its sender's ticket".to_owned());
                }
                if let Err(error) = fits(&proposal.command) {
                    return Answer::Refused(error.to_string());
                }
                let Ok(_permit) = self.forwarded_open.try_acquire() else {
                    return Answer::Unconfirmed(Unconfirmed::Busy);
                };
                let deadline = Instant::now() + Duration::from_millis(within_ms).min(LIMIT);
                match self.write(proposal, deadline).await {
                    Ok((reply, index)) => Answer::Proposed { reply, index },
                    Err(reason) => Answer::Unconfirmed(reason),
                }
            }
            Request::Share(part) => {
                if part.origin != from || part.strikes.iter().any(|strike| strike.node != from) {
                    return Answer::Refused("soft changes must be their sender's own".to_owned());
                }
                match self.merge(part).await {
                    Ok(()) => Answer::Shared,
                    Err(reason) => Answer::Unconfirmed(reason),
                }
            }
            Request::Established => {
                let established = self.is_established();
                if !established {
                    self.known_as_new.store(true, Ordering::Relaxed);
                }
                Answer::Established(established)
            }
            // The peer port keeps these for itself.
            Request::Presence(_) | Request::Relay(_) => {
                Answer::Refused("not a question".to_owned())
            }
        }
    }

    /// An empty node takes part only after somebody who may take it in has asked and was told
    /// that it is empty. Otherwise it lost its directory: its vote and its log are gone, and
    /// going on under the same id could undo what was confirmed.
    async fn refuse_stranger(&self) -> Option<Answer> {
        if self.known_as_new.load(Ordering::Relaxed)
            || self.raft.is_initialized().await.unwrap_or(false)
        {
            return None;
        }
        Some(Answer::Refused(format!("node {} has an empty directory", self.config.node_id)))
    }
}
