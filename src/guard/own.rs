//! The failures this node has seen itself, which count at once. Sans-io.
//!
//! Bounded: strangers decide how many addresses there are.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use cluster::record::{MAX_STRIKE_KEYS, MAX_STRIKES_PER_KEY, Millis};

/// Times by [`ban_key`](cluster::record::ban_key).
pub(super) struct OwnStrikes {
    times: HashMap<IpAddr, VecDeque<Millis>>,
    per_address: usize,
}

impl OwnStrikes {
    /// A table that can tell `count` failures of one address from fewer.
    pub(super) fn new(count: usize) -> Self {
        let mut own = Self { times: HashMap::new(), per_address: 0 };
        own.tell_apart(count);
        own
    }

    /// From now on, `count` failures of one address.
    pub(super) fn tell_apart(&mut self, count: usize) {
        self.per_address = count.max(MAX_STRIKES_PER_KEY);
    }

    pub(super) fn count(&self, address: IpAddr, since: Millis) -> usize {
        let times = self.times.get(&address);
        times.map_or(0, |times| times.iter().filter(|at| **at > since).count())
    }

    pub(super) fn add(&mut self, address: IpAddr, at: Millis, since: Millis) {
        if self.times.len() >= MAX_STRIKE_KEYS && !self.times.contains_key(&address) {
            self.make_room(since);
        }
        let times = self.times.entry(address).or_default();
        times.push_back(at);
        while times.len() > self.per_address {
            times.pop_front();
        }
    }

    /// Every failure after `since`, by address.
    pub(super) fn iter(&self, since: Millis) -> impl Iterator<Item = (IpAddr, Millis)> {
        let all = self.times.iter();
        let all = all.flat_map(|(address, times)| times.iter().map(|at| (*address, *at)));
        all.filter(move |(_, at)| *at > since)
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

    const START: Millis = 1_000_000;

    #[test]
    fn w12_memory_is_bounded_and_the_newest_failures_are_kept() {
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
    fn w12_failures_of_one_address_are_bounded() {
        let mut own = OwnStrikes::new(10);
        for at in 0..1_000 {
            own.add(Ipv4Addr::LOCALHOST.into(), at, 0);
        }
        assert_eq!(own.times.values().map(VecDeque::len).sum::<usize>(), MAX_STRIKES_PER_KEY);
    }
}
