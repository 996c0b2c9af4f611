//! How often a stranger may knock. Sans-io.
//!
//! Each address (IPv6: its /64) has five tries a minute. The table is bounded: when it is full of
//! addresses that have just knocked, whoever is not in it has to wait.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Tries of one address within [`WINDOW`].
const TRIES: u32 = 5;

/// After so long an address begins anew.
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses remembered.
const MAX_ADDRESSES: usize = 1024;

/// Who has knocked lately.
#[derive(Debug, Default)]
pub(crate) struct Knocks {
    tries: BTreeMap<IpAddr, (Instant, u32)>,
}

impl Knocks {
    /// Counts a try; whether it is heard.
    pub(crate) fn knock(&mut self, now: Instant, address: IpAddr) -> bool {
        let address = household(address);
        let is_over = |since: Instant| now.saturating_duration_since(since) >= WINDOW;
        if self.tries.len() >= MAX_ADDRESSES && !self.tries.contains_key(&address) {
            self.tries.retain(|_, (since, _)| !is_over(*since));
            if self.tries.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        let (since, count) = self.tries.entry(address).or_insert((now, 0));
        if is_over(*since) {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= TRIES
    }
}

/// The addresses one household has.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(bits).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_five_tries_a_minute_and_an_ipv6_network_shares_them() {
        let start = Instant::now();
        let mut knocks = Knocks::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for last in 1..=5 {
            assert!(knocks.knock(start, address(&format!("2001:db8::{last}"))));
        }
        assert!(!knocks.knock(start, address("2001:db8::ffff:1")));
        assert!(knocks.knock(start, address("2001:db8:0:1::1")));
        assert!(knocks.knock(start, address("192.0.2.1")));
        assert!(!knocks.knock(start + WINDOW / 2, address("2001:db8::1")));
        assert!(knocks.knock(start + WINDOW, address("2001:db8::1")));
    }

    #[test]
    fn many_addresses_cost_bounded_memory_and_old_ones_make_room() {
        let start = Instant::now();
        let mut knocks = Knocks::default();
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let most = u32::try_from(MAX_ADDRESSES).unwrap();
        assert!((0..most).all(|n| knocks.knock(start, address(n))));
        assert!(!knocks.knock(start, address(most)));
        assert!(knocks.knock(start, address(3)), "a known one goes on");
        assert!(knocks.knock(start + WINDOW, address(most)));
        assert!(knocks.tries.len() <= MAX_ADDRESSES);
    }
}
