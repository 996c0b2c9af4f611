//! Soft changes of this node waiting to be sent together. Sans-io; times are this node's monotonic
//! milliseconds.
//!
//! Sessions are worth little and may be dropped, the oldest first; strikes are coalesced per
//! client and kept. What is taken is a [`Load`]: it keeps its name however often it is sent.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

use crate::command::{SessionPut, SoftPart};
use crate::record::{
    MAX_LIFETIME, MAX_STRIKE_KEYS, MAX_STRIKES_PER_KEY, MAX_USER_ID, Millis, NodeId, SessionKey,
    Strike, User,
};

/// Sessions waiting, at most.
const MAX_WAITING: usize = 8192;

/// Changes in one part, at most.
const MAX_ITEMS: usize = 512;

/// Estimated bytes of one part, at most.
const MAX_BYTES: usize = 32 << 10;

/// Encoded size of a strike at worst: node, address, time.
const STRIKE_BYTES: usize = 40;

/// Encoded size of a session at worst, without the user's id.
const SESSION_BYTES: usize = 32;

/// The queue of one node.
#[derive(Debug)]
pub(crate) struct Batcher {
    origin: NodeId,
    boot: u64,
    next_seq: u64,
    sessions: HashMap<SessionKey, Validated>,
    /// Keys of `sessions` in the order they came; may name keys that are gone.
    order: VecDeque<SessionKey>,
    /// What was taken lately, until half of its lifetime is over.
    sent: HashMap<SessionKey, (User, Millis)>,
    sent_order: VecDeque<(Millis, SessionKey)>,
    strikes: BTreeMap<IpAddr, VecDeque<Millis>>,
    dropped: u64,
}

/// A session as this node knows it.
#[derive(Clone, Debug, PartialEq)]
struct Validated {
    user: User,
    at: Millis,
    lifetime: Millis,
}

impl Validated {
    fn age(&self, now: Millis) -> Millis {
        now.saturating_sub(self.at)
    }

    fn is_over(&self, now: Millis) -> bool {
        self.age(now) >= self.lifetime
    }
}

/// One part on its way, sent until it has arrived or is worth nothing any more.
#[derive(Debug)]
pub(crate) struct Load {
    origin: NodeId,
    boot: u64,
    seq: u64,
    sessions: Vec<(SessionKey, Validated)>,
    strikes: Vec<Strike>,
}

impl Load {
    /// What to send at `now`, when the wall clock says `sent`. Sessions that expired meanwhile are
    /// left out; `None` when nothing is left.
    pub(crate) fn part(&self, now: Millis, sent: Millis) -> Option<SoftPart> {
        let narrow = |millis: Millis| u32::try_from(millis).unwrap_or(u32::MAX);
        let put = |(key, session): &(SessionKey, Validated)| SessionPut {
            key: *key,
            user: session.user.clone(),
            age: narrow(session.age(now)),
            lifetime: narrow(session.lifetime),
        };
        let live = self.sessions.iter().filter(|(_, session)| !session.is_over(now));
        let sessions: Vec<_> = live.map(put).collect();
        let strikes = self.strikes.clone();
        let Self { origin, boot, seq, .. } = *self;
        let any = !sessions.is_empty() || !strikes.is_empty();
        any.then_some(SoftPart { origin, boot, seq, sent, sessions, strikes })
    }

    /// How many changes it carries.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len() + self.strikes.len()
    }
}

impl Batcher {
    /// An empty queue of a node that has started `boot` times.
    pub(crate) fn new(origin: NodeId, boot: u64) -> Self {
        Self {
            origin,
            boot,
            next_seq: 0,
            sessions: HashMap::new(),
            order: VecDeque::new(),
            sent: HashMap::new(),
            sent_order: VecDeque::new(),
            strikes: BTreeMap::new(),
            dropped: 0,
        }
    }

