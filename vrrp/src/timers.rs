//! Timer arithmetic of RFC 9568 section 6.1 and RFC 3768 section 6.1, in microseconds. Sans-io.
//!
//! Whole centiseconds, the unit of the wire, would lose Skew_Time altogether at short intervals:
//! with 10 ms and priority 100 it is 6.09 ms.

use std::time::Duration;

use crate::{config::Interval, mutation::mutated};

/// What the timers of a Backup follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    priority: u8,
    active_interval: Interval,
    /// What Skew_Time is a part of.
    skew_of: Interval,
}

impl Timing {
    /// In version 3 everything is a part or a multiple of Active_Adver_Interval.
    pub fn version_3(priority: u8, active_interval: Interval) -> Self {
        Self { priority, active_interval, skew_of: active_interval }
    }

    /// In version 2 Skew_Time is a part of a second, whatever the interval. All routers have the
    /// same interval, so there is none to learn.
    pub fn version_2(priority: u8, interval: Interval) -> Self {
        Self { priority, active_interval: interval, skew_of: Interval::SECOND }
    }

    /// Skew_Time: by how much a lower priority waits longer.
    ///
    /// `((256 - priority) * Active_Adver_Interval) / 256`, or `(256 - priority) / 256` seconds
    pub fn skew_time(self) -> Duration {
        let parts = if mutated!(SkewIgnored) {
            0
        } else if mutated!(SkewReversed) {
            u64::from(self.priority)
        } else {
            u64::from(256 - u16::from(self.priority))
        };
        Duration::from_micros(parts * self.skew_of.as_micros() / 256)
    }

    /// Active_Down_Interval: the silence after which a Backup believes the Active to be gone.
    ///
    /// `(3 * Active_Adver_Interval) + Skew_Time`
    pub fn active_down_interval(self) -> Duration {
        let intervals = if mutated!(DownTooShort) { 2 } else { 3 };
        Duration::from_micros(intervals * self.active_interval.as_micros()) + self.skew_time()
    }

    /// How long one who was asleep listens before he believes what he slept through: an Active that
    /// lives is heard, though one advertisement be lost or late. Not in the RFC.
    pub(crate) fn listening_time(self) -> Duration {
        2 * self.active_interval.as_duration() + self.skew_time()
    }
}

/// Skew_Time of version 3.
pub fn skew_time(priority: u8, active_interval: Interval) -> Duration {
    Timing::version_3(priority, active_interval).skew_time()
}

/// Active_Down_Interval of version 3.
pub fn active_down_interval(priority: u8, active_interval: Interval) -> Duration {
    Timing::version_3(priority, active_interval).active_down_interval()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_and_down_of_version_3_are_exact_to_the_microsecond() {
        // (priority, interval in cs, skew in us, down in us)
        let table = [
            (1, 1, 9_960, 39_960),
            (100, 1, 6_093, 36_093),
            (253, 1, 117, 30_117),
            (254, 1, 78, 30_078),
            (1, 10, 99_609, 399_609),
            (100, 10, 60_937, 360_937),
            (253, 10, 1_171, 301_171),
            (254, 10, 781, 300_781),
            (1, 100, 996_093, 3_996_093),
            (100, 100, 609_375, 3_609_375),
            (253, 100, 11_718, 3_011_718),
            (254, 100, 7_812, 3_007_812),
            (1, 4095, 40_790_039, 163_640_039),
        ];
        for (priority, centiseconds, skew, down) in table {
            let interval = Interval::from_centiseconds(centiseconds).unwrap();
            assert_eq!(skew_time(priority, interval).as_micros(), skew, "{priority} {interval:?}");
            assert_eq!(
                active_down_interval(priority, interval).as_micros(),
                down,
                "{priority} {interval:?}"
            );
        }
    }

    #[test]
    fn the_skew_of_version_2_is_a_part_of_a_second() {
        // (priority, interval in cs, skew in us, down in us)
        let table = [
            (1, 100, 996_093, 3_996_093),
            (100, 100, 609_375, 3_609_375),
            (254, 100, 7_812, 3_007_812),
            (100, 300, 609_375, 9_609_375),
            (254, 300, 7_812, 9_007_812),
        ];
        for (priority, centiseconds, skew, down) in table {
            let interval = Interval::from_centiseconds(centiseconds).unwrap();
            let timing = Timing::version_2(priority, interval);
            assert_eq!(timing.skew_time().as_micros(), skew, "{priority} {interval:?}");
            assert_eq!(timing.active_down_interval().as_micros(), down, "{priority} {interval:?}");
        }
    }
}
