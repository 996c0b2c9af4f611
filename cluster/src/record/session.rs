//! Validated Nextcloud sessions, by keyed hash only. Sans-io.

use serde::{Deserialize, Serialize};

use super::{AccessLevel, Millis};

/// Most sessions kept; the one that expires first makes room.
pub const MAX_SESSIONS: usize = 100_000;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whom the credentials belong to.
    pub user: User,
    /// When Nextcloud said so.
    pub validated_at: Millis,
    /// Not usable from this moment on.
    pub expires_at: Millis,
}
