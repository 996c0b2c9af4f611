//! `trigon drain` and `trigon undrain`: a node leaves service in order, and comes back.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How long requests in flight get when nobody says otherwise, seconds.
pub const WITHIN_SECONDS: u64 = 60;

/// Longest that may be asked for, seconds.
pub const MAX_WITHIN_SECONDS: u64 = 3600;

/// The order of `POST /drain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Order {
    /// How long requests in flight may take; [`WITHIN_SECONDS`] when missing.
    pub within_seconds: Option<u64>,
    /// Also when no other node is ready to take over.
    pub force: bool,
}

/// How far a drain is: the answer of `POST /drain`, and of `GET /drain` while there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// `ending` (requests in flight end), `moving` (the addresses go), `finishing` (what is left
    /// ends) or `drained`.
    pub phase: String,
    /// Seconds since it was ordered.
    pub since_seconds: u64,
    /// Requests in flight that had begun before the order.
    pub requests: usize,
    /// Upgraded connections, such as WebSockets.
    pub upgraded: usize,
    /// Tunnel clients' connections in use.
    pub tunnel_connections: usize,
    /// Requests from before the order that had not ended at the deadline.
    pub cut: usize,
    /// Requests that were in flight when the addresses went.
    pub interrupted: usize,
    /// Virtual addresses this node holds: before it is drained, or because nobody else can.
    pub addresses: Vec<String>,
}

/// The answer of `POST /undrain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undrained {
    /// Whether there was anything to undo.
    pub was_draining: bool,
}

impl Drain {
    /// Whether nothing is left to wait for.
    pub fn is_done(&self) -> bool {
        self.phase == "drained"
    }
}

impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phase, since_seconds, requests, upgraded, cut, interrupted, .. } = self;
        let since = super::table::span(*since_seconds);
        match phase.as_str() {
            "drained" if self.addresses.is_empty() => write!(f, "drained, ordered {since} ago")?,
            "drained" => write!(
                f,
                "drained, ordered {since} ago; holds {} all the same: no other node can",
                self.addresses.join(" ")
            )?,
            "ending" => write!(f, "draining for {since}: {requests} requests in flight to end")?,
            "moving" => write!(f, "draining for {since}: the addresses go")?,
            _ => write!(f, "draining for {since}: {requests} requests at own addresses to end")?,
        }
        if *upgraded > 0 {
            write!(f, ", {upgraded} upgraded connections open")?;
        }
        if *interrupted > 0 {
            write!(f, ", {interrupted} requests in flight when the addresses went")?;
        }
        if *cut > 0 {
            write!(f, ", {cut} requests not ended at the deadline")?;
        }
        Ok(())
    }
}
