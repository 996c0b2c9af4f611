//! When an Active announces its addresses: at once, after 0.2, 1 and 5 s, then every minute.
//!
//! One lost frame, or one switch that learnt the old place a moment later, must not cut clients
//! off until their ARP entry expires. The bytes are made in `announce.rs`.

use std::time::{Duration, Instant};

const BURST: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];
const PERIOD: Duration = Duration::from_secs(60);
/// Whoever floods us with losing advertisements must not make us flood the segment with ARP.
const SPACING: Duration = Duration::from_millis(50);

/// A running plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnnouncePlan {
    start: Instant,
    step: usize,
    last: Instant,
}

impl AnnouncePlan {
    /// A plan whose first announcement is made by the caller right now.
    pub(crate) fn started(now: Instant) -> Self {
        Self { start: now, step: 1, last: now }
    }

    /// Starts the burst again. True: the caller announces now; false: one has just been made and
    /// the next is due shortly.
    pub(crate) fn restart(&mut self, now: Instant) -> bool {
        let earliest = self.last + SPACING;
        if now >= earliest {
            *self = Self::started(now);
            return true;
        }
        self.start = earliest;
        self.step = 0;
        false
    }

    /// When the next announcement is to be made.
    pub(crate) fn due(&self) -> Instant {
        match BURST.get(self.step) {
            Some(offset) => self.start + *offset,
            None => self.last + PERIOD,
        }
    }

    /// Whether it is time.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due() <= now
    }

    /// Notes that an announcement was made; steps that were slept through are skipped.
    pub(crate) fn announced(&mut self, now: Instant) {
        self.last = now;
        while self.step < BURST.len() && self.due() <= now {
            self.step += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(mut plan: AnnouncePlan, origin: Instant, count: usize) -> Vec<u128> {
        (0..count)
            .map(|_| {
                let due = plan.due();
                plan.announced(due);
                (due - origin).as_millis()
            })
            .collect()
    }

    #[test]
    fn a_takeover_is_announced_in_a_burst_and_then_every_minute() {
        let now = Instant::now();
        let plan = AnnouncePlan::started(now);
        assert_eq!(offsets(plan, now, 5), [200, 1_000, 5_000, 65_000, 125_000]);
    }

    #[test]
    fn a_restart_announces_at_once_and_begins_the_burst_again() {
        let origin = Instant::now();
        let mut plan = AnnouncePlan::started(origin);
        let now = origin + Duration::from_secs(30);
        assert!(plan.restart(now));
        assert_eq!(offsets(plan, now, 3), [200, 1_000, 5_000]);
    }

    #[test]
    fn restarts_in_quick_succession_are_spaced() {
        let now = Instant::now();
        let mut plan = AnnouncePlan::started(now);
        for _ in 0..100 {
            assert!(!plan.restart(now + Duration::from_millis(10)));
        }
        assert_eq!(offsets(plan, now, 3), [50, 250, 1_050]);
    }

    #[test]
    fn steps_that_were_slept_through_are_not_made_up_for() {
        let now = Instant::now();
        let mut plan = AnnouncePlan::started(now);
        plan.announced(now + Duration::from_secs(3));
        assert_eq!((plan.due() - now).as_millis(), 5_000);
    }
}
