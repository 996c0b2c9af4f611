//! Slows down whoever shows a wrong token, by address. Sans-io: the clock comes in.
//!
//! The first failures cost nothing, each further one doubles the time before the next try is looked
//! at. Nobody is kept out for good: an admin behind the same address gets in after the wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use cluster::record::ban_key;

/// Failures that cost no wait.
const FREE: u32 = 3;

/// Longest wait after a failure.
const LONGEST: Duration = Duration::from_secs(300);

/// An address that has not failed for so long has never failed.
const FORGIVEN: Duration = Duration::from_secs(900);

/// Most addresses remembered; the one that failed longest ago makes room.
const MOST: usize = 1024;

/// Remembers who failed. An IPv6 client is its /64.
#[derive(Debug, Default)]
pub(super) struct Doorman(HashMap<IpAddr, Failures>);

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    fn wait(self) -> Duration {
        let doublings = self.count.saturating_sub(FREE);
        match doublings {
            0 => Duration::ZERO,
            some => 2u32
                .checked_pow(some - 1)
                .map_or(LONGEST, |seconds| Duration::from_secs(u64::from(seconds)).min(LONGEST)),
        }
    }
}

impl Doorman {
    /// Whether a try from `address` is looked at now.
    ///
    /// # Errors
    /// How long it has to wait.
    pub(super) fn admit(&mut self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let Some(failures) = self.0.get(&ban_key(address)) else { return Ok(()) };
        let since = now.saturating_duration_since(failures.last);
        if since >= FORGIVEN {
            self.0.remove(&ban_key(address));
            return Ok(());
        }
        match failures.wait().saturating_sub(since) {
            Duration::ZERO => Ok(()),
            left => Err(left),
        }
    }

    /// It showed a wrong token. Tells how often it has by now.
    pub(super) fn failed(&mut self, address: IpAddr, now: Instant) -> u32 {
        let address = ban_key(address);
        if self.0.len() >= MOST && !self.0.contains_key(&address) {
            let oldest = self.0.iter().min_by_key(|(_, failures)| failures.last);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.0.remove(&oldest);
            }
        }
        let failures = self.0.entry(address).or_insert(Failures { count: 0, last: now });
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        failures.count
    }

    /// It showed the right one.
    pub(super) fn passed(&mut self, address: IpAddr) {
        self.0.remove(&ban_key(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_failure_after_the_free_ones_doubles_the_wait_up_to_a_limit() {
        let (mut doorman, from, start) = (Doorman::default(), address("192.0.2.7"), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..13 {
            doorman.failed(from, start);
            waits.push(doorman.admit(from, start).err().map_or(0, |wait| wait.as_secs()));
        }
        assert_eq!(waits, [0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!(doorman.admit(from, start + Duration::from_secs(299)).is_err());
        assert!(doorman.admit(from, start + Duration::from_secs(300)).is_ok());
        assert!(doorman.admit(address("192.0.2.8"), start).is_ok(), "another address");
    }

    #[test]
    fn a_login_and_a_quiet_quarter_of_an_hour_forgive() {
        let (mut doorman, from, start) =
            (Doorman::default(), address("2001:db8::1"), Instant::now());
        for _ in 0..20 {
            doorman.failed(from, start);
        }
        assert!(doorman.admit(address("2001:db8::2"), start).is_err(), "the same /64");
        doorman.passed(from);
        assert!(doorman.admit(from, start).is_ok());
        for _ in 0..20 {
            doorman.failed(from, start);
        }
        assert!(doorman.admit(from, start + FORGIVEN).is_ok());
        assert_eq!(doorman.failed(from, start + FORGIVEN), 1, "forgotten");
    }

    #[test]
    fn many_addresses_take_the_place_of_the_oldest() {
        let (mut doorman, start) = (Doorman::default(), Instant::now());
        for number in 0..2000_u32 {
            let from = IpAddr::V4((0x0a00_0000 + number).into());
            doorman.failed(from, start + Duration::from_millis(number.into()));
        }
        assert_eq!(doorman.0.len(), MOST);
        assert!(!doorman.0.contains_key(&address("10.0.0.0")));
        assert!(doorman.0.contains_key(&address("10.0.7.207")));
    }
}
