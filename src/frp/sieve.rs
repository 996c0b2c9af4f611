//! Lets one log line per address and minute through: strangers must not fill the log. Sans-io.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(60);

/// Addresses remembered; beyond that, new ones are not logged until old ones expire.
const MAX_ADDRESSES: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Sieve {
    last: HashMap<IpAddr, Instant>,
}

impl Sieve {
    /// Whether a line about this address may be logged now.
    pub(super) fn lets_through(&mut self, now: Instant, address: IpAddr) -> bool {
        if self.last.get(&address).is_some_and(|last| now < *last + PERIOD) {
            return false;
        }
        if self.last.len() >= MAX_ADDRESSES {
            self.last.retain(|_, last| now < *last + PERIOD);
            if self.last.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        self.last.insert(address, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_address_and_minute_and_never_more_than_the_cap() {
        let now = Instant::now();
        let mut sieve = Sieve::default();
        let address = |n: u32| IpAddr::V4(n.into());
        assert!(sieve.lets_through(now, address(1)));
        assert!(!sieve.lets_through(now + PERIOD / 2, address(1)));
        assert!(sieve.lets_through(now + PERIOD, address(1)));
        let through = (2..5000).filter(|n| sieve.lets_through(now + PERIOD, address(*n))).count();
        assert_eq!(through, MAX_ADDRESSES - 1);
        assert!(sieve.lets_through(now + PERIOD * 2, address(9999)));
    }
}
