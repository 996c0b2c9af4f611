//! Validated sessions, bounded by evicting what expires first. Sans-io.

use std::sync::Arc;

use imbl::{HashMap, OrdSet};

use crate::command::SessionPut;
use crate::record::{MAX_LIFETIME, MAX_SESSIONS, MAX_USER_ID, Millis, Session, SessionKey};

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sessions {
    /// Nothing is kept, because nobody asks on this node.
    forgone: bool,
    by_key: HashMap<SessionKey, Arc<Session>>,
    by_expiry: OrdSet<(Millis, SessionKey)>,
}

impl Sessions {
    /// Sessions of a node where nobody asks for them.
    pub(super) fn forgone() -> Self {
        Self { forgone: true, ..Self::default() }
    }

    pub(super) fn get(&self, key: &SessionKey) -> Option<&Arc<Session>> {
        self.by_key.get(key)
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// When the first of them expires.
    pub(super) fn next_expiry(&self) -> Option<Millis> {
        self.by_expiry.get_min().map(|(expires_at, _)| *expires_at)
    }

    /// Drops what has expired at `now`.
    pub(super) fn forget(&mut self, now: Millis) {
        while self.next_expiry().is_some_and(|expires_at| expires_at <= now) {
            self.evict();
        }
    }

    /// A blind upsert: whether the key was known makes no difference, so replicas that started
    /// without the sessions answer alike. `on_its_way` is what its age does not count yet,
    /// `applied` is this node's own monotonic time.
    pub(super) fn put(
        &mut self,
        put: &SessionPut,
        on_its_way: Millis,
        now: Millis,
        applied: Millis,
    ) {
        let lifetime = Millis::from(put.lifetime).min(MAX_LIFETIME);
        let age = on_its_way.saturating_add(put.age.into());
        let left = lifetime.saturating_sub(age);
        if self.forgone || left == 0 || put.user.id.len() > MAX_USER_ID {
            return;
        }
        let validated_at = now.saturating_sub(age);
        let expires_at = now.saturating_add(left);
        let user = put.user.clone();
        let session = Session { user, validated_at, expires_at, applied, left };
        if let Some(old) = self.by_key.insert(put.key, Arc::new(session)) {
            self.by_expiry.remove(&(old.expires_at, put.key));
        }
        self.by_expiry.insert((expires_at, put.key));
        while self.by_key.len() > MAX_SESSIONS {
            self.evict();
        }
    }

    fn evict(&mut self) {
        if let Some((_, key)) = self.by_expiry.remove_min() {
            self.by_key.remove(&key);
        }
    }
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

    fn limit(journey: &Journey) -> Millis {
        Millis::from(journey.lifetime).min(MAX_LIFETIME) + SLACK
    }

    proptest! {
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
