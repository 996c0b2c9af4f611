//! Failures by address and node, bounded by evicting what was struck longest ago. Sans-io.

use std::collections::BTreeMap;
use std::net::IpAddr;

use imbl::{OrdMap, OrdSet, Vector};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::record::{
    MAX_STRIKE_AGE, MAX_STRIKE_KEYS, MAX_STRIKES_PER_KEY, Millis, NodeId, Strike, Subnet,
};

/// By address first, because a request asks for one address.
type Table = OrdMap<IpAddr, OrdMap<NodeId, Vector<Millis>>>;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Strikes {
    by_address: Table,
    /// One entry per (address, node), by the newest strike. Follows from the table, so it is
    /// rebuilt instead of stored.
    by_age: OrdSet<(Millis, IpAddr, NodeId)>,
}

impl Strikes {
    pub(super) fn count(&self, address: IpAddr, since: Millis, except: NodeId) -> usize {
        let Some(nodes) = self.by_address.get(&address) else { return 0 };
        nodes
            .iter()
            .filter(|(node, _)| **node != except)
            .map(|(_, times)| times.iter().filter(|at| **at > since).count())
            .sum()
    }

    /// When the first of them is out of every window's reach.
    pub(super) fn next_expiry(&self) -> Option<Millis> {
        self.by_age.get_min().map(|(newest, ..)| newest.saturating_add(MAX_STRIKE_AGE + 1))
    }

    /// Drops what no window can reach any more.
    pub(super) fn forget(&mut self, now: Millis) {
        while self.next_expiry().is_some_and(|expires_at| expires_at <= now) {
            self.evict();
        }
    }

    /// A strike from the future (a node whose clock is ahead) counts as now, so that it cannot
    /// outlive its window.
    pub(super) fn insert(&mut self, strike: &Strike, now: Millis) {
        let Strike { node, address, at } = *strike;
        let at = at.min(now);
        let mut nodes = self.by_address.get(&address).cloned().unwrap_or_default();
        let mut times = nodes.get(&node).cloned().unwrap_or_default();
        if let Some(newest) = newest(&times) {
            self.by_age.remove(&(newest, address, node));
        }
        times.push_back(at);
        while times.len() > MAX_STRIKES_PER_KEY {
            times.pop_front();
        }
        self.by_age.insert((newest(&times).unwrap_or(at), address, node));
        nodes.insert(node, times);
        self.by_address.insert(address, nodes);
        while self.by_age.len() > MAX_STRIKE_KEYS {
            self.evict();
        }
    }

    /// Forgets the failures within a subnet up to and including `at`; whether there were any.
    pub(super) fn pardon(&mut self, subnet: &Subnet, at: Millis) -> bool {
        let within: Vec<_> = self
            .by_address
            .range(subnet.first()..)
            .take_while(|(address, _)| subnet.contains(**address))
            .flat_map(|(address, nodes)| nodes.keys().map(|node| (*address, *node)))
            .collect();
        let mut any = false;
        for (address, node) in within {
            let Some(mut nodes) = self.by_address.get(&address).cloned() else { continue };
            let Some(times) = nodes.remove(&node) else { continue };
            let kept: Vector<_> = times.iter().copied().filter(|time| *time > at).collect();
            any |= kept.len() < times.len();
            if let Some(newest) = newest(&times) {
                self.by_age.remove(&(newest, address, node));
            }
            if let Some(newest) = newest(&kept) {
                self.by_age.insert((newest, address, node));
                nodes.insert(node, kept);
            }
            if nodes.is_empty() {
                self.by_address.remove(&address);
            } else {
                self.by_address.insert(address, nodes);
            }
        }
        any
    }

    /// Every failure on record: address, node that saw it, when.
    pub(super) fn iter(&self) -> impl Iterator<Item = Strike> {
        self.by_address.iter().flat_map(|(address, nodes)| {
            nodes.iter().flat_map(|(node, times)| {
                times.iter().map(|at| Strike { node: *node, address: *address, at: *at })
            })
        })
    }

    fn evict(&mut self) {
        let Some((_, address, node)) = self.by_age.remove_min() else { return };
        let Some(mut nodes) = self.by_address.remove(&address) else { return };
        nodes.remove(&node);
        if !nodes.is_empty() {
            self.by_address.insert(address, nodes);
        }
    }
}

fn newest(times: &Vector<Millis>) -> Option<Millis> {
    times.iter().copied().max()
}

impl Serialize for Strikes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.by_address.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Strikes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not by the persistent tables' own way of reading; `table` says why.
        let stored = BTreeMap::<IpAddr, BTreeMap<NodeId, Vec<Millis>>>::deserialize(deserializer)?;
        let by_address: Table = stored
            .into_iter()
            .map(|(address, nodes)| {
                let nodes = nodes.into_iter().map(|(node, times)| (node, Vector::from(times)));
                (address, nodes.collect::<OrdMap<_, _>>())
            })
            .collect();
        let by_age = by_address
            .iter()
            .flat_map(|(address, nodes)| nodes.iter().map(|(node, times)| (*address, *node, times)))
            .filter_map(|(address, node, times)| Some((newest(times)?, address, node)))
            .collect();
        Ok(Self { by_address, by_age })
    }
}
