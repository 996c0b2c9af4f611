//! Who is logged in. Sans-io: the clock and the random bytes come in.
//!
//! A session is known by the digest of what the browser's cookie holds, so that nothing this
//! process keeps opens one. Sessions end with the process, and none is known to another node.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};

use crate::secret::Secret;

/// A session nobody uses ends after this time. A page that only stays open does not use it.
const IDLE: Duration = Duration::from_secs(3600);

/// Every session ends after this time.
const LONGEST: Duration = Duration::from_secs(12 * 3600);

/// Most sessions; a further one ends the one that was used longest ago.
const MOST: usize = 64;

/// What a session is known by here: the digest of its cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// Of what a cookie holds, whatever that is.
    pub(super) fn of(cookie: &str) -> Self {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, cookie.as_bytes()).as_ref());
        Self(key)
    }
}

/// Random bytes as text: 64 hexadecimal digits.
pub(super) fn text(random: [u8; 32]) -> String {
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everybody who is logged in.
#[derive(Debug, Default)]
pub(super) struct Sessions(HashMap<Key, Session>);

#[derive(Debug)]
struct Session {
    csrf: String,
    begun: Instant,
    used: Instant,
    note: Option<String>,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) >= LONGEST
            || now.saturating_duration_since(self.used) >= IDLE
    }
}

/// A session that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Visitor {
    /// Which.
    pub(super) key: Key,
    /// What its forms must bring along.
    pub(super) csrf: String,
}

impl Visitor {
    /// Whether a form comes from a page of this session.
    pub(super) fn owns(&self, offered: &str) -> bool {
        Secret::new(self.csrf.as_bytes()).matches(offered.as_bytes())
    }
}

impl Sessions {
    /// Begins a session. `csrf` is what its forms will bring along.
    pub(super) fn open(&mut self, key: Key, csrf: String, now: Instant) {
        self.0.retain(|_, session| !session.is_over(now));
        if self.0.len() >= MOST {
            let oldest = self.0.iter().min_by_key(|(_, session)| session.used);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(key, Session { csrf, begun: now, used: now, note: None });
    }

    /// The session, which is used by this.
    pub(super) fn find(&mut self, key: Key, now: Instant) -> Option<Visitor> {
        if !self.is_open(key, now) {
            self.0.remove(&key);
            return None;
        }
        let session = self.0.get_mut(&key)?;
        session.used = now;
        Some(Visitor { key, csrf: session.csrf.clone() })
    }

    /// Whether it goes on; looking is no use.
    pub(super) fn is_open(&self, key: Key, now: Instant) -> bool {
        self.0.get(&key).is_some_and(|session| !session.is_over(now))
    }

    /// Ends it.
    pub(super) fn close(&mut self, key: Key) {
        self.0.remove(&key);
    }

    /// Leaves a sentence for the next page this session looks at.
    pub(super) fn leave(&mut self, key: Key, note: String) {
        if let Some(session) = self.0.get_mut(&key) {
            session.note = Some(note);
        }
    }

    /// Takes that sentence.
    pub(super) fn note(&mut self, key: Key) -> Option<String> {
        self.0.get_mut(&key)?.note.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Key {
        Key::of(&number.to_string())
    }

    #[test]
    fn a_session_ends_when_it_is_not_used_and_in_any_case_after_half_a_day() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        sessions.open(key(1), "c".into(), start);
        sessions.open(key(2), "c".into(), start);
        assert!(sessions.find(key(2), start + IDLE).is_none(), "idle");
        let minute = Duration::from_secs(60);
        let mut at = start;
        while at + minute < start + LONGEST {
            at += minute;
            // A page that stays open looks all the time and uses nothing.
            assert!(sessions.is_open(key(1), at));
            assert!(sessions.find(key(1), at).is_some());
        }
        assert!(sessions.find(key(1), start + LONGEST).is_none(), "whatever it does");
        assert!(sessions.0.is_empty());
    }

    #[test]
    fn an_open_page_alone_does_not_keep_a_session() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        sessions.open(key(1), "c".into(), start);
        assert!(sessions.is_open(key(1), start + IDLE - Duration::from_secs(1)));
        assert!(!sessions.is_open(key(1), start + IDLE));
    }

    #[test]
    fn only_the_own_forms_and_the_own_cookie_count() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        sessions.open(Key::of("cookie"), "mine".into(), start);
        assert!(sessions.find(Key::of("Cookie"), start).is_none());
        let visitor = sessions.find(Key::of("cookie"), start).unwrap();
        assert!(visitor.owns("mine"));
        for forged in ["", "min", "mine ", "yours"] {
            assert!(!visitor.owns(forged), "{forged:?}");
        }
    }

    #[test]
    fn a_note_is_read_once_and_a_closed_session_is_none() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        sessions.open(key(1), "c".into(), start);
        sessions.leave(key(1), "done".into());
        assert_eq!(sessions.note(key(1)).as_deref(), Some("done"));
        assert_eq!(sessions.note(key(1)), None);
        sessions.close(key(1));
        assert!(sessions.find(key(1), start).is_none());
    }

    #[test]
    fn too_many_sessions_end_the_one_used_longest_ago() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        for number in 0..=u64::try_from(MOST).unwrap() {
            sessions.open(key(number), "c".into(), start + Duration::from_millis(number));
        }
        assert_eq!(sessions.0.len(), MOST);
        assert!(!sessions.is_open(key(0), start) && sessions.is_open(key(1), start));
    }
}
