//! One presence connection as a machine: when to speak, what is too late, how long the way there
//! and back takes. Sans-io.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::message::{Beat, BeatError, Content, Echo, micros};
use crate::flows::{FlowDelta, Mark};

/// Beats sent whose echo may still come.
const REMEMBERED: usize = 64;

/// A connection that brought no beat for so long is given up: this many beats, but no less than
/// [`LEAST_PATIENCE`], or one lost segment that TCP sends again (200 ms and more later) would
/// cost the connection.
const MISSED_BEATS: u32 = 20;
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// A flow delta that is not acknowledged within so many beats is sent again.
const DELTA_BEATS: u32 = 4;

/// How long a peer on a connection of this pace may be silent, and how long what we send may stay
/// unacknowledged.
pub(super) fn patience(pace: Duration) -> Duration {
    (pace * MISSED_BEATS).max(LEAST_PATIENCE)
}

/// The state of one connection.
pub(super) struct Conversation {
    pace: Duration,
    next: Instant,
    sequence: u64,
    sent: VecDeque<(u64, Instant)>,
    received: Option<(u64, Instant)>,
    silent_since: Instant,
    /// The delta that is under way: for whom, and since when.
    under_way: Option<(Mark, Instant)>,
}

impl Conversation {
    /// Speaks at once, then at this pace.
    pub(super) fn new(now: Instant, pace: Duration) -> Self {
        Self {
            pace,
            next: now,
            sequence: 0,
            sent: VecDeque::with_capacity(REMEMBERED),
            received: None,
            silent_since: now,
            under_way: None,
        }
    }

    /// When the next beat is due.
    pub(super) fn next_beat(&self) -> Instant {
        self.next
    }

    /// When the peer has been silent for too long.
    pub(super) fn given_up_at(&self) -> Instant {
        self.silent_since + patience(self.pace)
    }

    /// The beat that is due now. A late one moves the rhythm: arrears are of no use to anybody.
    pub(super) fn beat(&mut self, now: Instant, content: Content) -> Beat {
        self.next = (self.next + self.pace).max(now + self.pace / 2);
        self.sequence += 1;
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((self.sequence, now));
        let held = |at| micros(now.saturating_duration_since(at));
        let echo = self.received.map(|(sequence, at)| Echo { sequence, held_us: held(at) });
        Beat::new(self.sequence, echo, content)
    }

    /// Whether a delta for a peer that knows `mark` is worth sending: the one sent before gets
    /// time to arrive and to be acknowledged before it is sent again.
    pub(super) fn is_delta_due(&self, now: Instant, mark: Mark) -> bool {
        let patience = self.pace * DELTA_BEATS;
        self.under_way.is_none_or(|(sent, at)| sent != mark || now >= at + patience)
    }

    /// Notes that a delta for a peer that knows `mark` goes out with the next beat.
    pub(super) fn delta_sent(&mut self, now: Instant, mark: Mark, delta: Option<&FlowDelta>) {
        if delta.is_some() {
            self.under_way = Some((mark, now));
        }
    }

    /// Passes over a beat because the peer does not even take the last one.
    pub(super) fn skip(&mut self, now: Instant) {
        self.next = now + self.pace;
    }

    /// Takes in a beat and tells the round trip if it could be measured.
    ///
    /// # Errors
    /// The beat is not one this node would send.
    pub(super) fn take(
        &mut self,
        now: Instant,
        beat: &Beat,
    ) -> Result<Option<Duration>, BeatError> {
        let last = self.received.map_or(0, |(last, _)| last);
        if beat.sequence <= last {
            return Err(BeatError::Order { last, found: beat.sequence });
        }
        beat.check()?;
        self.received = Some((beat.sequence, now));
        self.silent_since = now;
        let Some(echo) = beat.echo else { return Ok(None) };
        let sent = self.sent.iter().find(|(sequence, _)| *sequence == echo.sequence);
        Ok(sent.map(|(_, at)| {
            let away = now.saturating_duration_since(*at);
            away.saturating_sub(Duration::from_micros(echo.held_us))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Duration = Duration::from_millis(10);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn content() -> Content {
        Content::default()
    }

    #[test]
    fn beats_keep_their_rhythm_and_arrears_are_not_sent() {
        let start = Instant::now();
        let mut talk = Conversation::new(start, PACE);
        assert_eq!(talk.next_beat(), start);
        talk.beat(start + ms(1), content());
        assert_eq!(talk.next_beat(), start + ms(10), "a late one does not delay the next");
        talk.beat(start + ms(95), content());
        assert_eq!(talk.next_beat(), start + ms(100), "after a pause there is no burst");
    }

    #[test]
    fn the_round_trip_leaves_out_the_time_the_peer_held_it() {
        let start = Instant::now();
        let (mut one, mut other) = (Conversation::new(start, PACE), Conversation::new(start, PACE));
        let there = one.beat(start, content());
        assert_eq!(other.take(start + ms(1), &there), Ok(None));
        let back = other.beat(start + ms(8), content());
        assert_eq!(one.take(start + ms(10), &back), Ok(Some(ms(3))));
        let invented = Beat { sequence: 9, echo: Some(Echo { sequence: 77, held_us: 0 }), ..back };
        assert_eq!(one.take(start + ms(11), &invented), Ok(None));
    }

    #[test]
    fn a_beat_out_of_order_is_refused() {
        let start = Instant::now();
        let mut talk = Conversation::new(start, PACE);
        let beat = |sequence| Beat::new(sequence, None, content());
        assert_eq!(talk.take(start, &beat(0)), Err(BeatError::Order { last: 0, found: 0 }));
        assert_eq!(talk.take(start, &beat(5)), Ok(None));
        assert_eq!(talk.take(start, &beat(5)), Err(BeatError::Order { last: 5, found: 5 }));
    }

    #[test]
    fn a_delta_is_repeated_only_when_it_was_not_acknowledged() {
        let start = Instant::now();
        let mut talk = Conversation::new(start, PACE);
        let mut table = crate::flows::FlowTable::new(1, 10);
        let [server, client] = ["192.0.2.1:80", "192.0.2.2:81"].map(|end| end.parse().unwrap());
        let kind = crate::flows::FlowKind::Client;
        assert!(table.add(crate::flows::Flow { server, client, kind, sequence: None }));
        let nothing = Mark::default();
        let delta = table.delta_since(nothing).unwrap();
        assert!(talk.is_delta_due(start, nothing));
        talk.delta_sent(start, nothing, Some(&delta));
        assert!(!talk.is_delta_due(start + ms(30), nothing), "it is still under way");
        assert!(talk.is_delta_due(start + ms(30), delta.end()), "it has arrived: the next one");
        assert!(talk.is_delta_due(start + ms(40), nothing), "it was lost");
    }

    #[test]
    fn a_silent_peer_is_given_up_but_not_before_tcp_could_repair_a_loss() {
        let start = Instant::now();
        let mut talk = Conversation::new(start, PACE);
        assert_eq!(talk.given_up_at(), start + Duration::from_secs(1));
        let beat = Beat::new(1, None, content());
        talk.take(start + ms(300), &beat).unwrap();
        assert_eq!(talk.given_up_at(), start + ms(1300));
        assert_eq!(patience(ms(500)), Duration::from_secs(10));
    }
}
