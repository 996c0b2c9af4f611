//! Connections by when they were accepted: before the server was told that it is about to be left,
//! or while it is. The first end with the answer under way, of the others each HTTP/1.1 connection
//! carries one request. New ones are taken all the same; who should get none has to see to that.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// All of them.
#[derive(Default)]
pub(super) struct Seasons(Mutex<List>);

#[derive(Default)]
struct List {
    current: Season,
    over: Vec<TaskTracker>,
}

#[derive(Default)]
struct Season {
    leave: CancellationToken,
    open: TaskTracker,
    brief: bool,
}

/// One connection's part in its season, as long as it may have a request in flight.
pub(super) struct Stay {
    leave: CancellationToken,
    brief: bool,
    _open: TaskTrackerToken,
}

impl Stay {
    /// Resolves once the connection is to end with the answer under way.
    pub(super) async fn over(&self) {
        self.leave.cancelled().await;
    }

    /// Whether it carries one request at most.
    pub(super) fn is_brief(&self) -> bool {
        self.brief
    }
}

impl Seasons {
    /// For a new connection.
    pub(super) fn stay(&self) -> Stay {
        let Season { leave, open, brief } = &self.lock().current;
        Stay { leave: leave.clone(), brief: *brief, _open: open.token() }
    }

    /// Begins another season: of short stays, and with an end to all before, or an ordinary one.
    pub(super) fn set_leaving(&self, leaving: bool) {
        let mut list = self.lock();
        if list.current.brief == leaving {
            return;
        }
        let next = Season { brief: leaving, ..Season::default() };
        let before = std::mem::replace(&mut list.current, next);
        if leaving {
            before.leave.cancel();
        }
        list.over.retain(|over| !over.is_empty());
        list.over.push(before.open);
    }

    /// Connections of earlier seasons that have not ended: each has a request in flight.
    pub(super) fn lasting(&self) -> usize {
        self.lock().over.iter().map(TaskTracker::len).sum()
    }

    /// All connections that may have a request in flight.
    pub(super) fn open(&self) -> usize {
        let list = self.lock();
        list.current.open.len() + list.over.iter().map(TaskTracker::len).sum::<usize>()
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_came_before_is_told_and_counted_until_it_ends() {
        let seasons = Seasons::default();
        let (early, other) = (seasons.stay(), seasons.stay());
        assert!(!early.is_brief());
        assert_eq!((seasons.lasting(), seasons.open()), (0, 2));
        seasons.set_leaving(true);
        seasons.set_leaving(true);
        early.over().await;
        other.over().await;
        let late = seasons.stay();
        assert!(late.is_brief() && !late.leave.is_cancelled());
        assert_eq!((seasons.lasting(), seasons.open()), (2, 3));
        drop((early, other));
        assert_eq!((seasons.lasting(), seasons.open()), (0, 1));
        seasons.set_leaving(false);
        assert!(!late.leave.is_cancelled() && !seasons.stay().is_brief());
    }
}
