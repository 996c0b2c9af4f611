//! What a node has measured of its own work since it started, for whoever shows it. Counting is
//! an atomic addition; a node of a pair that comes to another group goes on with the same numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Numbers of one node.
#[derive(Debug, Default)]
pub struct Measures {
    /// How long it took until a write to the log was on the disk.
    pub fsync: Durations,
    /// How long it took until a change of this node was confirmed, and shown here.
    pub propose: Durations,
    confirmed: AtomicU64,
    failed: AtomicU64,
    leaders: AtomicU64,
}

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [AtomicU64; Self::BOUNDS.len() + 1],
    /// Microseconds.
    sum: AtomicU64,
}

impl Durations {
    /// Upper bounds in microseconds: from a fast disk to a time-out.
    pub const BOUNDS: [u64; 14] = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
        1_000_000, 5_000_000,
    ];

    pub(crate) fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many were above each bound's predecessor and not above the bound; the last, above all.
    pub fn counts(&self) -> [u64; Self::BOUNDS.len() + 1] {
        self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed))
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum.load(Ordering::Relaxed))
    }
}

impl Measures {
    pub(crate) fn proposed(&self, confirmed: bool, took: Duration) {
        let outcome = if confirmed { &self.confirmed } else { &self.failed };
        outcome.fetch_add(1, Ordering::Relaxed);
        self.propose.observe(took);
    }

    pub(crate) fn leader_came(&self) {
        self.leaders.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes of this node that were confirmed, and those that were not.
    pub fn proposals(&self) -> [u64; 2] {
        [&self.confirmed, &self.failed].map(|count| count.load(Ordering::Relaxed))
    }

    /// How often this node has seen another leader than before; the first one counts.
    pub fn leader_changes(&self) -> u64 {
        self.leaders.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_up_to_its_bound() {
        let durations = Durations::default();
        for micros in [0, 100, 101, 5_000_000, 5_000_001] {
            durations.observe(Duration::from_micros(micros));
        }
        let mut expected = [0; 15];
        (expected[0], expected[1], expected[13], expected[14]) = (2, 1, 1, 1);
        assert_eq!(durations.counts(), expected);
        assert_eq!(durations.sum(), Duration::from_micros(10_000_202));
    }
}
