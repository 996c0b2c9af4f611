//! Whether this process deserves to live. Sans-io.
//!
//! A service manager ends a process it has not heard from for a while. To be heard from means
//! something only if whoever speaks has seen every part at work that the process consists of; one
//! part that hangs while the others go on is the failure nobody else notices.

use std::time::{Duration, Instant};

/// What has to be seen at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The thread that speaks VRRP.
    Vrrp,
    /// The event loop that all sockets hang on.
    Reactor,
    /// The loop of the consensus engine, which its ticks go through as well.
    Engine,
}

impl Part {
    /// What it is called in the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Vrrp => "the vrrp thread",
            Self::Reactor => "the event loop",
            Self::Engine => "the consensus engine",
        }
    }

    /// How long it may be out of sight. The engine waits for the disk, and a disk that stalls for
    /// some seconds on both nodes must not end both.
    fn patience(self, limit: Duration) -> Duration {
        match self {
            Self::Vrrp | Self::Reactor => limit / 2,
            Self::Engine => ENGINE_PATIENCE.max(limit / 2),
        }
    }
}

/// See [`Part::patience`].
const ENGINE_PATIENCE: Duration = Duration::from_secs(30);

/// Who was seen when.
#[derive(Debug)]
pub(super) struct Vigil {
    limit: Duration,
    seen: Vec<(Part, Instant)>,
}

impl Vigil {
    /// All of `parts` count as seen `now`. `limit` is after how long a silence the manager acts.
    pub(super) fn new(parts: &[Part], limit: Duration, now: Instant) -> Self {
        Self { limit, seen: parts.iter().map(|part| (*part, now)).collect() }
    }

    /// A part was seen at work; one that is not watched changes nothing.
    pub(super) fn saw(&mut self, part: Part, now: Instant) {
        for (_, seen) in self.seen.iter_mut().filter(|(watched, _)| *watched == part) {
            *seen = now;
        }
    }

    /// Who has been out of sight for too long, and for how long. If nobody has, the manager may be
    /// told that all is well.
    pub(super) fn missing(&self, now: Instant) -> Vec<(Part, Duration)> {
        let silences = self.seen.iter().map(|(part, seen)| (*part, now.duration_since(*seen)));
        silences.filter(|(part, silence)| *silence > part.patience(self.limit)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn one_part_out_of_sight_is_enough_and_the_engine_may_wait_for_its_disk() {
        // Seconds since each was seen: the VRRP thread, the event loop, the engine.
        let table: [([u64; 3], &[Part]); 7] = [
            ([0, 0, 0], &[]),
            ([5, 5, 30], &[]),
            ([6, 0, 0], &[Part::Vrrp]),
            ([0, 6, 0], &[Part::Reactor]),
            ([0, 0, 12], &[]),
            ([0, 0, 31], &[Part::Engine]),
            ([60, 60, 60], &[Part::Vrrp, Part::Reactor, Part::Engine]),
        ];
        let (start, parts) = (Instant::now(), [Part::Vrrp, Part::Reactor, Part::Engine]);
        for (ago, expected) in table {
            let mut vigil = Vigil::new(&parts, LIMIT, start);
            let now = start + seconds(100);
            for (part, ago) in parts.into_iter().zip(ago) {
                vigil.saw(part, now - seconds(ago));
            }
            let missing: Vec<_> = vigil.missing(now).into_iter().map(|(part, _)| part).collect();
            assert_eq!(missing, expected, "{ago:?}");
        }
    }

    #[test]
    fn a_part_that_comes_back_is_forgiven_and_one_that_never_came_is_not() {
        let start = Instant::now();
        let mut vigil = Vigil::new(&[Part::Reactor, Part::Engine], LIMIT, start);
        assert_eq!(vigil.missing(start + seconds(5)), []);
        vigil.saw(Part::Engine, start + seconds(50));
        assert_eq!(vigil.missing(start + seconds(51)), [(Part::Reactor, seconds(51))]);
        vigil.saw(Part::Reactor, start + seconds(52));
        assert_eq!(vigil.missing(start + seconds(53)), []);
    }

    #[test]
    fn who_has_no_virtual_router_needs_no_vrrp_thread() {
        let start = Instant::now();
        let mut vigil = Vigil::new(&[Part::Reactor], LIMIT, start);
        vigil.saw(Part::Vrrp, start + seconds(1));
        assert_eq!(vigil.missing(start + seconds(3)), []);
    }

    #[test]
    fn a_manager_that_waits_longer_than_the_engine_is_not_told_of_it_too_early() {
        let start = Instant::now();
        let vigil = Vigil::new(&[Part::Engine], seconds(120), start);
        assert_eq!(vigil.missing(start + seconds(60)), []);
        assert_eq!(vigil.missing(start + seconds(61)), [(Part::Engine, seconds(61))]);
    }
}
