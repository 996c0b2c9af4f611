//! How the rest of the product talks to the replicated state: read the local view, propose a
//! change and wait, or share a soft change and forget it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::backup::{Backup, BackupError};
use crate::command::{Command, Reply, SessionPut, Soft, SoftBatch, SoftPart};
use crate::config::Role;
use crate::error::ProposeError;
use crate::flows::{FlowTable, Flows, MAX_CLIENT_FLOWS};
use crate::group::{ClusterId, Group, Lineage};
use crate::measures::Measures;
use crate::pair::Orders;
use crate::record::{
    ExApp, Millis, Moment, NodeId, SealedExApp, SessionKey, Tenant, TunnelKey, User,
};
use crate::relay::{OnRelay, RelayError, RelayRefusal, Relayed};
use crate::seal::{Kek, Secret};
use crate::sealing::{self, SessionKeys};
use crate::slot::Slot;
use crate::state::State;
use crate::status::{ClusterStatus, RaftState, VoterStatus};
use crate::view::View;

/// A cheap, cloneable door to the cluster.
#[derive(Clone)]
pub struct Handle {
    view: Arc<View>,
    flows: Flows,
    pub(crate) backend: Backend,
}

/// Who opens the tunnels of each node of a cluster in memory.
type Openers = Arc<Mutex<BTreeMap<NodeId, OnRelay>>>;

#[derive(Clone)]
pub(crate) enum Backend {
    /// One writer at a time, nothing on disk.
    Memory {
        node: NodeId,
        write: Arc<Mutex<u64>>,
        relays: Openers,
        kek: Arc<Kek>,
        silent: Arc<AtomicBool>,
    },
    Engine {
        slot: Slot,
        node: NodeId,
        orders: Orders,
    },
}

impl Handle {
    /// A cluster of one that lives in memory: what tests use instead of mocks.
    pub fn in_memory(node: NodeId) -> Self {
        let (write, relays, silent) = (Arc::default(), Openers::default(), Arc::default());
        let kek = Arc::new(Kek::generate());
        let backend = Backend::Memory { node, write, relays, kek, silent };
        Self { view: Arc::new(View::new()), flows: flows_of(1), backend }.with_session_key()
    }

    /// Two nodes of a cluster that lives in memory: each sees every change at once.
    pub fn in_memory_pair(nodes: [NodeId; 2]) -> [Self; 2] {
        let (view, write) = (Arc::new(View::new()), Arc::<Mutex<u64>>::default());
        let (relays, kek) = (Openers::default(), Arc::new(Kek::generate()));
        let silent = Arc::<AtomicBool>::default();
        nodes.map(|node| {
            let (write, relays) = (Arc::clone(&write), Arc::clone(&relays));
            let (kek, silent) = (Arc::clone(&kek), Arc::clone(&silent));
            let backend = Backend::Memory { node, write, relays, kek, silent };
            Self { view: Arc::clone(&view), flows: flows_of(1), backend }.with_session_key()
        })
    }

    /// In memory: from now on nothing is confirmed, refused or shared any more, for ever. A test that
    /// ends all the same has shown that nobody waits for the cluster.
    pub fn fall_silent(&self) {
        if let Backend::Memory { silent, .. } = &self.backend {
            silent.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn of(slot: Slot, orders: Orders) -> Self {
        let engine = slot.engine();
        let (view, flows) = (Arc::clone(&engine.view), flows_of(engine.own.boot));
        let backend = Backend::Engine { slot, node: engine.own.number, orders };
        Self { view, flows, backend }
    }

    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        match &self.backend {
            Backend::Memory { node, .. } => *node,
            Backend::Engine { node, .. } => *node,
        }
    }

    /// The key secrets of the state are sealed with; none on a witness.
    pub fn kek(&self) -> Option<Arc<Kek>> {
        match &self.backend {
            Backend::Memory { kek, .. } => Some(Arc::clone(kek)),
            Backend::Engine { slot, .. } => slot.engine().kek.clone(),
        }
    }

    /// The record as it may be proposed. Costs a few microseconds.
    pub fn seal_exapp(&self, tenant: &Tenant, record: &ExApp) -> SealedExApp {
        sealing::seal_exapp(self.kek().as_deref(), tenant, record)
    }

    /// A record of the state with its token; none when that cannot be opened here. Costs a few
    /// microseconds: keep what it gives as long as the record is the same.
    pub fn open_exapp(&self, tenant: &Tenant, record: &SealedExApp) -> Option<ExApp> {
        sealing::open_exapp(&*self.kek()?, tenant, record)
    }

    /// The keys cookies are hashed with, opened. They are others when
    /// [`State::session_epoch`] is another.
    pub fn session_keys(&self) -> SessionKeys {
        let open = |kek: Arc<Kek>| self.read(|state| sealing::open_session_keys(&kek, state));
        self.kek().map(open).unwrap_or_default()
    }

    /// What an engine's own task sees to.
    fn with_session_key(self) -> Self {
        if let Backend::Memory { write, kek, .. } = &self.backend
            && self.read(State::session_epoch).number == 0
        {
            let key = self.read(|state| sealing::next_session_key(kek, state, 0));
            self.apply(write, &key);
        }
        self
    }

    /// The connections at virtual addresses, of this node and of the others.
    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    /// The state as this node knows it now. Lock-free; may lag the leader, never blocks.
    pub fn view(&self) -> Arc<State> {
        self.view.load()
    }

    /// Runs `read` on the local state without counting references: for the request path.
    pub fn read<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        self.view.read(read)
    }

