//! What a stand-in was asked, for tests that look at it afterwards. The lab itself keeps none:
//! under load a journal would only grow.

use std::sync::{Arc, Mutex, PoisonError};

/// Clones share everything.
#[derive(Debug)]
pub struct Journal<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Journal<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Journal<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Journal<T> {
    /// Adds an entry at the end.
    pub fn note(&self, entry: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// Takes out the entries that belong to somebody, in the order they were made.
    pub fn take(&self, mine: impl Fn(&T) -> bool) -> Vec<T> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.extract_if(.., |entry| mine(entry)).collect()
    }
}
