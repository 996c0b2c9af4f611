//! The running engine of one node and what it shares between its tasks: who leads, what was
//! proposed, what waits to be shared.
//!
//! Neighbours: [`propose`](crate::propose) brings changes to the leader, `sharing` the soft ones,
//! `service` answers peers, `membership` decides who votes, `papers` keeps the certificates good,
//! [`node`](crate::node) starts and stops it all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::ServerState;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::batch::Batcher;
use crate::clock::millis;
use crate::config::{Config, Role};
use crate::disk::Disk;
use crate::errand::Errands;
use crate::fatal::Fatal;
use crate::founding::Charter;
use crate::group::Group;
use crate::measures::Measures;
use crate::merge::Merger;
use crate::mutation::mutated;
use crate::network::{Answer, CallError, Envelope, Peers, Request, ServerStats};
use crate::pair::Bond;
use crate::papers::Papers;
use crate::passport::{Passport, Seed};
use crate::propose::Tickets;
use crate::record::{Millis, Moment, NodeId};
use crate::relay::Relays;
use crate::seal::Kek;
use crate::sharing::Outcome;
use crate::space::{Space, Storage};
use crate::state::State;
use crate::status::{ClockOff, ClusterStatus, RaftState, VoterStatus};
use crate::timekeeper::Timekeeper;
use crate::types::{Metrics, Raft, RaftId, number_of};
use crate::view::View;

/// Proposals of this node, and forwarded ones of others, that may wait at once.
const MAX_OPEN: usize = 256;

/// Who this node is in its raft group.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) number: NodeId,
    pub(crate) raft_id: RaftId,
    pub(crate) group: Group,
    pub(crate) role: Role,
    /// How often this node has started.
    pub(crate) boot: u64,
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) own: Own,
    pub(crate) passport: Passport,
    pub(crate) kek: Option<Arc<Kek>>,
    /// What the founder brings in, until it is in.
    pub(crate) charter: Option<Charter>,
    pub(crate) raft: Raft,
    pub(crate) peers: Arc<Peers>,
    pub(crate) view: Arc<View>,
    pub(crate) storage: Storage,
    pub(crate) stats: Arc<ServerStats>,
    pub(crate) relays: Arc<Relays>,
    pub(crate) errands: Arc<Errands>,
    pub(crate) bond: Arc<Bond>,
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) clock: Arc<dyn Fn() -> Millis + Send + Sync>,
}

/// Everything the tasks of a node have in common.
pub(crate) struct Engine {
    pub(crate) config: Config,
    pub(crate) own: Own,
    /// As it stands on disk.
    pub(crate) passport: tokio::sync::Mutex<Passport>,
    pub(crate) kek: Option<Arc<Kek>>,
    pub(crate) charter: Mutex<Option<Charter>>,
    pub(crate) disk: Disk,
    /// Held by whoever changes who votes.
    pub(crate) membership: tokio::sync::Mutex<()>,
    pub(crate) papers: Papers,
    pub(crate) raft: Raft,
    pub(crate) peers: Arc<Peers>,
    pub(crate) view: Arc<View>,
    pub(crate) fatal: Fatal,
    pub(crate) space: Space,
    pub(crate) measures: Arc<Measures>,
    pub(crate) stats: Arc<ServerStats>,
    pub(crate) relays: Arc<Relays>,
    pub(crate) errands: Arc<Errands>,
    /// What is known of the other node of a pair.
    pub(crate) bond: Arc<Bond>,
    /// Wall-clock milliseconds.
    pub(crate) clock: Arc<dyn Fn() -> Millis + Send + Sync>,
    /// Names the proposals made since this node started.
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) own_open: Semaphore,
    pub(crate) forwarded_open: Semaphore,
    pub(crate) wake_sharing: Notify,
    pub(crate) wake_merging: Notify,
    /// Set while a witness lets go of leadership: it still leads but accepts nothing.
    pub(crate) letting_go: AtomicBool,
    /// Set when this node leaves by its own wish.
    pub(crate) leaving: AtomicBool,
    queue: Mutex<Batcher>,
    merger: Mutex<Merger<Outcome>>,
    timekeeper: Mutex<Timekeeper>,
    heard_leader: Mutex<Option<Instant>>,
}

