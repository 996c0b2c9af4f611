//! The key cookies are hashed with before they are shared, and the one before it, both sealed.
//! Sans-io.

use serde::{Deserialize, Serialize};

use crate::record::Millis;

/// How long a key is used, in milliseconds: one day.
pub(crate) const LIFETIME: Millis = 24 * 3600 * 1000;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionKeys {
    current: Option<SealedKey>,
    previous: Option<SealedKey>,
    /// Somebody who knows the current key has left.
    exposed: bool,
}

/// Which session key is in force; none has the number zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    /// Counts the keys from 1.
    pub number: u64,
    /// When it was made: two branches of a cluster may have made one of the same number.
    pub since: Millis,
}

/// One key. Only who has the cluster's key can open it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SealedKey {
    /// Counts the keys from 1.
    pub(crate) epoch: u64,
    /// Sealed.
    pub(crate) key: Vec<u8>,
    /// When it was made, by the wall clock of the node that made it.
    pub(crate) since: Millis,
}

impl SessionKeys {
    pub(crate) fn current(&self) -> Option<&SealedKey> {
        self.current.as_ref()
    }

    pub(crate) fn previous(&self) -> Option<&SealedKey> {
        self.previous.as_ref()
    }

    pub(super) fn epoch(&self) -> Epoch {
        let epoch = |key: &SealedKey| Epoch { number: key.epoch, since: key.since };
        self.current.as_ref().map(epoch).unwrap_or_default()
    }

    /// A node that knows the key was taken out: another one is due.
    pub(super) fn expose(&mut self) {
        self.exposed = self.current.is_some();
    }

    /// Puts a key in force if it is the next one: of two nodes that make one at once the second
    /// comes too late.
    pub(super) fn rotate(&mut self, epoch: u64, key: &[u8], since: Millis) -> bool {
        if epoch != self.epoch().number + 1 {
            return false;
        }
        let next = SealedKey { epoch, key: key.to_vec(), since };
        self.previous = self.current.replace(next);
        self.exposed = false;
        true
    }
}

/// Whether it is time for another key.
pub(crate) fn is_due(keys: &SessionKeys, now: Millis) -> bool {
    keys.exposed
        || keys.current.as_ref().is_none_or(|key| now.saturating_sub(key.since) >= LIFETIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_due_once_a_day_and_of_two_made_at_once_the_first_counts() {
        let mut keys = SessionKeys::default();
        assert!(is_due(&keys, 0));
        assert!(keys.rotate(1, b"one", 1000));
        assert!(!keys.rotate(1, b"late", 1001));
        assert!(!is_due(&keys, 999) && !is_due(&keys, 1000 + LIFETIME - 1));
        assert!(is_due(&keys, 1000 + LIFETIME));
        assert!(!keys.rotate(3, b"three", 2000));
        assert!(keys.rotate(2, b"two", 2000));
        keys.expose();
        assert!(is_due(&keys, 2000), "a node was removed");
        assert!(keys.rotate(3, b"three", 2001) && !is_due(&keys, 2001));
        let named = |key: Option<&SealedKey>| key.map(|key| (key.epoch, key.key.clone()));
        assert_eq!(named(keys.current()), Some((3, b"three".to_vec())));
        assert_eq!(named(keys.previous()), Some((2, b"two".to_vec())));
    }
}
