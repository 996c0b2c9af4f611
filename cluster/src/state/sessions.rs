//! Validated sessions, bounded by evicting what expires first. Sans-io.
//!
//! Thousands come a second and live for seconds, and every entry that brings some makes a new
//! state for readers. In a persistent map each of them would copy the way to its place, with all
//! that lies beside it. So they are kept in sorted runs that never change, one for each entry;
//! neighbours of like size become one, as in a log-structured merge tree: a session is moved a few
//! times in its life, and a search looks into a few runs.

use std::sync::Arc;

use crate::command::SessionPut;
use crate::record::{MAX_LIFETIME, MAX_SESSIONS, MAX_USER_ID, Millis, Session, SessionKey};

/// Sessions kept when there are too many: making room once is for a while.
const KEPT: usize = MAX_SESSIONS / 10 * 9;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sessions {
    /// Nothing is kept, because nobody asks on this node.
    forgone: bool,
    /// From the oldest to the newest; each has less than half of the one before.
    runs: Vec<Arc<Run>>,
}

/// Sessions in the order of their keys.
#[derive(Debug, PartialEq)]
struct Run {
    sessions: Vec<(SessionKey, Arc<Session>)>,
    /// When the last of them expires.
    ends: Millis,
}

impl Sessions {
    /// Sessions of a node where nobody asks for them.
    pub(super) fn forgone() -> Self {
        Self { forgone: true, ..Self::default() }
    }

    /// What was put last under that key, unless it is forgotten.
    pub(super) fn get(&self, key: &SessionKey) -> Option<&Arc<Session>> {
        self.runs.iter().rev().find_map(|run| run.get(key))
    }

    /// How many there are; one that was put again and one that expired may still be counted.
    pub(super) fn len(&self) -> usize {
        self.runs.iter().map(|run| run.sessions.len()).sum()
    }

    /// When the first can be forgotten.
    pub(super) fn next_expiry(&self) -> Option<Millis> {
        self.runs.first().map(|run| run.ends)
    }

    /// Drops what has expired at `now` and takes no work to find. Never what is newer than
    /// something else: under the same key that would be in force again.
    pub(super) fn forget(&mut self, now: Millis) {
        let over = self.runs.iter().take_while(|run| run.ends <= now).count();
        self.runs.drain(..over);
    }

    /// Blind upserts, in this order: whether a key was known makes no difference, so replicas that
    /// started without the sessions answer alike.
    pub(super) fn put(&mut self, mut new: Vec<(SessionKey, Arc<Session>)>, now: Millis) {
        if self.forgone || new.is_empty() {
            return;
        }
        // The last of equal keys is in force.
        new.reverse();
        new.sort_by_key(|(key, _)| *key);
        new.dedup_by_key(|(key, _)| *key);
        self.runs.push(Arc::new(Run::new(new)));
        while let [.., older, newer] = &*self.runs
            && older.sessions.len() <= 2 * newer.sessions.len()
        {
            self.merge_last(now);
        }
        if self.len() > MAX_SESSIONS {
            self.make_room(now);
        }
    }

    /// Makes one of the last two runs. What has expired stays in it as long as there are older ones.
    fn merge_last(&mut self, now: Millis) {
        let since = if self.runs.len() == 2 { now } else { 0 };
        let (Some(newer), Some(older)) = (self.runs.pop(), self.runs.pop()) else { return };
        self.runs.extend(merge(&older, &newer, since));
    }

    fn make_room(&mut self, now: Millis) {
        while self.runs.len() > 1 {
            self.merge_last(now);
        }
        let Some(run) = self.runs.pop() else { return };
        let mut sessions = run.sessions.clone();
        if let Some(surplus) = sessions.len().checked_sub(KEPT).filter(|surplus| *surplus > 0) {
            sessions.select_nth_unstable_by_key(surplus - 1, |(_, session)| session.expires_at);
            sessions.drain(..surplus);
            sessions.sort_by_key(|(key, _)| *key);
        }
        self.runs.push(Arc::new(Run::new(sessions)));
    }
}

impl Run {
    fn new(sessions: Vec<(SessionKey, Arc<Session>)>) -> Self {
        let ends = sessions.iter().map(|(_, session)| session.expires_at).max();
        Self { sessions, ends: ends.unwrap_or(0) }
    }

    fn get(&self, key: &SessionKey) -> Option<&Arc<Session>> {
        let at = self.sessions.binary_search_by_key(key, |(key, _)| *key).ok()?;
        self.sessions.get(at).map(|(_, session)| session)
    }
}

