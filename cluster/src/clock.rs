//! The only place that reads wall-clock time for records. It travels inside commands; applying
//! them never asks for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::record::Millis;

/// Milliseconds since the Unix epoch.
pub fn now() -> Millis {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A length of time in the unit of the records; the longest there is when it does not fit.
pub fn millis(length: Duration) -> Millis {
    Millis::try_from(length.as_millis()).unwrap_or(Millis::MAX)
}
