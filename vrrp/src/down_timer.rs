//! Active_Down_Timer (RFC 9568 section 6.2) and what else a Backup may be waiting for. Sans-io.

use std::time::{Duration, Instant};

use crate::{
    config::Interval,
    timers::{active_down_interval, skew_time},
};

/// After the system refused to add an address, others get this long before we try again. Each try
/// costs them their address for a moment.
const REFUSED_PENALTY: Duration = Duration::from_secs(60);

/// It keeps its start and not its end, so that a change of priority moves it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DownTimer {
    /// Runs for Active_Down_Interval.
    Silence { since: Instant },
    /// Runs for Skew_Time: the Active said goodbye.
    Farewell { since: Instant },
    /// Runs for [`REFUSED_PENALTY`].
    Refused { since: Instant },
    /// Has fired, but becoming Active is not permitted.
    Held,
    /// Has fired; a second opinion is being asked for.
    Consulting,
    /// Has fired, but the second opinion is to wait.
    Advised { until: Instant, why: &'static str },
}

impl DownTimer {
    /// When it fires; `None`: not by itself.
    pub(crate) fn deadline(&self, priority: u8, active_interval: Interval) -> Option<Instant> {
        match *self {
            Self::Silence { since } => {
                Some(since + active_down_interval(priority, active_interval))
            }
            Self::Farewell { since } => Some(since + skew_time(priority, active_interval)),
            Self::Refused { since } => Some(since + REFUSED_PENALTY),
            Self::Advised { until, .. } => Some(until),
            Self::Held | Self::Consulting => None,
        }
    }
}
