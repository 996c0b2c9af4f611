//! Soft changes waiting to be sent together. Sans-io.
//!
//! Sessions are worth little and may be dropped, the oldest first; strikes are coalesced per
//! client and kept. What is taken fits one log entry.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

use crate::command::{Soft, SoftBatch};
use crate::record::{
    MAX_STRIKE_KEYS, MAX_STRIKES_PER_KEY, Millis, NodeId, Session, SessionKey, Strike,
};

/// Sessions waiting, at most.
const MAX_WAITING: usize = 8192;

/// Changes in one batch, at most.
const MAX_ITEMS: usize = 512;

/// Estimated bytes of one batch, at most.
const MAX_BYTES: usize = 32 << 10;

/// Encoded size of a strike at worst: node, address, time.
const STRIKE_BYTES: usize = 40;

/// Encoded size of a session at worst, without the user's id.
const SESSION_BYTES: usize = 48;

/// Longest user id replicated; Nextcloud's have 64 characters at most.
const MAX_USER_BYTES: usize = 256;

/// The queue of one node.
#[derive(Debug, Default)]
pub(crate) struct Batcher {
    sessions: HashMap<SessionKey, Session>,
    /// Keys of `sessions` in the order they came; may name keys that are gone.
    order: VecDeque<SessionKey>,
    strikes: BTreeMap<(NodeId, IpAddr), VecDeque<Millis>>,
    dropped: u64,
}

impl Batcher {
    /// Adds one change. A session replaces an earlier one of the same key.
    pub(crate) fn share(&mut self, soft: Soft) {
        match soft {
            Soft::Session(key, session) => self.session(key, session),
            Soft::Strike(strike) => self.strike(strike),
        }
    }

    /// Adds what another node collected.
    pub(crate) fn merge(&mut self, batch: SoftBatch) {
        for (key, session) in batch.sessions {
            self.session(key, session);
        }
        for strike in batch.strikes {
            self.strike(strike);
        }
    }

    /// Takes back what was surely not applied, without replacing anything newer.
    pub(crate) fn put_back(&mut self, batch: SoftBatch) {
        for (key, session) in batch.sessions {
            if !self.sessions.contains_key(&key) {
                self.session(key, session);
            }
        }
        for strike in batch.strikes {
            self.strike(strike);
        }
    }

    /// Counts a batch whose fate is unknown: sending it again could strike a client twice.
    pub(crate) fn give_up(&mut self, batch: &SoftBatch) {
        self.dropped += (batch.sessions.len() + batch.strikes.len()) as u64;
    }

    /// The next batch, if anything waits. Sessions that expired meanwhile are left out.
    pub(crate) fn take(&mut self, now: Millis) -> Option<SoftBatch> {
        let mut batch = SoftBatch { now, ..SoftBatch::default() };
        let mut room = Room { items: MAX_ITEMS, bytes: MAX_BYTES };
        while let Some(mut entry) = self.strikes.first_entry() {
            let (node, address) = *entry.key();
            while !entry.get().is_empty() && room.take(STRIKE_BYTES) {
                if let Some(at) = entry.get_mut().pop_front() {
                    batch.strikes.push(Strike { node, address, at });
                }
            }
            if !entry.get().is_empty() {
                break;
            }
            entry.remove();
        }
        while let Some(key) = self.order.front().copied() {
            if let Some(session) = self.sessions.get(&key)
                && now < session.expires_at
            {
                if !room.take(SESSION_BYTES + session.user.id.len()) {
                    break;
                }
                batch.sessions.push((key, session.clone()));
            }
            self.sessions.remove(&key);
            self.order.pop_front();
        }
        (!batch.sessions.is_empty() || !batch.strikes.is_empty()).then_some(batch)
    }

    /// Whether a full batch waits and there is no sense in waiting longer.
    pub(crate) fn is_full(&self) -> bool {
        self.sessions.len() + self.strikes.len() >= MAX_ITEMS
    }

