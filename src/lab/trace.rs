//! Sans-io: what a train of probes says about an outage.
//!
//! An outage is the time between two consecutive answers, if at least one probe sent in between
//! was lost or late. Without that condition the pace of the probes and every hiccup of the
//! measuring machine would look like an outage.

use std::time::{Duration, Instant};

/// One probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was sent.
    pub sent: Instant,
    /// When its answer came, if it did.
    pub answered: Option<Instant>,
}

impl Sample {
    /// Whether the answer is missing or took longer than `late`.
    fn missed(&self, late: Duration) -> bool {
        self.answered.is_none_or(|answered| answered.duration_since(self.sent) > late)
    }
}

/// A time without answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The last answer before it.
    pub from: Instant,
    /// The first answer after it; `None` if none came.
    pub until: Option<Instant>,
}

impl Hole {
    /// How long it was, or how long it had been when the measuring ended at `end`.
    pub fn length(&self, end: Instant) -> Duration {
        self.until.unwrap_or(end).saturating_duration_since(self.from)
    }
}

/// The largest hole that ended after `fault`; `None` if no probe was missed there.
/// `samples` are in the order they were sent; `end` is when the measuring ended. A probe younger
/// than `late` at the end has had no time to be answered and counts neither way.
pub fn largest_hole(
    samples: &[Sample],
    late: Duration,
    fault: Instant,
    end: Instant,
) -> Option<Hole> {
    let mut answers: Vec<Instant> = samples.iter().filter_map(|sample| sample.answered).collect();
    answers.sort_unstable();
    // Nothing was ever answered: the service is missing since the first probe.
    let first = answers.first().copied().or_else(|| samples.first().map(|sample| sample.sent))?;
    let closed = answers.windows(2).map(|pair| Hole { from: pair[0], until: Some(pair[1]) });
    let open = Hole { from: answers.last().copied().unwrap_or(first), until: None };
    closed
        .chain([open])
        .filter(|hole| hole.until.is_none_or(|until| until > fault))
        .filter(|hole| has_missed_probe(samples, *hole, late, end))
        .max_by_key(|hole| hole.length(end))
}

fn has_missed_probe(samples: &[Sample], hole: Hole, late: Duration, end: Instant) -> bool {
    let start = samples.partition_point(|sample| sample.sent < hole.from);
    samples[start..]
        .iter()
        .take_while(|sample| hole.until.is_none_or(|until| sample.sent < until))
        .any(|sample| sample.missed(late) && end.saturating_duration_since(sample.sent) > late)
}

/// Whether every probe sent in the `window` before `now - settle` was answered, and there were
/// some. `settle` leaves the youngest ones the time to be answered.
pub fn steady(samples: &[Sample], now: Instant, window: Duration, settle: Duration) -> bool {
    let Some(until) = now.checked_sub(settle) else { return false };
    let Some(since) = until.checked_sub(window) else { return false };
    let covered = samples.first().is_some_and(|first| first.sent <= since);
    let start = samples.partition_point(|sample| sample.sent < since);
    let mut young = samples[start..].iter().take_while(|sample| sample.sent <= until).peekable();
    covered && young.peek().is_some() && young.all(|sample| sample.answered.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_millis(10);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Probes every millisecond for 100 ms, each answered after `answer(n)` milliseconds.
    fn train(start: Instant, answer: impl Fn(u64) -> Option<u64>) -> Vec<Sample> {
        (0..100)
            .map(|n| Sample {
                sent: start + ms(n),
                answered: answer(n).map(|after| start + ms(n + after)),
            })
            .collect()
    }

    #[test]
    fn an_outage_is_the_time_between_the_answers_around_it() {
        let start = Instant::now();
        let end = start + ms(100);
        let samples = train(start, |n| (!(31..60).contains(&n)).then_some(0));
        let hole = largest_hole(&samples, LATE, start + ms(30), end).unwrap();
        assert_eq!(hole, Hole { from: start + ms(30), until: Some(start + ms(60)) });
        assert_eq!(hole.length(end), ms(30));
    }

    #[test]
    fn no_lost_probe_is_no_outage_even_if_the_prober_paused() {
        let start = Instant::now();
        let mut samples = train(start, |_n| Some(1));
        samples.drain(20..70);
        assert_eq!(largest_hole(&samples, LATE, start, start + ms(100)), None);
    }

    #[test]
    fn a_hole_that_ended_before_the_fault_is_not_its_doing() {
        let start = Instant::now();
        let samples = train(start, |n| (!(5..40).contains(&n) && n != 60).then_some(0));
        let hole = largest_hole(&samples, LATE, start + ms(50), start + ms(100)).unwrap();
        assert_eq!(hole.length(start), ms(2));
    }

    #[test]
    fn a_probe_that_waited_ends_the_hole_when_its_answer_comes() {
        let start = Instant::now();
        let samples = train(start, |n| match n {
            30..50 => Some(55 - n),
            _ => Some(0),
        });
        let hole = largest_hole(&samples[..50], LATE, start + ms(29), start + ms(56)).unwrap();
        assert_eq!(hole.until, Some(start + ms(55)));
        assert_eq!(hole.length(start), ms(26));
    }

    #[test]
    fn without_return_the_outage_lasts_to_the_end() {
        let start = Instant::now();
        let end = start + ms(100);
        let samples = train(start, |n| (n < 40).then_some(0));
        let hole = largest_hole(&samples, LATE, start + ms(40), end).unwrap();
        assert_eq!((hole.until, hole.length(end)), (None, ms(61)));
        let never = train(start, |_n| None);
        assert_eq!(largest_hole(&never, LATE, start, end).unwrap().length(end), ms(100));
    }

    #[test]
    fn steady_means_answered_for_the_whole_window_and_probed_at_all() {
        let start = Instant::now();
        let now = start + ms(100);
        let all = train(start, |_n| Some(0));
        let late_gap = train(start, |n| (n != 60).then_some(0));
        let old_gap = train(start, |n| (n != 10).then_some(0));
        let young = train(start, |n| (n < 95).then_some(0));
        assert!(steady(&all, now, ms(50), LATE));
        assert!(!steady(&late_gap, now, ms(50), LATE));
        assert!(steady(&old_gap, now, ms(50), LATE));
        assert!(steady(&young, now, ms(50), LATE), "the youngest may still be under way");
        assert!(!steady(&all[50..], now, ms(50), LATE), "not probed for the whole window");
        assert!(!steady(&[], now, ms(50), LATE));
    }
}
