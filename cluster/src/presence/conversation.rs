//! One presence connection as a machine: when to speak, what is too late, how long the way there
//! and back takes. Sans-io.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::message::{Beat, BeatError, Content, Echo, FASTEST, micros};
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
    /// By the rhythm.
    next: Instant,
    /// Before that, out of the rhythm.
    early: Option<Instant>,
    /// When the last beat went out.
    spoke: Option<Instant>,
    /// Flows that cannot wait have not been sent yet.
    urgent: bool,
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
            early: None,
            spoke: None,
            urgent: false,
            sequence: 0,
            sent: VecDeque::with_capacity(REMEMBERED),
            received: None,
            silent_since: now,
            under_way: None,
        }
    }

    /// When the next beat is due.
    pub(super) fn next_beat(&self) -> Instant {
        self.early.map_or(self.next, |early| early.min(self.next))
    }

    /// There are flows to tell that cannot wait for the rhythm.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.urgent = true;
        self.speak_soon(now);
    }

    /// No sooner after the last beat than at the fastest pace anybody may ask for; so whatever comes
    /// meanwhile goes together.
    fn speak_soon(&mut self, now: Instant) {
        self.early.get_or_insert(self.spoke.map_or(now, |at| at + FASTEST));
    }

    /// When the peer has been silent for too long.
    pub(super) fn given_up_at(&self) -> Instant {
        self.silent_since + patience(self.pace)
    }

    /// The beat that is due now. A late one moves the rhythm: arrears are of no use to anybody; one
    /// out of the rhythm leaves it alone.
    pub(super) fn beat(&mut self, now: Instant, content: Content) -> Beat {
        if now >= self.next {
            self.next = (self.next + self.pace).max(now + self.pace / 2);
        }
        (self.early, self.spoke) = (None, Some(now));
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

    /// Notes that a delta for a peer that knows `mark` goes out with the next beat; none if the
    /// peer knows everything.
    pub(super) fn delta_sent(&mut self, now: Instant, mark: Mark, delta: Option<&FlowDelta>) {
        self.urgent &= delta.is_some_and(FlowDelta::more);
        if delta.is_some() {
            self.under_way = Some((mark, now));
        }
    }

    /// Passes over a beat because the peer does not even take the last one.
    pub(super) fn skip(&mut self, now: Instant) {
        (self.next, self.early) = (now + self.pace, None);
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
        // The next delta waits for the peer's word that the last one has arrived.
        if self.urgent || beat.flows.is_some() {
            self.speak_soon(now);
        }
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
    use crate::flows::{Flow, FlowKind, FlowTable};

    const PACE: Duration = Duration::from_millis(10);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn content() -> Content {
        Content::default()
    }

    /// One flow.
    fn table() -> FlowTable {
        let mut table = FlowTable::new(1, 10);
        let [server, client] = ["192.0.2.1:80", "192.0.2.2:81"].map(|end| end.parse().unwrap());
        assert!(table.add(Flow { server, client, kind: FlowKind::Client, sequence: None }));
        table
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
    fn what_cannot_wait_goes_out_of_the_rhythm_and_is_acknowledged_so() {
        let start = Instant::now();
        let pace = ms(100);
        let (mut one, mut other) = (Conversation::new(start, pace), Conversation::new(start, pace));
        one.beat(start, content());
        other.beat(start, content());
        one.hurry(start + ms(3));
        one.hurry(start + ms(4));
        assert_eq!(one.next_beat(), start + FASTEST, "not more often than that");
        let delta = table().delta_since(Mark::default()).unwrap();
        let flows = Some(delta.clone());
        one.delta_sent(start + ms(5), Mark::default(), flows.as_ref());
        let told = one.beat(start + ms(5), Content { flows, ..content() });
        assert_eq!(one.next_beat(), start + pace, "the rhythm is what it was");
        // More comes while that is under way: it waits for the word that this has arrived.
        one.hurry(start + ms(6));
        one.beat(start + ms(10), content());
        other.take(start + ms(12), &told).unwrap();
        assert_eq!(other.next_beat(), start + FASTEST, "at once: it has not spoken for so long");
        let heard = other.beat(start + ms(12), Content { mark: delta.end(), ..content() });
        assert_eq!(other.next_beat(), start + pace);
        one.take(start + ms(13), &heard).unwrap();
        assert_eq!(one.next_beat(), start + ms(15));
        // Nothing is left to tell.
        one.delta_sent(start + ms(15), delta.end(), None);
        let last = one.beat(start + ms(15), content());
        other.take(start + ms(16), &last).unwrap();
        assert_eq!((one.next_beat(), other.next_beat()), (start + pace, start + pace));
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
        let nothing = Mark::default();
        let delta = table().delta_since(nothing).unwrap();
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
