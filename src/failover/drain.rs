//! How a node leaves service in order, one phase after the other. Sans-io: what the node looks
//! like and a time go in, what is to be done comes out; `app` carries it out.
//!
//! | phase | meanwhile | ends |
//! |---|---|---|
//! | [`Ending`](Phase::Ending) | clients are told to come back on new connections; the addresses stay | the requests that were in flight have ended, or the deadline has come |
//! | [`Moving`](Phase::Moving) | a moment without a request is looked for, then the addresses go | the addresses are gone |
//! | [`Finishing`](Phase::Finishing) | requests at this node's own addresses end, leadership goes | both, or the deadline has come |
//! | [`Drained`](Phase::Drained) | | when an admin says so |
//!
//! The addresses go late, not first: a connection at a virtual address cannot outlive the address
//! on this node, so what is in flight there must have ended before.

use std::time::{Duration, Instant};

/// For how long a moment without a request is looked for. Under constant load there may be none.
pub const QUIET: Duration = Duration::from_millis(300);

/// Leadership that nobody took in that time stays; the addresses and requests do not wait for it.
pub const LEADERSHIP: Duration = Duration::from_secs(8);

/// Where a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Requests in flight end.
    Ending,
    /// The addresses move.
    Moving,
    /// What is left ends.
    Finishing,
    /// Nothing is left; the node holds no address until it is told otherwise.
    Drained,
}

impl Phase {
    /// Its name in status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ending => "ending",
            Self::Moving => "moving",
            Self::Finishing => "finishing",
            Self::Drained => "drained",
        }
    }
}

/// What the node looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests in flight that had begun before the drain.
    pub lasting: usize,
    /// All requests in flight.
    pub open: usize,
    /// It holds a virtual address.
    pub active: bool,
    /// It leads the cluster, and another could.
    pub leads: bool,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Drain {
    phase: Phase,
    began: Instant,
    deadline: Instant,
    quiet_until: Instant,
    yielded: bool,
    cut: usize,
    interrupted: usize,
}

impl Drain {
    /// Begins at `now`; requests in flight get until `within` later.
    pub fn new(now: Instant, within: Duration) -> Self {
        Self {
            phase: Phase::Ending,
            began: now,
            deadline: now + within,
            quiet_until: now,
            yielded: false,
            cut: 0,
            interrupted: 0,
        }
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When it began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Requests from before the drain that had not ended at the deadline.
    pub fn cut(&self) -> usize {
        self.cut
    }

    /// Requests that were in flight when the addresses went.
    pub fn interrupted(&self) -> usize {
        self.interrupted
    }

    /// Looks at the node, about every 10 ms. True, once: give every virtual address away now.
    pub fn look(&mut self, now: Instant, seen: Seen) -> bool {
        if self.phase == Phase::Ending {
            let late = now >= self.deadline;
            if seen.lasting > 0 && !late {
                return false;
            }
            self.cut = seen.lasting;
            self.phase = if seen.active { Phase::Moving } else { Phase::Finishing };
            self.quiet_until = if late { now } else { now + QUIET };
        }
        let yields = !self.yielded && self.may_yield(now, seen);
        if yields {
            self.yielded = true;
            self.interrupted = if seen.active { seen.open } else { 0 };
            return true;
        }
        if self.phase == Phase::Moving && self.yielded && !seen.active {
            self.phase = Phase::Finishing;
        }
        if self.phase == Phase::Finishing {
            let ended = seen.lasting == 0 || now >= self.deadline;
            let leads = seen.leads && now < self.began + LEADERSHIP;
            if ended && !leads {
                self.cut = self.cut.max(seen.lasting);
                self.phase = Phase::Drained;
            }
        }
        false
    }

    /// A node that holds nothing gives the right to hold something away at once.
    fn may_yield(&self, now: Instant, seen: Seen) -> bool {
        match self.phase {
            Phase::Ending | Phase::Drained => false,
            Phase::Moving => seen.open == 0 || now >= self.quiet_until,
            Phase::Finishing => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn seen(lasting: usize, open: usize, active: bool) -> Seen {
        Seen { lasting, open, active, leads: false }
    }

    /// What a drain does when it is shown these, at these milliseconds.
    fn course(shown: &[(u64, Seen)]) -> (Vec<(Phase, bool)>, Drain) {
        let start = Instant::now();
        let mut drain = Drain::new(start, WITHIN);
        let steps = shown.iter().map(|(at, seen)| {
            let yields = drain.look(start + ms(*at), *seen);
            (drain.phase(), yields)
        });
        (steps.collect(), drain)
    }

    #[test]
    fn requests_end_before_the_address_goes_and_it_goes_in_a_quiet_moment() {
        use Phase::{Drained, Ending, Moving};
        let (steps, drain) = course(&[
            (0, seen(2, 3, true)),
            (500, seen(1, 4, true)),
            (900, seen(0, 2, true)),
            (950, seen(0, 0, true)),
            (960, seen(0, 0, true)),
            (990, seen(0, 0, false)),
        ]);
        let expected = [
            (Ending, false),
            (Ending, false),
            (Moving, false),
            (Moving, true),
            (Moving, false),
            (Drained, false),
        ];
        assert_eq!(steps, expected);
        assert_eq!((drain.cut(), drain.interrupted()), (0, 0));
    }

    #[test]
    fn where_it_is_never_quiet_the_address_goes_all_the_same() {
        let (steps, drain) =
            course(&[(0, seen(0, 5, true)), (299, seen(0, 5, true)), (300, seen(0, 4, true))]);
        let yields: Vec<_> = steps.iter().map(|(_, yields)| *yields).collect();
        assert_eq!(yields, [false, false, true]);
        assert_eq!((drain.cut(), drain.interrupted()), (0, 4));
    }

    #[test]
    fn at_the_deadline_the_address_goes_at_once_and_what_was_cut_is_counted() {
        use Phase::{Drained, Ending, Moving};
        let (steps, drain) = course(&[
            (9_990, seen(2, 2, true)),
            (10_000, seen(2, 2, true)),
            (10_010, seen(0, 0, false)),
        ]);
        assert_eq!(steps, [(Ending, false), (Moving, true), (Drained, false)]);
        assert_eq!((drain.cut(), drain.interrupted()), (2, 2));
    }

    #[test]
    fn a_standby_is_drained_as_soon_as_its_own_requests_have_ended() {
        use Phase::{Drained, Ending, Finishing};
        let (steps, drain) =
            course(&[(0, seen(1, 1, false)), (10, seen(0, 1, false)), (20, seen(0, 0, false))]);
        assert_eq!(steps, [(Ending, false), (Finishing, true), (Drained, false)]);
        assert_eq!((drain.cut(), drain.interrupted()), (0, 0));
    }

    #[test]
    fn leadership_is_waited_for_but_not_for_ever() {
        use Phase::{Drained, Finishing};
        let leads = Seen { leads: true, ..seen(0, 0, false) };
        let (steps, _) = course(&[(0, leads), (10, leads), (7_990, leads), (8_000, leads)]);
        assert_eq!(
            steps,
            [(Finishing, true), (Finishing, false), (Finishing, false), (Drained, false)]
        );
        let (steps, _) = course(&[(0, leads), (10, seen(0, 0, false))]);
        assert_eq!(steps[1], (Drained, false));
    }
}
