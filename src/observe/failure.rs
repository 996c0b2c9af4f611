//! Failures of clients, one line each, for programs that watch the log such as fail2ban. The text
//! is the same in every format and does not change: `failure of ADDRESS: REASON`.
//!
//! Strangers decide how often that happens, so at most `BURST` lines are written in a row, and
//! `PER_SECOND` after that; how many were left out is told with the next.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Lines at once after a quiet time.
const BURST: u32 = 100;

/// Lines in the long run.
const PER_SECOND: u32 = 20;

static LIMIT: Mutex<Option<Limit>> = Mutex::new(None);

/// Tells that `client` failed. Its address may be any length of time away from being banned: that
/// is counted elsewhere.
pub fn tell(client: IpAddr, reason: &str) {
    if is_allowed() {
        let client = client.to_canonical();
        tracing::info!(
            name: "client_failure",
            reason,
            client.addr = %client,
            "failure of {client}: {reason}"
        );
    }
}

/// Tells that a client, for IPv6 a network of them, is kept out from now on.
pub fn tell_ban(client: IpAddr) {
    if is_allowed() {
        tracing::info!(
            name: "client_banned",
            { client.addr = %client },
            "too many failures: the client is kept out"
        );
    }
}

/// Whether one more line may be written; tells what was left out before.
fn is_allowed() -> bool {
    let now = Instant::now();
    let mut limit = LIMIT.lock().unwrap_or_else(PoisonError::into_inner);
    let allowed = limit.get_or_insert_with(|| Limit::new(now)).take(now);
    drop(limit);
    if let Some(left_out @ 1..) = allowed {
        tracing::warn!(left_out, "failures of clients were not told one by one");
    }
    allowed.is_some()
}

/// How many lines may be written now.
#[derive(Debug)]
struct Limit {
    tokens: f64,
    at: Instant,
    left_out: u64,
}

impl Limit {
    fn new(now: Instant) -> Self {
        Self { tokens: f64::from(BURST), at: now, left_out: 0 }
    }

    /// Whether a line may be written, and how many were left out before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let gained = now.duration_since(self.at).as_secs_f64() * f64::from(PER_SECOND);
        self.tokens = (self.tokens + gained).min(f64::from(BURST));
        self.at = now;
        if self.tokens < 1.0 {
            self.left_out += 1;
            return None;
        }
        self.tokens -= 1.0;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_cut_and_what_was_left_out_is_told() {
        let start = Instant::now();
        let mut limit = Limit::new(start);
        let written = (0..1000).filter(|_| limit.take(start).is_some()).count();
        assert_eq!(written, 100);
        assert_eq!(limit.take(start + Duration::from_secs(1)), Some(900));
        assert_eq!(limit.take(start + Duration::from_secs(1)), Some(0));
    }
}