    /// Changes given up so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn session(&mut self, key: SessionKey, session: Session) {
        if session.user.id.len() > MAX_USER_BYTES {
            self.dropped += 1;
            return;
        }
        if self.sessions.insert(key, session).is_none() {
            self.order.push_back(key);
        }
        while self.sessions.len() > MAX_WAITING
            && let Some(oldest) = self.order.pop_front()
        {
            self.sessions.remove(&oldest);
            self.dropped += 1;
        }
    }

    fn strike(&mut self, strike: Strike) {
        let key = (strike.node, strike.address);
        if self.strikes.len() >= MAX_STRIKE_KEYS && !self.strikes.contains_key(&key) {
            self.dropped += 1;
            return;
        }
        let times = self.strikes.entry(key).or_default();
        times.push_back(strike.at);
        // More than the state keeps per client would change nothing.
        if times.len() > MAX_STRIKES_PER_KEY {
            times.pop_front();
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
    use crate::record::{AccessLevel, User};

    fn session(user: &str, expires_at: Millis) -> Session {
        let user = User { id: user.into(), level: AccessLevel::User };
        Session { user, validated_at: 0, expires_at }
    }

    fn key(n: u32) -> SessionKey {
        SessionKey(u128::from(n).to_be_bytes())
    }

    fn strike(last: u8, at: Millis) -> Strike {
        Strike { node: 1, address: IpAddr::from([192, 0, 2, last]), at }
    }

    #[test]
    fn a_session_is_sent_once_with_its_newest_value_and_not_after_it_expired() {
        let mut batcher = Batcher::default();
        batcher.share(Soft::Session(key(1), session("old", 10)));
        batcher.share(Soft::Session(key(2), session("short", 5)));
        batcher.share(Soft::Session(key(1), session("new", 20)));
        let batch = batcher.take(7).unwrap();
        assert_eq!(batch.sessions, [(key(1), session("new", 20))]);
        assert_eq!(batcher.take(7), None);
        assert_eq!(batcher.dropped(), 0);
    }

    #[test]
    fn under_pressure_the_oldest_sessions_go_and_are_counted_but_no_strike() {
        let mut batcher = Batcher::default();
        batcher.share(Soft::Strike(strike(1, 1)));
        let waiting = u32::try_from(MAX_WAITING).unwrap();
        for n in 0..waiting + 3 {
            batcher.share(Soft::Session(key(n), session("a", 10)));
        }
        batcher.share(Soft::Session(key(0), session(&"x".repeat(300), 10)));
        assert_eq!(batcher.dropped(), 4);
        let first = batcher.take(0).unwrap();
        assert_eq!(first.strikes, [strike(1, 1)]);
        assert_eq!(first.sessions.first().unwrap().0, key(3));
        assert_eq!(first.sessions.len(), MAX_ITEMS - 1);
    }

    #[test]
    fn a_batch_fits_one_entry_and_nothing_is_lost_between_batches() {
        let mut batcher = Batcher::default();
        for n in 0..600 {
            batcher.share(Soft::Session(key(n), session(&"u".repeat(64), 10)));
            batcher.share(Soft::Strike(strike(u8::try_from(n % 50).unwrap(), n.into())));
        }
        let (mut sessions, mut strikes) = (0, 0);
        while let Some(batch) = batcher.take(0) {
            assert!(crate::codec::encode(&batch).unwrap().len() <= MAX_BYTES);
            sessions += batch.sessions.len();
            strikes += batch.strikes.len();
        }
        assert_eq!((sessions, strikes), (600, 600));
    }

    #[test]
    fn what_was_not_applied_comes_back_behind_what_is_newer() {
        let mut batcher = Batcher::default();
        batcher.share(Soft::Session(key(1), session("old", 10)));
        batcher.share(Soft::Strike(strike(1, 1)));
        let batch = batcher.take(0).unwrap();
        batcher.share(Soft::Session(key(1), session("new", 20)));
        batcher.put_back(batch);
        let again = batcher.take(0).unwrap();
        assert_eq!(again.sessions, [(key(1), session("new", 20))]);
        assert_eq!(again.strikes, [strike(1, 1)]);
    }
}
