//! How long answers of Nextcloud are remembered outside the cluster's view.

use std::time::{Duration, Instant};

use moka::Expiry;

use crate::access::{AppId, KnownApp};

/// An answer belongs to the revision it was asked at: a push or delete anywhere outdates it.
pub(super) type FetchKey = (AppId, u64);

/// See the front page.
pub(super) struct Lifetimes {
    /// Of "there is no such ExApp".
    pub(super) absent: Duration,
    /// Of a record.
    pub(super) present: Duration,
}

impl Expiry<FetchKey, Option<KnownApp>> for Lifetimes {
    fn expire_after_create(
        &self,
        _key: &FetchKey,
        answer: &Option<KnownApp>,
        _now: Instant,
    ) -> Option<Duration> {
        Some(if answer.is_some() { self.present } else { self.absent })
    }
}