/// What two runs hold that has not expired at `now`, if anything; the newer is in force.
fn merge(older: &Run, newer: &Run, now: Millis) -> Option<Arc<Run>> {
    let mut merged = Vec::with_capacity(older.sessions.len() + newer.sessions.len());
    let mut rest = older.sessions.iter().peekable();
    let is_live = |session: &Session| session.expires_at > now;
    for (key, session) in &newer.sessions {
        while let Some(one) = rest.next_if(|(older, _)| older < key) {
            merged.extend(is_live(&one.1).then(|| one.clone()));
        }
        rest.next_if(|(older, _)| older == key);
        merged.extend(is_live(session).then(|| (*key, Arc::clone(session))));
    }
    merged.extend(rest.filter(|(_, session)| is_live(session)).cloned());
    (!merged.is_empty()).then(|| Arc::new(Run::new(merged)))
}

/// What a change says about a session, if it is worth anything. `on_its_way` is what its age does
/// not count yet, `applied` is this node's own monotonic time.
pub(super) fn judge(
    put: &SessionPut,
    on_its_way: Millis,
    now: Millis,
    applied: Millis,
) -> Option<(SessionKey, Arc<Session>)> {
    let lifetime = Millis::from(put.lifetime).min(MAX_LIFETIME);
    let age = on_its_way.saturating_add(put.age.into());
    let left = lifetime.saturating_sub(age);
    if left == 0 || put.user.id.len() > MAX_USER_ID {
        return None;
    }
    let validated_at = now.saturating_sub(age);
    let expires_at = now.saturating_add(left);
    let user = put.user.clone();
    Some((put.key, Arc::new(Session { user, validated_at, expires_at, applied, left })))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::command::{Command, SoftBatch, SoftPart};
    use crate::record::{AccessLevel, Moment, SLACK, User};
    use crate::state::State;

    const HOUR: Millis = 3_600_000;
    const KEY: SessionKey = SessionKey([1; 16]);

    /// A session from its validation to a moment when somebody asks, by true time.
    #[derive(Clone, Debug)]
    struct Journey {
        lifetime: u32,
        /// Milliseconds at its node, to the leader's stamp, to being applied, to being asked for.
        waits: [Millis; 4],
        /// How far the clocks of its node, the leader and the reader are behind true time.
        behind: [Millis; 3],
        /// What a leader with another clock had stamped before.
        clock: Millis,
    }

    /// When it was asked for, and whether it was accepted.
    fn travel(journey: &Journey) -> (Millis, bool) {
        let validated = 100 * HOUR;
        let [origin, leader, reader] = journey.behind;
        let [kept, to_stamp, to_apply, to_read] = journey.waits;
        let tick = |now| Command::Soft(SoftBatch { now, parts: Vec::new() });
        let mut state = State::default();
        state.apply(&tick(journey.clock));
        let age = u32::try_from(kept).unwrap();
        let user = User { id: "alice".into(), level: AccessLevel::User };
        let put = SessionPut { key: KEY, user, age, lifetime: journey.lifetime };
        let sent = validated + kept - origin;
        let part = SoftPart { origin: 1, sent, sessions: vec![put], ..SoftPart::default() };
        let stamped = validated + kept + to_stamp;
        state.begin(stamped + to_apply);
        let now = (stamped - leader).max(journey.clock + 1);
        state.apply(&Command::Soft(SoftBatch { now, parts: vec![part] }));
        let asked = stamped + to_apply + to_read;
        let at = Moment { wall: asked - reader, local: asked };
        (asked - validated, state.session(&KEY, at).is_some())
    }

    #[test]
    fn a_session_in_time_is_accepted_and_one_of_a_clock_that_is_off_is_not() {
        let right = Journey { lifetime: 3000, waits: [60, 40, 20, 10], behind: [0; 3], clock: 0 };
        let waits = |waits| Journey { waits, ..right.clone() };
        let behind = |behind| Journey { behind, ..right.clone() };
        for (name, journey, accepted) in [
            ("in time", right.clone(), true),
            ("at its end", waits([60, 40, 20, 2899]), true),
            ("over", waits([60, 40, 20, 2900]), false),
            ("kept too long", waits([3000, 40, 20, 0]), false),
            ("came hours late to the leader", waits([60, HOUR, 20, 0]), false),
            ("came hours late to the reader", waits([60, 40, HOUR, 0]), false),
            ("the origin's clock is behind", behind([3000, 0, 0]), false),
            ("the leader's clock is behind", behind([0, 3000, 0]), false),
            ("the reader's clock is behind", behind([0, 0, 6000]), false),
            ("a little behind", behind([500, 900, 700]), true),
            ("stamps ahead", Journey { clock: 101 * HOUR, ..right.clone() }, false),
        ] {
            assert_eq!(travel(&journey).1, accepted, "{name}");
        }
    }

    fn journeys(
        way: std::ops::Range<Millis>,
        wrong: std::ops::Range<Millis>,
    ) -> impl Strategy<Value = Journey> {
        let waits = (0..12_000u64, way.clone(), way, 0..15_000u64);
        let waits = waits.prop_map(|(a, b, c, d)| [a, b, c, d]);
        let behind = prop::array::uniform3(wrong);
        (1..12_000u32, waits, behind, 0..101 * HOUR)
            .prop_map(|(lifetime, waits, behind, clock)| Journey { lifetime, waits, behind, clock })
    }

    #[test]
    fn whoever_forgoes_sessions_keeps_none_and_answers_alike() {
        let user = User { id: "alice".into(), level: AccessLevel::User };
        let put = SessionPut { key: KEY, user, age: 0, lifetime: 3000 };
        let part = SoftPart { origin: 1, sent: HOUR, sessions: vec![put], ..SoftPart::default() };
        let command = Command::Soft(SoftBatch { now: HOUR, parts: vec![part] });
        let (mut node, mut witness) = (State::default(), State::default());
        witness.forgo_sessions();
        assert_eq!(node.apply(&command), witness.apply(&command));
        assert_eq!((node.session_count(), witness.session_count()), (1, 0));
        assert_eq!(postcard::to_stdvec(&node).unwrap(), postcard::to_stdvec(&witness).unwrap());
    }

    fn session(expires_at: Millis) -> Arc<Session> {
        let user = User { id: "alice".into(), level: AccessLevel::User };
        Arc::new(Session { user, validated_at: 0, expires_at, applied: 0, left: expires_at })
    }

    fn key(number: u64) -> SessionKey {
        SessionKey(u128::from(number).to_be_bytes())
    }

    #[test]
    fn what_expires_first_makes_room() {
        let mut sessions = Sessions::default();
        for first in (0..=MAX_SESSIONS as u64).step_by(500) {
            let some = first..first + 500;
            sessions.put(some.map(|n| (key(n), session(1000 + n))).collect(), 0);
            assert!(sessions.len() <= MAX_SESSIONS);
        }
        assert_eq!(sessions.len(), KEPT);
        let last = MAX_SESSIONS as u64 + 499;
        let oldest = last + 1 - KEPT as u64;
        assert!(sessions.get(&key(oldest)).is_some() && sessions.get(&key(last)).is_some());
        assert!(sessions.get(&key(oldest - 1)).is_none());
    }

    /// The later answer of Nextcloud counts until its end, and the earlier one not after that.
    #[test]
    fn what_has_expired_does_not_bring_back_what_it_replaced() {
        let mut sessions = Sessions::default();
        let others = (2..10).map(|n| (key(n), session(9)));
        sessions.put(others.chain([(key(1), session(9))]).collect(), 0);
        sessions.put(vec![(key(1), session(5))], 0);
        assert_eq!(sessions.runs.len(), 2, "two entries, not merged");
        sessions.forget(6);
        assert!(sessions.get(&key(1)).is_none_or(|found| found.expires_at <= 6));
    }

    fn limit(journey: &Journey) -> Millis {
        Millis::from(journey.lifetime).min(MAX_LIFETIME) + SLACK
    }

    proptest! {
        /// A map that is told the same.
        #[test]
        fn runs_hold_what_was_put_last(
            batches in prop::collection::vec(
                (prop::collection::vec((0..40_u64, 1..60_u64), 0..12), 0..3_u64), 0..60
            )
        ) {
            let (mut sessions, mut model) = (Sessions::default(), std::collections::BTreeMap::new());
            let mut now = 0;
            for (puts, pause) in batches {
                now += pause;
                sessions.forget(now);
                let puts: Vec<_> = puts.iter().map(|(n, left)| (*n, now + left)).collect();
                model.extend(puts.iter().copied());
                sessions.put(puts.iter().map(|(n, end)| (key(*n), session(*end))).collect(), now);
                for number in 0..40 {
                    let found = sessions.get(&key(number)).map(|session| session.expires_at);
                    let expected = model.get(&number).copied().filter(|end| *end > now);
                    prop_assert_eq!(found.filter(|end| *end > now), expected);
                }
                prop_assert!(sessions.runs.len() <= 12, "{} runs", sessions.runs.len());
            }
        }

        /// Whatever any clock says, as long as entries do not take longer than the slack.
        #[test]
        fn wrong_clocks_never_make_a_session_last_longer(
            journey in journeys(0..SLACK / 2, 0..2 * HOUR)
        ) {
            let (age, accepted) = travel(&journey);
            prop_assert!(!accepted || age < limit(&journey), "{} {:?}", age, journey);
        }

        /// However long an entry is on its way, as long as the clocks are right.
        #[test]
        fn late_entries_never_make_a_session_last_longer(journey in journeys(0..HOUR, 0..1)) {
            let journey = Journey { clock: 0, ..journey };
            let (age, accepted) = travel(&journey);
            prop_assert!(!accepted || age < limit(&journey), "{} {:?}", age, journey);
        }
    }
}
