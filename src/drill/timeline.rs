//! What a train of probes says about an outage. Sans-io.

use std::time::{Duration, Instant};

/// One probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was sent.
    pub sent: Instant,
    /// When it was answered; none: it failed, or was not answered in time.
    pub answered: Option<Instant>,
}

/// What happened in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outage {
    /// The longest time without an answer.
    pub longest: Duration,
    /// Probes sent.
    pub probes: usize,
    /// Those that were not answered.
    pub failed: usize,
}

/// The outage between two moments; `samples` are of ended probes, in any order.
pub fn outage(samples: &[Sample], from: Instant, until: Instant) -> Outage {
    let sent: Vec<_> = samples.iter().filter(|it| from <= it.sent && it.sent <= until).collect();
    let failed = sent.iter().filter(|it| it.answered.is_none()).count();
    let answers = samples.iter().filter_map(|it| it.answered);
    let mut marks: Vec<_> = answers.filter(|at| from <= *at && *at <= until).collect();
    marks.extend([from, until]);
    marks.sort_unstable();
    let gaps = marks.windows(2).map(|pair| match pair {
        [one, next] => next.saturating_duration_since(*one),
        _ => Duration::ZERO,
    });
    Outage { longest: gaps.max().unwrap_or_default(), probes: sent.len(), failed }
}

/// Whether every probe sent in the last `window` before `now` was answered, and some were.
pub fn is_steady(samples: &[Sample], now: Instant, window: Duration) -> bool {
    let recent = samples.iter().filter(|it| now.saturating_duration_since(it.sent) <= window);
    let (mut count, mut failed) = (0_usize, 0_usize);
    for sample in recent {
        count += 1;
        failed += usize::from(sample.answered.is_none());
    }
    count > 0 && failed == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Probes each 10 ms from 0 to `end`, answered after 1 ms unless sent in `hole`.
    fn train(start: Instant, end: u64, hole: std::ops::Range<u64>) -> Vec<Sample> {
        (0..=end / 10)
            .map(|number| {
                let at = number * 10;
                let answered = (!hole.contains(&at)).then_some(start + ms(at + 1));
                Sample { sent: start + ms(at), answered }
            })
            .collect()
    }

    #[test]
    fn an_outage_is_the_longest_time_without_an_answer() {
        let start = Instant::now();
        for (hole, from, until, longest, failed) in [
            (0..0, 0, 1000, 10, 0),
            (200..500, 0, 1000, 310, 30),
            (200..500, 450, 1000, 51, 5),
            (900..2000, 0, 1000, 109, 11),
            (0..2000, 100, 1000, 900, 91),
        ] {
            let samples = train(start, 1000, hole.clone());
            let outage = outage(&samples, start + ms(from), start + ms(until));
            assert_eq!((outage.longest, outage.failed), (ms(longest), failed), "{hole:?}");
        }
        assert_eq!(outage(&[], start, start + ms(70)).longest, ms(70));
    }

    #[test]
    fn late_answers_of_early_probes_are_answers() {
        let start = Instant::now();
        let mut samples = train(start, 1000, 0..1001);
        samples[3].answered = Some(start + ms(600));
        assert_eq!(outage(&samples, start, start + ms(1000)).longest, ms(600));
    }

    #[test]
    fn steady_is_what_was_asked_and_answered_lately() {
        let start = Instant::now();
        let samples = train(start, 1000, 300..400);
        let at = |millis| is_steady(&samples, start + ms(millis), ms(200));
        assert!(!at(500) && at(1000));
        assert!(!at(5000), "nobody asked");
        assert!(!is_steady(&[], start, ms(200)));
    }
}