    /// Adds a session validated at `now`; it replaces an earlier one of the same key. One that was
    /// sent alike and has more than half of its lifetime left is not sent again.
    pub(crate) fn session(&mut self, key: SessionKey, user: User, lifetime: Millis, now: Millis) {
        if user.id.len() > MAX_USER_ID {
            self.dropped += 1;
            return;
        }
        self.forget_sent(now);
        if self.sent.get(&key).is_some_and(|(sent, _)| *sent == user) {
            return;
        }
        let lifetime = lifetime.min(MAX_LIFETIME);
        if self.sessions.insert(key, Validated { user, at: now, lifetime }).is_none() {
            self.order.push_back(key);
        }
        while self.sessions.len() > MAX_WAITING
            && let Some(oldest) = self.order.pop_front()
        {
            self.sessions.remove(&oldest);
            self.dropped += 1;
        }
    }

    /// Adds one failure of a client.
    pub(crate) fn strike(&mut self, address: IpAddr, at: Millis) {
        if self.strikes.len() >= MAX_STRIKE_KEYS && !self.strikes.contains_key(&address) {
            self.dropped += 1;
            return;
        }
        let times = self.strikes.entry(address).or_default();
        times.push_back(at);
        // More than the state keeps per client would change nothing.
        if times.len() > MAX_STRIKES_PER_KEY {
            times.pop_front();
        }
    }

    /// Counts what was sent in vain until it was worth nothing.
    pub(crate) fn give_up(&mut self, load: &Load) {
        self.dropped += load.len() as u64;
    }

    /// The next part, if anything waits. Sessions that expired meanwhile are left out.
    pub(crate) fn take(&mut self, now: Millis) -> Option<Load> {
        let mut room = Room { items: MAX_ITEMS, bytes: MAX_BYTES };
        let strikes = self.take_strikes(&mut room);
        let sessions = self.take_sessions(&mut room, now);
        if strikes.is_empty() && sessions.is_empty() {
            return None;
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        Some(Load { origin: self.origin, boot: self.boot, seq, sessions, strikes })
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.strikes.is_empty()
    }

    /// Whether a full part waits and there is no sense in waiting longer.
    pub(crate) fn is_full(&self) -> bool {
        self.sessions.len() + self.strikes.len() >= MAX_ITEMS
    }

    /// Changes given up so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn take_strikes(&mut self, room: &mut Room) -> Vec<Strike> {
        let mut taken = Vec::new();
        while let Some(mut entry) = self.strikes.first_entry() {
            let address = *entry.key();
            while !entry.get().is_empty() && room.take(STRIKE_BYTES) {
                if let Some(at) = entry.get_mut().pop_front() {
                    taken.push(Strike { node: self.origin, address, at });
                }
            }
            if !entry.get().is_empty() {
                break;
            }
            entry.remove();
        }
        taken
    }

    fn take_sessions(&mut self, room: &mut Room, now: Millis) -> Vec<(SessionKey, Validated)> {
        let mut taken = Vec::new();
        while let Some(key) = self.order.front().copied() {
            if let Some(session) = self.sessions.get(&key)
                && !session.is_over(now)
            {
                if !room.take(SESSION_BYTES + session.user.id.len()) {
                    break;
                }
                let half = session.at.saturating_add(session.lifetime / 2);
                self.sent.insert(key, (session.user.clone(), half));
                self.sent_order.push_back((half, key));
                taken.push((key, session.clone()));
            }
            self.sessions.remove(&key);
            self.order.pop_front();
        }
        taken
    }

    fn forget_sent(&mut self, now: Millis) {
        while let Some((half, key)) = self.sent_order.front().copied()
            && half <= now
        {
            self.sent_order.pop_front();
            // It may have been sent again since, which has an entry of its own.
            if self.sent.get(&key).is_some_and(|(_, until)| *until <= now) {
                self.sent.remove(&key);
            }
        }
    }
}

/// What still fits.
struct Room {
    items: usize,
    bytes: usize,
}

