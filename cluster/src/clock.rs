//! The only place of this crate that reads wall-clock time. It travels inside commands; applying
//! them never asks for it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::record::Millis;

/// Milliseconds since the Unix epoch.
pub(crate) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
