//! Validated Nextcloud sessions, by keyed hash only. Sans-io.

use serde::{Deserialize, Serialize};

use super::{AccessLevel, Millis};
use crate::mutation::mutated;

/// Most sessions kept; the one that expires first makes room.
pub const MAX_SESSIONS: usize = 100_000;

/// Longest a session holds, in milliseconds; one that claims more holds so long.
pub const MAX_LIFETIME: Millis = 10_000;

/// Longest user id that is replicated, in bytes.
pub const MAX_USER_ID: usize = 64;

/// How much later than its lifetime allows a session may be used at worst, in milliseconds: what
/// clocks of nodes and the way of a change may add.
pub const SLACK: Millis = 2_000;

/// First 16 bytes of a keyed hash over the credentials. The cookie itself never leaves the node
/// that received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionKey(pub [u8; 16]);

/// A Nextcloud user as `user-info` describes them; an empty id is an anonymous visitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id, empty when anonymous.
    pub id: String,
    /// What they may reach.
    pub level: AccessLevel,
}

/// A remembered answer of `user-info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whom the credentials belong to.
    pub user: User,
    /// When Nextcloud said so, on the cluster's clock.
    pub validated_at: Millis,
    /// Not usable from this moment of the cluster's clock on.
    pub expires_at: Millis,
    /// When this node applied it, on its own monotonic clock.
    pub applied: Millis,
    /// What was left of its lifetime then.
    pub left: Millis,
}

/// One moment on the clocks a node has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Wall clock; may be wrong and may jump.
    pub wall: Millis,
    /// Milliseconds on a clock that never goes back; counts from any point.
    pub local: Millis,
}

impl Session {
    /// Whether it may still be believed on a node where it is `at`, with the cluster's clock at
    /// `clock`. The cluster's clock stands still on a node that is cut off, the monotonic one
    /// cannot tell that an entry arrived late, the wall clock may be wrong: all three have to
    /// agree, so a clock that is off makes it useless, and not valid for longer as long as changes
    /// arrive in time. Only both at once can: a reader whose clock is slow by some time believes
    /// an entry that came late by that time and [`SLACK`].
    pub fn is_usable(&self, clock: Millis, at: Moment) -> bool {
        if mutated!(SessionByWallClock) {
            return at.wall < self.expires_at;
        }
        let lifetime = self.expires_at.saturating_sub(self.validated_at);
        clock < self.expires_at
            && at.local.saturating_sub(self.applied) < self.left
            && at.wall.abs_diff(self.validated_at) < lifetime.saturating_add(SLACK)
    }
}