impl Room {
    fn take(&mut self, size: usize) -> bool {
        let fits = self.items > 0 && self.bytes >= size;
        if fits {
            self.items -= 1;
            self.bytes -= size;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::AccessLevel;

    fn user(id: &str) -> User {
        User { id: id.into(), level: AccessLevel::User }
    }

    fn key(n: u32) -> SessionKey {
        SessionKey(u128::from(n).to_be_bytes())
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn batcher() -> Batcher {
        Batcher::new(1, 7)
    }

    /// Keys, users and ages of what would be sent.
    fn sent(load: Option<&Load>, now: Millis) -> Vec<(SessionKey, String, u32)> {
        let part = load.and_then(|load| load.part(now, 0));
        let puts = part.into_iter().flat_map(|part| part.sessions);
        puts.map(|put| (put.key, put.user.id, put.age)).collect()
    }

    #[test]
    fn a_session_is_sent_with_its_newest_value_and_its_age_and_not_after_it_expired() {
        let mut batcher = batcher();
        batcher.session(key(1), user("old"), 100, 0);
        batcher.session(key(2), user("short"), 5, 0);
        batcher.session(key(1), user("new"), 100, 10);
        let load = batcher.take(20);
        assert_eq!(sent(load.as_ref(), 20), [(key(1), "new".to_owned(), 10)]);
        assert_eq!(sent(load.as_ref(), 70), [(key(1), "new".to_owned(), 60)], "sent again");
        assert_eq!(sent(load.as_ref(), 110), [], "too late");
        assert!(batcher.take(20).is_none());
        assert_eq!(batcher.dropped(), 0);
    }

    #[test]
    fn a_session_sent_alike_is_not_sent_again_before_half_its_lifetime_is_over() {
        let mut batcher = batcher();
        batcher.session(key(1), user("a"), 3000, 0);
        assert_eq!(batcher.take(0).map(|load| load.len()), Some(1));
        for (now, id, again) in
            [(1499, "a", false), (1499, "b", true), (1500, "b", false), (2999, "b", true)]
        {
            batcher.session(key(1), user(id), 3000, now);
            assert_eq!(batcher.take(now).is_some(), again, "{now} {id}");
        }
    }

    #[test]
    fn under_pressure_the_oldest_sessions_go_and_are_counted_but_no_strike() {
        let mut batcher = batcher();
        batcher.strike(address(1), 1);
        let waiting = u32::try_from(MAX_WAITING).unwrap();
        for n in 0..waiting + 3 {
            batcher.session(key(n), user("a"), 10, 0);
        }
        batcher.session(key(0), user(&"x".repeat(MAX_USER_ID + 1)), 10, 0);
        assert_eq!(batcher.dropped(), 4);
        let first = batcher.take(0).unwrap().part(0, 0).unwrap();
        assert_eq!(first.strikes, [Strike { node: 1, address: address(1), at: 1 }]);
        assert_eq!(first.sessions.first().unwrap().key, key(3));
        assert_eq!(first.sessions.len(), MAX_ITEMS - 1);
    }

    #[test]
    fn a_part_has_its_limit_and_its_name_and_nothing_is_lost_between_parts() {
        let mut batcher = batcher();
        for n in 0..600 {
            batcher.session(key(n), user(&"u".repeat(MAX_USER_ID)), 10, 0);
            batcher.strike(address(u8::try_from(n % 50).unwrap()), n.into());
        }
        let (mut sessions, mut strikes, mut seqs) = (0, 0, Vec::new());
        while let Some(load) = batcher.take(0) {
            let part = load.part(0, Millis::MAX).unwrap();
            assert!(crate::codec::encode(&part).unwrap().len() <= MAX_BYTES);
            assert_eq!((part.origin, part.boot), (1, 7));
            sessions += part.sessions.len();
            strikes += part.strikes.len();
            seqs.push(part.seq);
        }
        assert_eq!((sessions, strikes), (600, 600));
        assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
    }
}
