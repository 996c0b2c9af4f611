//! When to let the kernel throw packets away unseen, and how often to speak of what strangers do.
//! Sans-io.
//!
//! As long as few packets are refused, each is read, named and counted. A storm of them is another
//! matter: reading costs the time in which our own advertisements are due.

use std::time::{Duration, Instant};

/// More refused packets than this within [`WINDOW`] are a storm; no healthy segment comes near.
const MANY: u32 = 500;
const WINDOW: Duration = Duration::from_millis(100);
/// How long the kernel filters before we look again.
const HOLD: Duration = Duration::from_secs(10);
/// An alarm that goes on is repeated this often.
const REPEAT: Duration = Duration::from_secs(60);

/// Tells a storm of refused packets from the occasional one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StormGuard {
    window: Option<Instant>,
    refused: u32,
    until: Option<Instant>,
}

impl StormGuard {
    /// Notes a refused packet. True: a storm begins, filter from now on.
    pub(crate) fn refused(&mut self, now: Instant) -> bool {
        if self.window.is_none_or(|start| now >= start + WINDOW) {
            self.window = Some(now);
            self.refused = 0;
        }
        self.refused += 1;
        let begins = self.refused > MANY && self.until.is_none();
        if begins {
            self.until = Some(now + HOLD);
        }
        begins
    }

    /// When to call [`Self::is_over`].
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }

    /// True: look at everything again from now on.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        let over = self.until.is_some_and(|until| now >= until);
        if over {
            *self = Self::default();
        }
        over
    }
}

/// Lets an alarm through at once and then once a minute, however often its cause comes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Alarm(Option<Instant>);

impl Alarm {
    /// Whether to speak.
    pub(crate) fn may_ring(&mut self, now: Instant) -> bool {
        let may = self.0.is_none_or(|last| now >= last + REPEAT);
        if may {
            self.0 = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_filtered_for_a_while_and_then_looked_at_again() {
        let start = Instant::now();
        let mut guard = StormGuard::default();
        for packet in 0..MANY {
            assert!(!guard.refused(start), "{packet}");
        }
        assert!(guard.refused(start), "one too many");
        assert!(!guard.refused(start), "it begins once");
        assert_eq!(guard.poll_timeout(), Some(start + HOLD));
        assert!(!guard.is_over(start + HOLD / 2));
        assert!(guard.is_over(start + HOLD));
        assert_eq!(guard.poll_timeout(), None);
    }

    #[test]
    fn a_steady_trickle_is_no_storm() {
        let mut now = Instant::now();
        let mut guard = StormGuard::default();
        for _ in 0..10 * MANY {
            assert!(!guard.refused(now));
            now += WINDOW / MANY * 2;
        }
    }

    #[test]
    fn an_alarm_rings_at_once_and_once_a_minute() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        let rings: Vec<_> = (0..180_u32)
            .filter(|second| alarm.may_ring(start + Duration::from_secs(1) * *second))
            .collect();
        assert_eq!(rings, [0, 60, 120]);
    }
}
