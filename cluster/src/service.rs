//! What this node answers its peers.

use std::time::Duration;

use openraft::raft::AppendEntriesResponse;
use tokio::time::{Instant, timeout};

use crate::engine::{Engine, Standing};
use crate::group::Group;
use crate::network::{Answer, JoinRequest, Judgement, NotWelcome, Request, Service, Unconfirmed};
use crate::propose::fits;
use crate::record::{NodeId, TunnelKey};
use crate::relay::{Opened, RelayRefusal};
use crate::snapshot::MAX_SNAPSHOT;
use crate::types::{RaftId, number_of, raft_id};

/// Longest the engine may think about a request; the peer has given up long before.
const LIMIT: Duration = Duration::from_secs(10);

impl Service for Engine {
    fn group(&self) -> Group {
        self.own.group
    }

    fn raft_id(&self) -> RaftId {
        self.own.raft_id
    }

    fn leader(&self) -> Option<NodeId> {
        self.metrics().current_leader.map(number_of)
    }

    fn judge(&self, number: NodeId) -> Judgement {
        self.view.read(|state| match state.member(number) {
            Some(member) => Judgement::Member(raft_id(number, member.incarnation)),
            // Until its vote is taken from it, it has duties: it may be the leader that does it.
            None if state.is_removed(number) && !self.takes_part(number) => Judgement::Removed,
            None => Judgement::Newcomer,
        })
    }

    async fn answer(&self, from: RaftId, request: Request) -> Answer {
        let answer = timeout(LIMIT, self.carry_out(from, request)).await;
        answer.unwrap_or_else(|_| Answer::Refused("this node is too slow".to_owned()))
    }

    async fn relay(&self, from: NodeId, tunnel: TunnelKey) -> Result<Opened, RelayRefusal> {
        self.relays.open(from, tunnel).await
    }

    async fn admit(&self, request: JoinRequest) -> Answer {
        let decided = timeout(LIMIT, self.decide(request)).await;
        match decided.unwrap_or(Err(NotWelcome::NoQuorum)) {
            Ok(welcome) => Answer::Welcome(Box::new(welcome)),
            Err(reason) => Answer::NotWelcome(reason),
        }
    }
}

impl Engine {
    async fn carry_out(&self, from: RaftId, request: Request) -> Answer {
        if self.standing() == Standing::Stopped {
            return Answer::Refused("this node has stopped".to_owned());
        }
        match request {
            Request::Append(request) => {
                // The room that is left is for votes, a last snapshot and cutting the log. A node
                // that takes no entries still has to learn who leads.
                let refused = self.space.is_full() && !request.is_heartbeat();
                let agreed = request.agreed();
                let request = if refused { request.without_entries() } else { request };
                match self.raft.append_entries(request.into()).await {
                    Ok(AppendEntriesResponse::Success) if refused => {
                        self.heard_leader(agreed);
                        Answer::Refused("the disk of this node is full".to_owned())
                    }
                    Ok(answer) => {
                        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
                            self.heard_leader(agreed);
                        }
                        Answer::Append { answer: answer.into(), clock: (self.clock)() }
                    }
                    Err(error) => Answer::Refused(error.to_string()),
                }
            }
            Request::Vote(request) => match self.raft.vote(request.into()).await {
                Ok(answer) => Answer::Vote(answer.into()),
                Err(error) => Answer::Refused(error.to_string()),
            },
            Request::Snapshot(chunk) => {
                if self.space.is_full() {
                    return Answer::Refused("the disk of this node is full".to_owned());
                }
                let end = chunk.offset.saturating_add(chunk.data.len() as u64);
                if end > MAX_SNAPSHOT as u64 {
                    return Answer::Refused(format!("a snapshot of {end} bytes is too large"));
                }
                match self.raft.install_snapshot(chunk.into()).await {
                    Ok(answer) => {
                        self.heard_leader(None);
                        Answer::Snapshot(answer.vote.into())
                    }
                    Err(error) => Answer::Refused(error.to_string()),
                }
            }
            Request::Propose { proposal, within_ms } => {
                if proposal.ticket.is_some_and(|ticket| ticket.node != number_of(from)) {
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
                let number = number_of(from);
                let is_own = part.strikes.iter().all(|strike| strike.node == number);
                if part.origin != number || !is_own {
                    return Answer::Refused("soft changes must be their sender's own".to_owned());
                }
                match self.merge(part).await {
                    Ok(()) => Answer::Shared,
                    Err(reason) => Answer::Unconfirmed(reason),
                }
            }
            Request::Renew { request } => match self.renew_for(number_of(from), &request) {
                Ok(certificate) => Answer::Renewed(certificate),
                Err(text) => Answer::Refused(text),
            },
            Request::Confirm => match self.confirmed(Instant::now() + LIMIT).await {
                Ok(entries) => Answer::Confirmed(entries),
                Err(reason) => Answer::Unconfirmed(reason),
            },
            Request::Pair(word) => {
                self.bond.hear(word);
                Answer::Pair(self.word())
            }
            Request::Errand(question) => self.errands.run(number_of(from), question).await,
            // The peer port keeps these for itself.
            Request::Presence(_) | Request::Relay(_) | Request::Join(_) => {
                Answer::Refused("not a question".to_owned())
            }
        }
    }
}