    /// Whom a session belongs to that some node has validated, while that may be believed here.
    pub fn session(&self, key: &SessionKey) -> Option<User> {
        let at = match &self.backend {
            Backend::Memory { .. } => {
                Moment { wall: crate::clock::now(), local: self.view.local() }
            }
            Backend::Engine { slot, .. } => slot.engine().moment(),
        };
        self.view.read(|state| state.session(key, at).map(|session| session.user.clone()))
    }

    /// How far what this node reads may be behind what the cluster has agreed on: the time since it
    /// heard a leader. Lock-free; right within a second.
    pub fn behind(&self) -> Duration {
        match &self.backend {
            Backend::Memory { .. } => Duration::ZERO,
            Backend::Engine { .. } => self.view.behind(),
        }
    }

    /// Waits until the view shows everything that was confirmed before the call: for what must not
    /// be read stale, such as who is a member or which token is spent.
    ///
    /// # Errors
    /// [`ProposeError::NoQuorum`]: no majority could tell `within` the time. What the view shows
    /// may be old; trust nothing new on it.
    pub async fn confirm(&self, within: Duration) -> Result<(), ProposeError> {
        match &self.backend {
            Backend::Memory { .. } => Ok(()),
            Backend::Engine { slot, .. } => slot.confirm(within).await,
        }
    }

