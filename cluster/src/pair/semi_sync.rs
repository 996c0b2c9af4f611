//! How long a durable change waits for the learner. Sans-io.
//!
//! The voter alone is a quorum, so a change is committed as soon as it is on the voter's disk; it
//! would be lost with it. While the pair is *sync* whoever proposed also waits until the learner
//! has stored the entry, [`PATIENCE`] at most. Then the pair is *async*: nobody waits any more
//! until the learner has everything again. What is acknowledged in sync state survives the
//! voter's death; what is acknowledged in async state may not, and the status says how much that
//! is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest a change waits for the learner.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// Whether what is acknowledged is on both nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// It is.
    Sync,
    /// Not all of it.
    Async {
        /// Entries the learner has yet to store.
        behind: u64,
    },
}

/// What changed, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The learner did not follow in time.
    Lost,
    /// It has everything again.
    CaughtUp,
}

/// The voter's account of the learner. Counts entries: `n` means every entry before index `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct SemiSync {
    is_sync: bool,
    written: u64,
    stored: u64,
}

impl SemiSync {
    /// The voter has `written` entries and knows that the learner has stored `stored`. Both only
    /// rise within a term; a new learner begins again.
    pub(crate) fn observe(&mut self, written: u64, stored: u64) -> Option<Change> {
        self.written = written;
        self.stored = stored.min(written);
        if !self.is_sync && self.stored == self.written {
            self.is_sync = true;
            return Some(Change::CaughtUp);
        }
        None
    }

    /// A change waited [`PATIENCE`] in vain, or there is no learner any more.
    pub(crate) fn give_up(&mut self) -> Option<Change> {
        let was = std::mem::replace(&mut self.is_sync, false);
        was.then_some(Change::Lost)
    }

    /// Whether whoever has just had entry `index` committed waits for the learner.
    pub(crate) fn waits_for(&self, index: u64) -> bool {
        self.is_sync && self.stored <= index
    }

    /// For the status, and for the learner itself.
    pub(crate) fn report(&self) -> Sync {
        if self.is_sync {
            return Sync::Sync;
        }
        Sync::Async { behind: self.written.saturating_sub(self.stored) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_change_waits_for_a_learner_that_follows_and_not_for_one_that_does_not() {
        let mut pair = SemiSync::default();
        assert!(!pair.waits_for(0), "nobody is known to follow yet");
        assert_eq!(pair.observe(10, 4), None);
        assert_eq!(pair.report(), Sync::Async { behind: 6 });
        assert_eq!(pair.observe(10, 10), Some(Change::CaughtUp));
        assert!(pair.waits_for(10) && !pair.waits_for(9));
        assert_eq!(pair.observe(11, 10), None, "an entry under way is no lag");
        assert_eq!(pair.report(), Sync::Sync);

        assert_eq!(pair.give_up(), Some(Change::Lost));
        assert_eq!(pair.give_up(), None, "told once");
        assert!(!pair.waits_for(11));
        assert_eq!(pair.observe(20, 12), None);
        assert_eq!(pair.report(), Sync::Async { behind: 8 });
        assert_eq!(pair.observe(20, 20), Some(Change::CaughtUp));
    }

    proptest! {
        #[test]
        fn in_sync_state_nothing_is_acknowledged_that_the_learner_has_not(
            steps in prop::collection::vec((0_u64..3, 0_u64..4, any::<bool>()), 1..100),
        ) {
            let mut pair = SemiSync::default();
            let (mut written, mut stored) = (0, 0);
            let mut acknowledged_in_sync = 0;
            for (writes, stores, gives_up) in steps {
                written += writes;
                stored = (stored + stores).min(written);
                pair.observe(written, stored);
                if gives_up && pair.report() == Sync::Sync && stored < written {
                    pair.give_up();
                }
                if pair.report() == Sync::Sync {
                    let acknowledged = (0..written).take_while(|index| !pair.waits_for(*index));
                    acknowledged_in_sync = acknowledged_in_sync.max(acknowledged.count() as u64);
                    prop_assert!(acknowledged_in_sync <= stored);
                }
                let Sync::Async { behind } = pair.report() else { continue };
                prop_assert_eq!(behind, written - stored);
            }
        }
    }
}
