//! Timer arithmetic of RFC 9568 section 6.1, in microseconds. Sans-io.
//!
//! Whole centiseconds, the unit of the wire, would lose Skew_Time altogether at short intervals:
//! with 10 ms and priority 100 it is 6.09 ms.

use std::time::Duration;

use crate::config::Interval;

/// Skew_Time: the part of an interval by which a lower priority waits longer.
///
/// `((256 - priority) * Active_Adver_Interval) / 256`
pub fn skew_time(priority: u8, active_interval: Interval) -> Duration {
    let micros = u64::from(256 - u16::from(priority)) * active_interval.as_micros() / 256;
    Duration::from_micros(micros)
}

/// Active_Down_Interval: the silence after which a Backup believes the Active to be gone.
///
/// `(3 * Active_Adver_Interval) + Skew_Time`
pub fn active_down_interval(priority: u8, active_interval: Interval) -> Duration {
    Duration::from_micros(3 * active_interval.as_micros()) + skew_time(priority, active_interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_and_down_are_exact_to_the_microsecond() {
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
}
