//! Who is let in at all: the shared key, failures per address, and the bans they add up to.
//!
//! Own failures count at once; those of other nodes arrive through the cluster view. The
//! decision what counts as a failure is made in `access` and `frp::login`, not here.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster::clock::{millis, now};
use cluster::record::{MAX_STRIKE_KEYS, MAX_STRIKES_PER_KEY, Millis, Strike, ban_key};
use cluster::{Handle, Soft};

mod keys;

pub use keys::SharedKeys;

/// What makes a ban.
#[derive(Clone, Debug)]
pub struct Config {
    /// The keys AppAPI and tunnel clients prove themselves with.
    pub keys: SharedKeys,
    /// Failures within the window that make a ban (`HP_BLACKLIST_COUNT`). 0 bans everyone.
    pub count: usize,
    /// Length of the window (`HP_BLACKLIST_WINDOW`).
    pub window: Duration,
}

/// Cheap to clone; all clones are one guard.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    cluster: Handle,
    own: Mutex<OwnStrikes>,
    /// Whether `own` holds anything: spares the lock while nobody has failed.
    any_own: AtomicBool,
}

impl Guard {
    /// A guard that shares its failures through `cluster`.
    pub fn new(config: Config, cluster: Handle) -> Self {
        let own = Mutex::new(OwnStrikes::new(config.count));
        let any_own = AtomicBool::new(false);
        Self { inner: Arc::new(Inner { config, cluster, own, any_own }) }
    }

    /// Whether `offered` is the shared key (constant time).
    pub fn is_shared_key(&self, offered: &[u8]) -> bool {
        self.keys().tenant_of(offered).is_some()
    }

    /// The shared keys.
    pub fn keys(&self) -> &SharedKeys {
        &self.inner.config.keys
    }

    /// Whether the address has failed too often lately, on any node.
    pub fn is_banned(&self, address: IpAddr) -> bool {
        self.is_banned_at(address, now())
    }

    /// Counts one failure against the address.
    pub fn strike(&self, address: IpAddr) {
        self.strike_at(address, now());
    }

    fn is_banned_at(&self, address: IpAddr, at: Millis) -> bool {
        let inner = &*self.inner;
        let address = ban_key(address);
        let since = inner.window_start(at);
        let own = if inner.any_own.load(Ordering::Acquire) {
            inner.own.lock().unwrap_or_else(PoisonError::into_inner).count(address, since)
        } else {
            0
        };
        if own >= inner.config.count {
            return true;
        }
        let elsewhere =
            inner.cluster.read(|state| state.strikes(address, since, inner.cluster.node_id()));
        own + elsewhere >= inner.config.count
    }

    fn strike_at(&self, address: IpAddr, at: Millis) {
        let inner = &*self.inner;
        let address = ban_key(address);
        {
            let mut own = inner.own.lock().unwrap_or_else(PoisonError::into_inner);
            own.add(address, at, inner.window_start(at));
            inner.any_own.store(true, Ordering::Release);
        }
        let node = inner.cluster.node_id();
        inner.cluster.share(Soft::Strike(Strike { node, address, at }));
    }
}

impl Inner {
    /// Failures up to and including this moment are too old to count.
    fn window_start(&self, now: Millis) -> Millis {
        now.saturating_sub(millis(self.config.window))
    }
}

/// This node's failures by [`ban_key`]. Bounded: strangers decide how many addresses there are.
struct OwnStrikes {
    times: HashMap<IpAddr, VecDeque<Millis>>,
    per_address: usize,
}

impl OwnStrikes {
    /// A table that can tell `count` failures of one address from fewer.
    fn new(count: usize) -> Self {
        Self { times: HashMap::new(), per_address: count.max(MAX_STRIKES_PER_KEY) }
    }

    fn count(&self, address: IpAddr, since: Millis) -> usize {
        let times = self.times.get(&address);
        times.map_or(0, |times| times.iter().filter(|at| **at > since).count())
    }

    fn add(&mut self, address: IpAddr, at: Millis, since: Millis) {
        if self.times.len() >= MAX_STRIKE_KEYS && !self.times.contains_key(&address) {
            self.make_room(since);
        }
        let times = self.times.entry(address).or_default();
        times.push_back(at);
        while times.len() > self.per_address {
            times.pop_front();
        }
    }

