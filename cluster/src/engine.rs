//! The running engine of one node and what it shares between its tasks: who leads, what was
//! proposed, what waits to be shared.
//!
//! Neighbours: [`propose`](crate::propose) brings changes to the leader, `sharing` the soft ones,
//! `service` answers peers, `formation` decides who is a member, [`node`](crate::node) starts
//! and stops it all.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::ServerState;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::batch::Batcher;
use crate::clock::millis;
use crate::config::{Config, Role};
use crate::fatal::Fatal;
use crate::merge::Merger;
use crate::network::{Peers, ServerStats};
use crate::record::{Millis, Moment, NodeId};
use crate::relay::Relays;
use crate::sharing::Outcome;
use crate::space::{Space, Storage};
use crate::status::{ClusterStatus, RaftState, VoterStatus};
use crate::timekeeper::Timekeeper;
use crate::types::{Metrics, Raft};
use crate::view::View;

/// Proposals of this node, and forwarded ones of others, that may wait at once.
const MAX_OPEN: usize = 256;

/// Everything the tasks of a node have in common.
pub(crate) struct Engine {
    pub(crate) config: Config,
    pub(crate) raft: Raft,
    pub(crate) peers: Arc<Peers>,
    pub(crate) view: Arc<View>,
    pub(crate) fatal: Fatal,
    pub(crate) space: Space,
    pub(crate) stats: Arc<ServerStats>,
    pub(crate) relays: Arc<Relays>,
    /// Wall-clock milliseconds.
    pub(crate) clock: Arc<dyn Fn() -> Millis + Send + Sync>,
    /// How often this node has started.
    pub(crate) boot: u64,
    /// Proposals made since then.
    pub(crate) seq: AtomicU64,
    pub(crate) own_open: Semaphore,
    pub(crate) forwarded_open: Semaphore,
    pub(crate) wake_sharing: Notify,
    pub(crate) wake_merging: Notify,
    /// Set while a witness lets go of leadership: it still leads but accepts nothing.
    pub(crate) letting_go: AtomicBool,
    /// Set once somebody who may take nodes in was told that this one is new.
    pub(crate) known_as_new: AtomicBool,
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
    /// That node leads, as far as known.
    Follows(NodeId),
    /// Nobody is known to lead with a quorum.
    Leaderless,
    /// The engine has stopped.
    Stopped,
}

impl Engine {
    pub(crate) fn new(
        config: Config,
        raft: Raft,
        peers: Arc<Peers>,
        view: Arc<View>,
        storage: Storage,
        boot: u64,
        clock: Arc<dyn Fn() -> Millis + Send + Sync>,
    ) -> Self {
        let queue = Mutex::new(Batcher::new(config.node_id, boot));
        Self {
            clock,
            config,
            raft,
            peers,
            view,
            fatal: storage.fatal,
            space: storage.space,
            stats: Arc::default(),
            relays: Arc::default(),
            boot,
            seq: AtomicU64::new(0),
            own_open: Semaphore::new(MAX_OPEN),
            forwarded_open: Semaphore::new(MAX_OPEN),
            wake_sharing: Notify::new(),
            wake_merging: Notify::new(),
            letting_go: AtomicBool::new(false),
            known_as_new: AtomicBool::new(false),
            queue,
            merger: Mutex::default(),
            timekeeper: Mutex::default(),
            heard_leader: Mutex::default(),
        }
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
        let me = self.config.node_id;
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
            && metrics.millis_since_quorum_ack.is_some_and(|since| since < lease)
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

    pub(crate) fn queue(&self) -> MutexGuard<'_, Batcher> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A leader's request was accepted.
    pub(crate) fn heard_leader(&self) {
        *self.heard_leader.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn hears_leader(&self) -> bool {
        let heard = *self.heard_leader.lock().unwrap_or_else(PoisonError::into_inner);
        heard.is_some_and(|at| at.elapsed() < self.lease())
    }

    fn role_of(&self, id: NodeId) -> Role {
        let member = self.config.members.iter().find(|member| member.id == id);
        member.map_or(Role::Node, |member| member.role)
    }

    /// Whether the peer answered within the lease.
    pub(crate) fn is_reachable(&self, id: NodeId) -> bool {
        id == self.config.node_id
            || self.peers.silent_for(id).is_some_and(|silence| silence < self.lease())
    }

    pub(crate) fn status(&self) -> ClusterStatus {
        let metrics = self.metrics();
        let standing = self.standing();
        let leads = metrics.state == ServerState::Leader;
        let last_log = metrics.last_log_index;
        let voters = metrics.membership_config.membership().voter_ids().map(|id| {
            let member = self.config.members.iter().find(|member| member.id == id);
            let stored = metrics.replication.as_ref().and_then(|all| all.get(&id)).copied();
            let behind = last_log.map_or(0, |last| {
                (last + 1).saturating_sub(stored.flatten().map_or(0, |id| id.index + 1))
            });
            VoterStatus {
                id,
                role: self.role_of(id),
                address: member.map(|member| member.address),
                reachable: leads.then(|| self.is_reachable(id)),
                lag: leads.then_some(behind),
            }
        });
        ClusterStatus {
            node_id: self.config.node_id,
            role: self.config.role(),
            state: match (standing, metrics.state) {
                (Standing::Stopped, _) | (_, ServerState::Shutdown) => RaftState::Shutdown,
                (_, ServerState::Leader) => RaftState::Leader,
                (_, ServerState::Follower) => RaftState::Follower,
                (_, ServerState::Candidate) => RaftState::Candidate,
                (_, ServerState::Learner) => RaftState::Learner,
            },
            term: metrics.current_term,
            leader: metrics.current_leader,
            quorum: match standing {
                Standing::Leads => true,
                Standing::Follows(_) => self.hears_leader(),
                Standing::Leaderless | Standing::Stopped => false,
            },
            last_log,
            last_applied: metrics.last_applied.map(|id| id.index),
            voters: voters.collect(),
            dropped_soft: self.queue().dropped(),
            refused_peers: self.stats.refused(),
            disk_full: self.space.is_full(),
        }
    }
}
