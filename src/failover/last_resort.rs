//! Whether a drained node takes an address nobody else holds or could hold. Sans-io.
//!
//! A node is drained because somebody works on it. If its peer dies meanwhile, an address on a
//! machine that may be restarted at any moment is still better than none. So a drained node takes
//! an address that nobody has held for [`NOBODY_FOR`] while no other node could take it, and
//! gives it back once another node has been able to for [`SOMEBODY_FOR`].

use std::time::{Duration, Instant};

/// How long nobody has to hold the address and nobody has to be able to.
pub const NOBODY_FOR: Duration = Duration::from_secs(3);
/// How long somebody has to be able to before it is given back.
pub const SOMEBODY_FOR: Duration = Duration::from_secs(5);

/// Of one virtual router.
#[derive(Debug, Default)]
pub struct LastResort {
    permitted: bool,
    since: Option<Instant>,
}

impl LastResort {
    /// Whether the node may hold the address although it is drained.
    pub fn is_permitted(&self) -> bool {
        self.permitted
    }

    /// Looks about four times a second. `vacant`: nobody holds the address, and only the
    /// permission to take it is missing; `heir`: another node could take it. Gives the permission
    /// if it changes.
    pub fn look(&mut self, now: Instant, vacant: bool, heir: bool) -> Option<bool> {
        let (turns, patience) =
            if self.permitted { (heir, SOMEBODY_FOR) } else { (vacant && !heir, NOBODY_FOR) };
        if !turns {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < patience {
            return None;
        }
        self.since = None;
        self.permitted = !self.permitted;
        Some(self.permitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_when_nobody_else_can_and_only_for_so_long() {
        let start = Instant::now();
        let mut rule = LastResort::default();
        // Seconds, vacant, heir, permission given or taken.
        for (at, vacant, heir, expected) in [
            (0.0, false, true, None),
            (1.0, true, true, None),
            (9.0, true, true, None),
            (10.0, true, false, None),
            (12.0, true, true, None),
            (13.0, true, false, None),
            (15.9, true, false, None),
            (16.0, true, false, Some(true)),
            (30.0, false, false, None),
            (31.0, false, true, None),
            (35.0, false, false, None),
            (36.0, false, true, None),
            (41.0, false, true, Some(false)),
            (60.0, false, true, None),
        ] {
            let now = start + Duration::from_secs_f64(at);
            assert_eq!(rule.look(now, vacant, heir), expected, "at {at}");
        }
        assert!(!rule.is_permitted());
    }
}