    /// Wakes whenever the local view has changed; the value is the number of the change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.view.changes()
    }

    /// Waits until `wanted` finds something in the local view, which it looks at now and after every
    /// change; `None` if it will not change any more.
    pub async fn find<T>(&self, mut wanted: impl FnMut(&State) -> Option<T>) -> Option<T> {
        let mut changes = self.changes();
        loop {
            if let Some(found) = self.read(&mut wanted) {
                return Some(found);
            }
            changes.changed().await.ok()?;
        }
    }

    /// Proposes a durable change and waits until it is applied here, at most `within`. It is
    /// applied at most once, however often leaders are lost meanwhile.
    ///
    /// # Errors
    /// [`ProposeError`]: the change was not confirmed; it may still happen later.
    pub async fn propose(&self, command: Command, within: Duration) -> Result<Reply, ProposeError> {
        match &self.backend {
            Backend::Memory { silent, .. } if silent.load(Ordering::Relaxed) => {
                std::future::pending().await
            }
            Backend::Memory { write, .. } => Ok(self.apply(write, &command)),
            Backend::Engine { slot, .. } => slot.propose(command, within).await,
        }
    }

    /// Hands over a soft change to be batched. Never waits; under pressure it is dropped and
    /// counted.
    pub fn share(&self, soft: Soft) {
        match &self.backend {
            Backend::Memory { silent, .. } if silent.load(Ordering::Relaxed) => {}
            Backend::Memory { node, write, .. } => {
                let mut part = SoftPart { origin: *node, ..SoftPart::default() };
                // A strike's own time is taken for the time of the log, so that a test chooses it.
                let now = match soft {
                    Soft::Session { key, user, lifetime } => {
                        let lifetime = u32::try_from(lifetime.as_millis()).unwrap_or(u32::MAX);
                        part.sessions.push(SessionPut { key, user, age: 0, lifetime });
                        crate::clock::now()
                    }
                    Soft::Strike(strike) => {
                        part.strikes.push(strike);
                        strike.at
                    }
                };
                part.sent = now;
                self.apply_soft(write, now, part);
            }
            Backend::Engine { slot, .. } => slot.engine().share(soft),
        }
    }

    /// Opens tunnels of this node for the others from now on; only the first opener counts.
    /// Without one, this node refuses.
    pub fn on_relay(&self, opener: OnRelay) {
        match &self.backend {
            Backend::Memory { node, relays, .. } => {
                lock(relays).entry(*node).or_insert(opener);
            }
            Backend::Engine { slot, .. } => slot.engine().relays.on_relay(opener),
        }
    }

    /// Opens a stream to a tunnel that ends at another node, at most one hop away, within `within`.
    ///
    /// # Errors
    /// [`RelayError`]: the node was not reached, or the tunnel does not end there.
    pub async fn relay(
        &self,
        to: NodeId,
        tunnel: &TunnelKey,
        within: Duration,
    ) -> Result<Relayed, RelayError> {
        match &self.backend {
            Backend::Memory { relays, .. } => {
                let opener = lock(relays).get(&to).cloned().ok_or(RelayRefusal::NotHere)?;
                let opened = tokio::time::timeout(within, opener(tunnel.clone())).await;
                Ok(opened.map_err(|_elapsed| RelayRefusal::TimedOut)??)
            }
            Backend::Engine { slot, .. } => {
                let engine = slot.engine();
                engine.relays.reach(&engine.peers, to, tunnel, within).await
            }
        }
    }

    /// The whole replicated state of this moment, as this node knows it, as the bytes of a file;
    /// with the key of its secrets if asked for and known here.
    ///
    /// # Errors
    /// It cannot be written down.
    pub async fn backup(&self, with_key: bool) -> Result<Vec<u8>, BackupError> {
        let (group, cluster_name) = match &self.backend {
            Backend::Memory { .. } => {
                let group = Group::first(ClusterId::nil(), Lineage([0; 16]));
                (group, "memory".to_owned())
            }
            Backend::Engine { slot, .. } => {
                let engine = slot.engine();
                (engine.own.group, engine.passport.lock().await.cluster_name.clone())
            }
        };
        let (state, applied) = self.view.load_counted();
        let kek = self.kek().filter(|_| with_key).map(|kek| Secret::new(kek.expose()));
        Backup {
            group,
            cluster_name,
            made_at: crate::clock::now(),
            made_by: self.node_id(),
            applied,
            state: State::clone(&state),
            kek,
        }
        .encode()
    }

    /// Whether the consensus engine answers, once it does: the question goes through the loop in
    /// which it handles its ticks and everything it is told. Waits for as long as it hangs.
    pub async fn engine_answers(&self) -> bool {
        match &self.backend {
            Backend::Memory { .. } => true,
            Backend::Engine { slot, .. } => {
                slot.engine().raft.with_raft_state(|_| ()).await.is_ok()
            }
        }
    }

    /// What this node knows about the cluster now.
    pub fn status(&self) -> ClusterStatus {
        match &self.backend {
            Backend::Memory { node, write, .. } => {
                let applied = *lock(write);
                alone(*node, applied.checked_sub(1))
            }
            Backend::Engine { slot, .. } => slot.engine().status(),
        }
    }

    /// What this node has measured of its own work; none in memory.
    pub fn measures(&self) -> Option<Arc<Measures>> {
        match &self.backend {
            Backend::Memory { .. } => None,
            Backend::Engine { slot, .. } => Some(Arc::clone(&slot.engine().measures)),
        }
    }

    fn apply(&self, write: &Mutex<u64>, command: &Command) -> Reply {
        let mut applied = lock(write);
        self.apply_next(&mut applied, command)
    }

    /// The number of the change is the name of the part: each is a new one.
    fn apply_soft(&self, write: &Mutex<u64>, now: Millis, part: SoftPart) {
        let mut applied = lock(write);
        let part = SoftPart { seq: *applied, ..part };
        self.apply_next(&mut applied, &Command::Soft(SoftBatch { now, parts: vec![part] }));
    }

    fn apply_next(&self, applied: &mut u64, command: &Command) -> Reply {
        let mut state = State::clone(&self.view.load());
        state.begin(self.view.local());
        let reply = state.apply(command);
        *applied += 1;
        self.view.publish(state, None, *applied);
        reply
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An empty table of a node that has started `boot` times.
fn flows_of(boot: u64) -> Flows {
    Flows::new(FlowTable::new(boot, MAX_CLIENT_FLOWS))
}

/// The status of a cluster of one in memory.
fn alone(node_id: NodeId, last: Option<u64>) -> ClusterStatus {
    let voter = VoterStatus {
        id: node_id,
        name: String::new(),
        role: Role::Node,
        address: None,
        reachable: Some(true),
        lag: Some(0),
    };
    ClusterStatus {
        node_id,
        role: Role::Node,
        group: Group::first(ClusterId::nil(), Lineage([0; 16])),
        state: RaftState::Leader,
        term: 0,
        leader: Some(node_id),
        quorum: true,
        last_log: last,
        last_applied: last,
        voters: vec![voter],
        changing: false,
        learners: Vec::new(),
        dropped_soft: 0,
        refused_peers: 0,
        disk_full: false,
        clock_off: None,
        pair: None,
    }
}
