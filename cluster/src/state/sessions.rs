//! Validated sessions, bounded by evicting what expires first. Sans-io.

use std::sync::Arc;

use imbl::{HashMap, OrdSet};

use crate::record::{MAX_SESSIONS, Millis, Session, SessionKey};

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sessions {
    by_key: HashMap<SessionKey, Arc<Session>>,
    by_expiry: OrdSet<(Millis, SessionKey)>,
}

impl Sessions {
    pub(super) fn get(&self, key: &SessionKey) -> Option<&Arc<Session>> {
        self.by_key.get(key)
    }

    /// Drops what has expired at `now`.
    pub(super) fn forget(&mut self, now: Millis) {
        while self.by_expiry.get_min().is_some_and(|(expires_at, _)| *expires_at <= now) {
            self.evict();
        }
    }

    pub(super) fn insert(&mut self, key: SessionKey, session: &Session, now: Millis) {
        if session.expires_at <= now {
            return;
        }
        if let Some(old) = self.by_key.insert(key, Arc::new(session.clone())) {
            self.by_expiry.remove(&(old.expires_at, key));
        }
        self.by_expiry.insert((session.expires_at, key));
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
