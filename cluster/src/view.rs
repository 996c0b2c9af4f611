//! The local, lock-free snapshot of the state that readers see.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::millis;
use crate::group::Group;
use crate::record::Millis;
use crate::state::State;

/// Written by whoever applies commands, read by everyone.
pub(crate) struct View {
    /// Where this node's monotonic clock starts.
    started: Instant,
    /// When this node last knew what the cluster had agreed on, on that clock.
    in_touch: AtomicU64,
    state: ArcSwap<State>,
    changed: watch::Sender<u64>,
    /// The group whose state this is, as soon as any is known, and how many of its entries it
    /// contains. A node that has come to another group shows that of the one before for a while.
    applied: watch::Sender<(Option<Group>, u64)>,
}

impl View {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            in_touch: AtomicU64::new(0),
            state: ArcSwap::default(),
            changed: watch::Sender::new(0),
            applied: watch::Sender::new((None, 0)),
        }
    }

    pub(crate) fn load(&self) -> Arc<State> {
        self.state.load_full()
    }

    pub(crate) fn read<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        read(&self.state.load())
    }

    /// This node's monotonic clock; it goes on through everything but the end of the process.
    pub(crate) fn local(&self) -> Millis {
        millis(self.started.elapsed())
    }

    /// This node heard a leader, or leads with a quorum.
    pub(crate) fn touch(&self) {
        self.in_touch.store(self.local(), Ordering::Relaxed);
    }

    /// How long ago that was.
    pub(crate) fn behind(&self) -> Duration {
        let since = self.in_touch.load(Ordering::Relaxed);
        Duration::from_millis(self.local().saturating_sub(since))
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Shows a new state; `applied` counts the entries of the group it contains.
    pub(crate) fn publish(&self, state: State, group: Option<Group>, applied: u64) {
        self.state.store(Arc::new(state));
        self.changed.send_modify(|count| *count += 1);
        self.applied.send_replace((group, applied));
    }

    /// The state and how many entries it contains.
    pub(crate) fn load_counted(&self) -> (Arc<State>, u64) {
        (self.load(), self.applied.borrow().1)
    }

    /// Whether what it shows is of that group.
    pub(crate) fn is_of(&self, group: Group) -> bool {
        self.applied.borrow().0 == Some(group)
    }

    /// Waits until entry `index` of that group is part of the view.
    pub(crate) async fn wait_for(&self, group: Group, index: u64) {
        let shows = |(of, applied): &(_, u64)| *of == Some(group) && *applied > index;
        // The sender lives as long as self, so this ends only when the entry is there.
        let _ = self.applied.subscribe().wait_for(shows).await;
    }
}
