//! Presence: every member hears every other many times a second, beside and independent of raft.
//!
//! One kept TLS connection joins each two members, the witness included; the one with the lower
//! id dials, on the cluster port and with the cluster's certificates. Both ends send a small beat
//! at the pace the more eager one asked for: who they are, what their virtual routers do, and
//! whom they hear themselves. It is soft state: the newest beat counts, nothing is stored, and
//! whoever falls silent is simply no longer heard. What follows from silence is decided above.
//! Changes of the flow table ride along; where they cannot wait, a beat goes out of the rhythm.
//!
//! Pure: `message` (the layout), `conversation` (one connection), `state` (who was heard).
//! Shells: `wire` (bytes and TLS), `thread` (connections on a thread of their own, because beats
//! of 5 to 50 ms must not wait behind the HTTP load of the process's other runtime).

mod conversation;
mod message;
mod state;
mod thread;
mod wire;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::passport::Seed;
use crate::record::NodeId;
pub use message::{FASTEST, MAX_ADDRESSES, MAX_ROUTERS, RouterState, RouterWord, Word};
pub(crate) use message::{Hello, LAYOUT};
pub use state::{Heard, Peer, Told};
pub(crate) use thread::{Me, Thread, Visitor, Visitors};

/// Comings and goings of one peer are logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// A door to the presence of this node: what it says, whom it hears. Cheap to clone.
#[derive(Clone)]
pub struct Presence {
    shared: Arc<Shared>,
}

struct Shared {
    wanted: Option<Duration>,
    speaker: OnceLock<Box<dyn Fn() -> Word + Send + Sync>>,
    settle: OnceLock<fn()>,
    heard: Mutex<Heard>,
    shown: ArcSwap<Heard>,
    knows_all: watch::Sender<bool>,
    refused: AtomicU64,
    logged: Mutex<BTreeMap<NodeId, Instant>>,
}

impl Presence {
    /// Prepares; [`crate::Node::start_with`] brings it to life. `wanted` is the time between two
    /// beats this node asks its peers for, and sends at; `None` leaves it to them.
    pub fn new(wanted: Option<Duration>) -> Self {
        let shared = Shared {
            wanted,
            speaker: OnceLock::new(),
            settle: OnceLock::new(),
            heard: Mutex::default(),
            shown: ArcSwap::default(),
            knows_all: watch::Sender::new(false),
            refused: AtomicU64::new(0),
            logged: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Says what this node tells the others from now on; called for every beat, on the thread of
    /// the presence, so it must be quick. Until then the node only says that it exists and cannot
    /// serve. Only the first call counts.
    pub fn speak(&self, word: impl Fn() -> Word + Send + Sync + 'static) {
        let _ = self.shared.speaker.set(Box::new(word));
    }

    /// What the thread of the presence does first, such as giving up rights it has no use for.
    pub fn on_thread_start(&self, settle: fn()) {
        let _ = self.shared.settle.set(settle);
    }

    /// Whom this node hears. Lock-free: also for a thread that must never wait.
    pub fn heard(&self) -> Arc<Heard> {
        self.shared.shown.load_full()
    }

    /// Returns once every other member was heard, or after `limit`.
    pub async fn look_around(&self, limit: Duration) {
        // Also true of a node without any other member.
        if self.heard().knows_all() {
            return;
        }
        let mut knows_all = self.shared.knows_all.subscribe();
        let _ = tokio::time::timeout(limit, knows_all.wait_for(|all| *all)).await;
    }

    /// Connections given up since start because of what the peer sent.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn hello(&self) -> Hello {
        Hello::new(self.shared.wanted)
    }

    /// The members are these from now on.
    fn follow(&self, me: NodeId, members: &[Seed]) {
        self.change(|heard| heard.follow(me, members));
    }

    fn word(&self) -> Word {
        self.shared.speaker.get().map(|speak| speak()).unwrap_or_default().bounded()
    }

    fn state(&self) -> MutexGuard<'_, Heard> {
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what was heard and shows it to the readers.
    fn change(&self, change: impl FnOnce(&mut Heard)) {
        let mut heard = self.state();
        change(&mut heard);
        let all = heard.knows_all();
        self.shared.shown.store(Arc::new(heard.clone()));
        drop(heard);
        if all && !*self.shared.knows_all.borrow() {
            self.shared.knows_all.send_replace(true);
        }
    }

    /// Whether it is time to log about this peer again.
    fn may_log(&self, now: Instant, peer: NodeId) -> bool {
        let mut logged = self.shared.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let last = logged.get(&peer);
        let may = last.is_none_or(|at| now.saturating_duration_since(*at) >= LOG_EVERY);
        if may {
            logged.insert(peer, now);
        }
        may
    }
}

impl Default for Presence {
    /// One that asks for no pace of its own: a witness's.
    fn default() -> Self {
        Self::new(None)
    }
}

#[cfg(test)]
mod tests;
