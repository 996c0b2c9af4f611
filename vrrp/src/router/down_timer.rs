//! Active_Down_Timer (RFC 9568 section 6.2) and what else a Backup may be waiting for. Sans-io.

use std::time::{Duration, Instant};

use crate::{event::Reason, timers::Timing};

/// After an address could not be had, others get this long before we try again. Each try costs
/// them their address for a moment.
const PENALTY: Duration = Duration::from_secs(60);

/// It keeps its start and not its end, so that a change of priority moves it.
#[derive(Clone, Debug)]
pub(crate) enum DownTimer {
    /// Runs for Active_Down_Interval.
    Silence { since: Instant },
    /// Runs for Skew_Time: the Active said goodbye.
    Farewell { since: Instant },
    /// Runs for two intervals and Skew_Time: the process was asleep when its timer should have
    /// fired, for the `round`th time in a row.
    Listening { since: Instant, round: u8 },
    /// Runs for [`PENALTY`].
    Penalty { since: Instant },
    /// Has fired, but becoming Active is not permitted.
    Held,
    /// Has fired; a second opinion is being asked for.
    Consulting,
    /// Has fired, but the second opinion is to wait.
    Advised { until: Instant, why: &'static str },
    /// Has fired; the other members of the sync group are looked at again at this time.
    Ready { again: Instant, reason: Reason },
}

impl DownTimer {
    /// When it fires; `None`: not by itself.
    pub(crate) fn deadline(&self, timing: Timing) -> Option<Instant> {
        match *self {
            Self::Silence { since } => Some(since + timing.active_down_interval()),
            Self::Farewell { since } => Some(since + timing.skew_time()),
            Self::Listening { since, .. } => Some(since + timing.listening_time()),
            Self::Penalty { since } => Some(since + PENALTY),
            Self::Advised { until, .. } => Some(until),
            Self::Ready { again, .. } => Some(again),
            Self::Held | Self::Consulting => None,
        }
    }
}
