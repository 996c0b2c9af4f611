//! Passive health: a server whose answers keep failing gets nothing for a while, however well its
//! checks go. Sans-io.
//!
//! Several failures in a row eject it for a base time, the next ejection for twice that and so on;
//! a long time without any makes it forget. How many servers may be out at a time is for the pool
//! to say: it asks before it ejects.

use std::time::{Duration, Instant};

/// When a server is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Failures in a row that eject; zero never does.
    pub failures: u32,
    /// The first ejection lasts this long.
    pub base: Duration,
    /// None lasts longer.
    pub most: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { failures: 3, base: Duration::from_secs(10), most: Duration::from_secs(300) }
    }
}

/// The machine of one server.
#[derive(Clone, Debug)]
pub struct Ejection {
    terms: Terms,
    row: u32,
    times: u32,
    until: Option<Instant>,
}

impl Ejection {
    /// Nothing has failed yet.
    pub fn new(terms: Terms) -> Self {
        Self { terms, row: 0, times: 0, until: None }
    }

    /// Whether it gets nothing at `now`.
    pub fn is_out(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// It answered as it should.
    pub fn succeeded(&mut self) {
        self.row = 0;
    }

    /// It failed; returns whether that is one failure too many. [`Self::eject`] then, if the pool
    /// can do without it.
    pub fn failed(&mut self, now: Instant) -> bool {
        // What it was given before it was ejected fails together and is one misfortune.
        if self.is_out(now) {
            return false;
        }
        self.row = self.row.saturating_add(1);
        self.terms.failures > 0 && self.row >= self.terms.failures
    }

    /// It gets nothing from now on; returns for how long.
    pub fn eject(&mut self, now: Instant) -> Duration {
        let calm = self.terms.most.saturating_mul(2);
        if self.until.is_some_and(|until| until + calm < now) {
            self.times = 0;
        }
        let long = self.terms.base.saturating_mul(1 << self.times.min(16)).min(self.terms.most);
        self.times = self.times.saturating_add(1);
        self.row = 0;
        self.until = Some(now + long);
        long
    }

    /// It may work again: checks that failed and then went well say more than an old ejection.
    pub fn pardon(&mut self) {
        self.row = 0;
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms { failures: 3, base: Duration::from_secs(10), most: Duration::from_secs(30) }
    }

    #[test]
    fn only_failures_in_a_row_eject() {
        let now = Instant::now();
        for (events, expected) in
            [("--", false), ("---", true), ("--+--", false), ("--+---", true), ("+", false)]
        {
            let mut ejection = Ejection::new(terms());
            let mut due = false;
            for event in events.chars() {
                if event == '+' {
                    ejection.succeeded();
                } else {
                    due = ejection.failed(now);
                }
            }
            assert_eq!(due, expected, "{events}");
        }
        let mut never = Ejection::new(Terms { failures: 0, ..terms() });
        assert!((0..100).all(|_| !never.failed(now)));
    }

    #[test]
    fn each_ejection_lasts_longer_up_to_a_limit_and_calm_is_forgiven() {
        let start = Instant::now();
        let mut ejection = Ejection::new(terms());
        let mut now = start;
        for seconds in [10, 20, 30, 30] {
            assert_eq!(ejection.eject(now), Duration::from_secs(seconds));
            assert!(ejection.is_out(now) && !ejection.failed(now));
            now += Duration::from_secs(seconds);
            assert!(!ejection.is_out(now));
        }
        now += Duration::from_secs(61);
        assert_eq!(ejection.eject(now), Duration::from_secs(10));
        ejection.pardon();
        assert!(!ejection.is_out(now));
    }
}
