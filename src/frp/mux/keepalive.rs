//! When to ping a peer and when to give it up. Sans-io.
//!
//! Any input counts as life, so a reply stuck behind a peer's own upload harms nobody. One ping is
//! out at a time.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Keepalive {
    interval: Duration,
    timeout: Duration,
    phase: Phase,
    id: u32,
    last_input: Instant,
    last_rtt: Option<Duration>,
}

#[derive(Debug)]
enum Phase {
    Quiet { next: Instant },
    Asked { sent: Instant },
}

/// What a timeout asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send a ping with this id.
    Ping(u32),
    /// The peer is dead.
    Dead,
}

impl Keepalive {
    pub(super) fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        let phase = Phase::Quiet { next: now + interval };
        Self { interval, timeout, phase, id: 0, last_input: now, last_rtt: None }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.last_input = now;
    }

    /// A ping reply; others than the one awaited are ignored.
    pub(super) fn pong(&mut self, now: Instant, id: u32) {
        if let Phase::Asked { sent } = self.phase
            && id == self.id
        {
            self.last_rtt = Some(now.duration_since(sent));
            self.phase = Phase::Quiet { next: now + self.interval };
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        match self.phase {
            Phase::Quiet { next } => next,
            Phase::Asked { sent } => sent.max(self.last_input) + self.timeout,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Due> {
        if now < self.poll_timeout() {
            return None;
        }
        if let Phase::Asked { .. } = self.phase {
            return Some(Due::Dead);
        }
        self.id = self.id.wrapping_add(1);
        self.phase = Phase::Asked { sent: now };
        Some(Due::Ping(self.id))
    }

    /// How long a dead peer was silent.
    pub(super) fn patience(&self) -> Duration {
        self.timeout
    }

    pub(super) fn last_rtt(&self) -> Option<Duration> {
        self.last_rtt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> (Keepalive, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let keepalive = Keepalive::new(Duration::from_secs(15), Duration::from_secs(10), start);
        (keepalive, move |seconds| start + Duration::from_secs(seconds))
    }

    #[test]
    fn a_silent_peer_is_pinged_then_dead() {
        let (mut keepalive, at) = started();
        assert_eq!(keepalive.handle_timeout(at(14)), None);
        assert_eq!(keepalive.poll_timeout(), at(15));
        assert_eq!(keepalive.handle_timeout(at(15)), Some(Due::Ping(1)));
        assert_eq!(keepalive.poll_timeout(), at(25));
        assert_eq!(keepalive.handle_timeout(at(24)), None);
        assert_eq!(keepalive.handle_timeout(at(25)), Some(Due::Dead));
    }

    #[test]
    fn any_input_keeps_alive_and_a_pong_measures() {
        let (mut keepalive, at) = started();
        keepalive.handle_timeout(at(15));
        keepalive.heard(at(23));
        assert_eq!(keepalive.handle_timeout(at(25)), None);
        assert_eq!(keepalive.poll_timeout(), at(33));
        keepalive.pong(at(26), 7);
        assert_eq!(keepalive.last_rtt(), None, "not the reply awaited");
        keepalive.pong(at(26), 1);
        assert_eq!(keepalive.last_rtt(), Some(Duration::from_secs(11)));
        assert_eq!(keepalive.poll_timeout(), at(41));
    }
}