/// Where a change has to go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// This node leads and a majority answered it lately.
    Leads,
    /// That one leads, as far as known.
    Follows(RaftId),
    /// Nobody is known to lead with a quorum.
    Leaderless,
    /// The engine has stopped.
    Stopped,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            config,
            own,
            passport,
            kek,
            charter,
            raft,
            peers,
            view,
            storage,
            stats,
            relays,
            errands,
            bond,
            tickets,
            clock,
        } = parts;
        let queue = Mutex::new(Batcher::new(own.number, own.boot));
        Self {
            config,
            own,
            passport: tokio::sync::Mutex::new(passport),
            kek,
            charter: Mutex::new(charter),
            disk: storage.disk,
            membership: tokio::sync::Mutex::default(),
            papers: Papers::default(),
            raft,
            peers,
            view,
            fatal: storage.fatal,
            space: storage.space,
            measures: storage.measures,
            clock,
            stats,
            relays,
            errands,
            bond,
            tickets,
            own_open: Semaphore::new(MAX_OPEN),
            forwarded_open: Semaphore::new(MAX_OPEN),
            wake_sharing: Notify::new(),
            wake_merging: Notify::new(),
            letting_go: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            queue,
            merger: Mutex::default(),
            timekeeper: Mutex::default(),
            heard_leader: Mutex::default(),
        }
    }

    /// Asks a member and waits at most `within`.
    pub(crate) async fn call(
        &self,
        to: RaftId,
        request: Request,
        within: Duration,
    ) -> Result<Answer, CallError> {
        let Own { group, raft_id: from, .. } = self.own;
        self.peers.call(Envelope { group, from, to, request }, within).await
    }

    /// The members as far as they are known here: the replicated ones, before that the seeds.
    pub(crate) async fn seeds(&self) -> Vec<Seed> {
        let state = self.view.load();
        if state.is_founded() {
            return state.members().map(|member| Seed::from(&**member)).collect();
        }
        self.passport.lock().await.seeds.clone()
    }

    /// Whether this node has the state of its group, if perhaps not the newest.
    pub(crate) fn has_state(&self) -> bool {
        self.view.is_of(self.own.group) && self.view.read(State::is_founded)
    }

    /// A copy, because the engine blocks while its metrics are borrowed.
    pub(crate) fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow().clone()
    }

    pub(crate) fn lease(&self) -> Duration {
        self.config.timers.election_max
    }

    pub(crate) fn standing(&self) -> Standing {
        let metrics = self.metrics();
        if metrics.running_state.is_err() || self.fatal.is_raised() {
            return Standing::Stopped;
        }
        let me = self.own.raft_id;
        match (metrics.state, metrics.current_leader) {
            (ServerState::Leader, _) if self.has_quorum(&metrics) => Standing::Leads,
            (ServerState::Shutdown, _) => Standing::Stopped,
            (ServerState::Follower | ServerState::Learner, Some(leader)) if leader != me => {
                Standing::Follows(leader)
            }
            _ => Standing::Leaderless,
        }
    }

    /// A leader that was cut off goes on believing it leads; only answers of a majority within
    /// the lease prove it.
    fn has_quorum(&self, metrics: &Metrics) -> bool {
        let lease = u64::try_from(self.lease().as_millis()).unwrap_or(u64::MAX);
        !self.letting_go.load(Ordering::Relaxed)
            && self.bond.silence().is_none()
            && (metrics.millis_since_quorum_ack.is_some_and(|since| since < lease)
                || mutated!(QuorumNotAsked))
    }

    /// What time it is here.
    pub(crate) fn moment(&self) -> Moment {
        Moment { wall: (self.clock)(), local: self.view.local() }
    }

    pub(crate) fn merger(&self) -> MutexGuard<'_, Merger<Outcome>> {
        self.merger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to date with what the peers say about the time.
    pub(crate) fn timekeeper(&self) -> MutexGuard<'_, Timekeeper> {
        let mut keeper = self.timekeeper.lock().unwrap_or_else(PoisonError::into_inner);
        let Moment { wall, local } = self.moment();
        for (peer, clock, ago) in self.peers.clocks() {
            let ago = millis(ago);
            keeper.hear(peer, clock.saturating_add(ago), wall, local.saturating_sub(ago));
        }
        keeper
    }

    /// The clock that is off; only a leader can tell.
    fn clock_off(&self, leads: bool) -> Option<ClockOff> {
        if !leads {
            return None;
        }
        let local = self.view.local();
        let keeper = self.timekeeper();
        let own = keeper.error(local).map(|behind| (self.own.number, behind.saturating_neg()));
        let (node, ahead_ms) = own.or_else(|| keeper.stranger(local))?;
        Some(ClockOff { node, ahead_ms })
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Batcher> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A leader's request was accepted; it said that entries up to `agreed` are. A node that has
    /// not stored them, say because its disk is full, is led and yet behind.
    pub(crate) fn heard_leader(&self, agreed: Option<u64>) {
        let stored = self.raft.metrics().borrow().last_log_index;
        if stored >= agreed {
            self.view.touch();
        }
        *self.heard_leader.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn hears_leader(&self) -> bool {
        let heard = *self.heard_leader.lock().unwrap_or_else(PoisonError::into_inner);
        heard.is_some_and(|at| at.elapsed() < self.lease())
    }

    /// Whether the raft group still counts on that number.
    pub(crate) fn takes_part(&self, number: NodeId) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let mut all = metrics.membership_config.membership().nodes();
        all.any(|(id, ())| number_of(*id) == number)
    }

    /// Whether the member answered within the lease.
    pub(crate) fn is_reachable(&self, number: NodeId) -> bool {
        number == self.own.number
            || self.peers.silent_for(number).is_some_and(|silence| silence < self.lease())
    }

    /// Entries of the log a member has yet to store; only a leader can tell.
    pub(crate) fn lag(&self, metrics: &Metrics, id: RaftId) -> Option<u64> {
        let next = metrics.last_log_index.map_or(0, |last| last + 1);
        let stored = metrics.replication.as_ref()?.get(&id)?;
        Some(next.saturating_sub(stored.map_or(0, |id| id.index + 1)))
    }

    pub(crate) fn status(&self) -> ClusterStatus {
        let metrics = self.metrics();
        let standing = self.standing();
        let state = self.view.load();
        let leads = metrics.state == ServerState::Leader;
        let membership = metrics.membership_config.membership();
        let seat = |id: RaftId| {
            let number = number_of(id);
            let member = state.member(number);
            let role = member.map(|member| member.role);
            VoterStatus {
                id: number,
                name: member.map(|member| member.name.clone()).unwrap_or_default(),
                role: role.unwrap_or(if number == self.own.number {
                    self.own.role
                } else {
                    Role::Node
                }),
                address: member.and_then(|member| member.address),
                reachable: leads.then(|| self.is_reachable(number)),
                lag: leads.then(|| self.lag(&metrics, id)).flatten(),
            }
        };
        ClusterStatus {
            node_id: self.own.number,
            role: self.own.role,
            group: self.own.group,
            state: match (standing, metrics.state) {
                (Standing::Stopped, _) | (_, ServerState::Shutdown) => RaftState::Shutdown,
                (_, ServerState::Leader) => RaftState::Leader,
                (_, ServerState::Follower) => RaftState::Follower,
                (_, ServerState::Candidate) => RaftState::Candidate,
                (_, ServerState::Learner) => RaftState::Learner,
            },
            term: metrics.current_term,
            leader: metrics.current_leader.map(number_of),
            quorum: match standing {
                Standing::Leads => true,
                Standing::Follows(_) => self.hears_leader(),
                Standing::Leaderless | Standing::Stopped => false,
            },
            last_log: metrics.last_log_index,
            last_applied: metrics.last_applied.map(|id| id.index),
            voters: membership.voter_ids().map(seat).collect(),
            changing: membership.get_joint_config().len() > 1
                || *metrics.membership_config.log_id() > metrics.last_applied,
            learners: membership.learner_ids().map(seat).collect(),
            dropped_soft: self.queue().dropped(),
            refused_peers: self.stats.refused(),
            disk_full: self.space.is_full(),
            clock_off: self.clock_off(leads),
            pair: self.bond.status(),
        }
    }
}