    /// Forgets who failed before the window; if that is nobody, the sixteenth that failed longest
    /// ago, so that a flood of addresses pays for one pass over the table only now and then.
    fn make_room(&mut self, since: Millis) {
        let last = |times: &VecDeque<Millis>| times.back().copied().unwrap_or(0);
        self.times.retain(|_, times| last(times) > since);
        if self.times.len() < MAX_STRIKE_KEYS {
            return;
        }
        let mut ages: Vec<(Millis, IpAddr)> =
            self.times.iter().map(|(address, times)| (last(times), *address)).collect();
        let going = ages.len() / 16;
        ages.select_nth_unstable(going);
        for (_, address) in ages.iter().take(going) {
            self.times.remove(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::secret::Secret;

    const NODE: u64 = 1;
    const START: Millis = 1_000_000;

    fn guard(count: usize) -> (Guard, Handle) {
        let cluster = Handle::in_memory(NODE);
        let keys = SharedKeys::new(Secret::new("right"));
        let config = Config { keys, count, window: Duration::from_secs(300) };
        (Guard::new(config, cluster.clone()), cluster)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn enough_failures_of_one_address_ban_it_and_nobody_else() {
        let (guard, _) = guard(3);
        let client = ip("192.0.2.1");
        for failure in 0..3 {
            assert!(!guard.is_banned_at(client, START), "after {failure}");
            guard.strike_at(client, START);
        }
        assert!(guard.is_banned_at(client, START));
        assert!(!guard.is_banned_at(ip("192.0.2.2"), START));
    }

    #[test]
    fn the_window_slides() {
        let (guard, _) = guard(2);
        let client = ip("192.0.2.1");
        guard.strike_at(client, START);
        guard.strike_at(client, START + 200_000);
        assert!(guard.is_banned_at(client, START + 299_999));
        // The first failure is exactly one window old: it no longer counts.
        assert!(!guard.is_banned_at(client, START + 300_000));
        guard.strike_at(client, START + 400_000);
        assert!(guard.is_banned_at(client, START + 499_999));
        assert!(!guard.is_banned_at(client, START + 500_000));
    }

    #[test]
    fn the_clock_of_the_machine_is_used() {
        let (guard, _) = guard(1);
        assert!(!guard.is_banned(ip("192.0.2.1")));
        guard.strike(ip("192.0.2.1"));
        assert!(guard.is_banned(ip("192.0.2.1")));
    }

    #[test]
    fn a_count_of_zero_bans_everyone() {
        let (guard, _) = guard(0);
        assert!(guard.is_banned(ip("192.0.2.1")));
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_mapped_ipv4_is_ipv4() {
        let (guard, _) = guard(2);
        guard.strike_at(ip("2001:db8:1:2::a"), START);
        guard.strike_at(ip("2001:db8:1:2:ffff::b"), START);
        assert!(guard.is_banned_at(ip("2001:db8:1:2::c"), START));
        assert!(!guard.is_banned_at(ip("2001:db8:1:3::a"), START));
        guard.strike_at(ip("::ffff:192.0.2.1"), START);
        guard.strike_at(ip("192.0.2.1"), START);
        assert!(guard.is_banned_at(ip("192.0.2.1"), START));
    }

    #[test]
    fn failures_seen_by_other_nodes_count() {
        let (guard, cluster) = guard(3);
        let client = ip("192.0.2.1");
        guard.strike_at(client, START);
        for node in [2, 3] {
            assert!(!guard.is_banned_at(client, START));
            cluster.share(Soft::Strike(Strike { node, address: client, at: START }));
        }
        assert!(guard.is_banned_at(client, START));
        assert!(!guard.is_banned_at(client, START + 300_000));
    }

    #[test]
    fn own_failures_do_not_count_twice_when_the_cluster_echoes_them() {
        let (guard, cluster) = guard(2);
        let client = ip("192.0.2.1");
        guard.strike_at(client, START);
        assert_eq!(cluster.read(|state| state.strikes(client, 0, NODE + 1)), 1);
        assert!(!guard.is_banned_at(client, START));
    }

    #[test]
    fn a_threshold_above_the_usual_bound_can_still_be_reached() {
        let count = MAX_STRIKES_PER_KEY + 10;
        let (guard, _) = guard(count);
        let client = ip("192.0.2.1");
        for _ in 1..count {
            guard.strike_at(client, START);
        }
        assert!(!guard.is_banned_at(client, START));
        guard.strike_at(client, START);
        assert!(guard.is_banned_at(client, START));
    }

    #[test]
    fn memory_is_bounded_and_the_newest_failures_are_kept() {
        let mut own = OwnStrikes::new(10);
        let addresses = u32::try_from(MAX_STRIKE_KEYS).unwrap() + 5_000;
        for number in 0..addresses {
            own.add(Ipv4Addr::from(number).into(), START + Millis::from(number), 0);
            assert!(own.times.len() <= MAX_STRIKE_KEYS);
        }
        assert_eq!(own.count(Ipv4Addr::from(0).into(), 0), 0);
        assert_eq!(own.count(Ipv4Addr::from(addresses - 1).into(), 0), 1);
        assert_eq!(own.count(Ipv4Addr::from(addresses / 2).into(), 0), 1);
    }

    #[test]
    fn what_lies_before_the_window_makes_room_first() {
        let mut own = OwnStrikes::new(10);
        let recent = IpAddr::from(Ipv6Addr::LOCALHOST);
        own.add(recent, START, 0);
        for number in 1..u32::try_from(MAX_STRIKE_KEYS).unwrap() {
            own.add(Ipv4Addr::from(number).into(), 1, 0);
        }
        own.add(Ipv4Addr::UNSPECIFIED.into(), START, 1);
        assert_eq!(own.times.len(), 2);
        assert_eq!(own.count(recent, 1), 1);
    }

    #[test]
    fn failures_of_one_address_are_bounded() {
        let mut own = OwnStrikes::new(10);
        for at in 0..1_000 {
            own.add(ip("192.0.2.1"), at, 0);
        }
        assert_eq!(own.times.values().map(VecDeque::len).sum::<usize>(), MAX_STRIKES_PER_KEY);
    }

    #[test]
    fn only_the_shared_key_is_the_shared_key() {
        let (guard, _) = guard(1);
        assert!(guard.is_shared_key(b"right"));
        assert!(!guard.is_shared_key(b"righ") && !guard.is_shared_key(b""));
    }
}
