//! What an operator must look at while it lasts: raised and cleared by whoever sees it, told in
//! the log when it begins, now and then while it lasts, and when it ends. Sans-io.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// While it lasts an alarm is logged again so often.
const REMIND: Duration = Duration::from_secs(60);

/// One that comes back within this time after it was told is not told again yet: something that
/// flickers must not fill the log.
const QUIET: Duration = Duration::from_secs(10);

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The Active is well, but its advertisements do not arrive here.
    SegmentCut,
    /// This node hears nobody and gave its addresses away.
    Isolated,
    /// A clock is off.
    ClockOff,
    /// The witness is not heard.
    WitnessLost,
    /// A node of a pair is alone.
    PairDegraded,
    /// What a pair acknowledges is on one node only.
    PairAsync,
    /// A certificate ends soon, or has ended.
    CertificateEnds,
    /// The node was taken out of service by an admin.
    Drained,
    /// It is, and holds an address because no other node can.
    LastResort,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::SegmentCut,
        Self::Isolated,
        Self::ClockOff,
        Self::WitnessLost,
        Self::PairDegraded,
        Self::PairAsync,
        Self::CertificateEnds,
        Self::Drained,
        Self::LastResort,
    ];

    /// Its name in status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::SegmentCut => "vrrp_segment_cut",
            Self::Isolated => "isolated",
            Self::ClockOff => "clock_off",
            Self::WitnessLost => "witness_lost",
            Self::PairDegraded => "pair_degraded",
            Self::PairAsync => "pair_async",
            Self::CertificateEnds => "certificate_ends",
            Self::Drained => "drained",
            Self::LastResort => "last_resort",
        }
    }
}

/// An alarm that is raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What is wrong.
    pub kind: Kind,
    /// The virtual router it is about; none when it is about the node.
    pub router: Option<Arc<str>>,
    /// Since when.
    pub since: Instant,
    /// For the operator.
    pub text: String,
}

/// What the log should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It begins, or still lasts.
    Raised(Alarm),
    /// It has ended after that time.
    Cleared(Alarm, Duration),
}

type Key = (Kind, Option<Arc<str>>);

/// All alarms of a node.
#[derive(Debug, Default)]
pub struct Alarms {
    raised: BTreeMap<Key, Alarm>,
    told: BTreeMap<Key, (Instant, bool)>,
}

impl Alarms {
    /// Those that are raised.
    pub fn raised(&self) -> impl Iterator<Item = &Alarm> {
        self.raised.values()
    }

    /// Replaces the alarms by those of `now` and tells what to log.
    pub fn update(&mut self, now: Instant, current: Vec<Alarm>) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut raised = BTreeMap::new();
        for alarm in current {
            let key = (alarm.kind, alarm.router.clone());
            let lasts = self.raised.remove(&key).is_some();
            let pause = if lasts { REMIND } else { QUIET };
            if self.told.get(&key).is_none_or(|(at, _)| now >= *at + pause) {
                self.told.insert(key.clone(), (now, true));
                notices.push(Notice::Raised(alarm.clone()));
            }
            raised.insert(key, alarm);
        }
        for (key, alarm) in std::mem::replace(&mut self.raised, raised) {
            // Only what was told to have begun is told to have ended.
            if let Some((_, begun @ true)) = self.told.get_mut(&key) {
                *begun = false;
                let lasted = now.saturating_duration_since(alarm.since);
                notices.push(Notice::Cleared(alarm, lasted));
            }
        }
        notices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(since: Instant) -> Alarm {
        let router = Some("web".into());
        Alarm { kind: Kind::SegmentCut, router, since, text: "cut".into() }
    }

    #[test]
    fn an_alarm_is_told_when_it_begins_now_and_then_and_when_it_ends() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut alarms = Alarms::default();
        assert_eq!(alarms.update(start, vec![alarm(start)]), [Notice::Raised(alarm(start))]);
        assert_eq!(alarms.update(at(1), vec![alarm(start)]), []);
        assert_eq!(alarms.raised().count(), 1);
        assert_eq!(alarms.update(at(60), vec![alarm(start)]), [Notice::Raised(alarm(start))]);
        let cleared = Notice::Cleared(alarm(start), Duration::from_secs(70));
        assert_eq!(alarms.update(at(70), Vec::new()), [cleared]);
        assert_eq!(alarms.update(at(71), Vec::new()), []);
        assert_eq!(alarms.raised().count(), 0);
    }

    #[test]
    fn one_that_flickers_is_told_at_most_every_ten_seconds() {
        let start = Instant::now();
        let mut alarms = Alarms::default();
        let mut notices = 0;
        for tick in 0..200 {
            let now = start + Duration::from_millis(100 * tick);
            let current = if tick % 2 == 0 { vec![alarm(now)] } else { Vec::new() };
            notices += alarms.update(now, current).len();
        }
        assert_eq!(notices, 4, "twice in twenty seconds, each begun and ended");
    }
}
