//! Bans set by admins, and since when failures count again after a pardon. Sans-io.

use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::table;
use crate::mutation::mutated;
use crate::record::{Ban, MAX_BANS, MAX_PARDONS, MAX_STRIKE_AGE, Millis, Subnet};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Bans {
    #[serde(deserialize_with = "table::read")]
    set: OrdMap<Subnet, Arc<Ban>>,
    /// When a subnet was pardoned last. Each node leaves its own earlier failures out by this.
    #[serde(deserialize_with = "table::read")]
    pardons: OrdMap<Subnet, Millis>,
}

impl Bans {
    /// Replaces an earlier ban of the same subnet; false when there is no room for another one.
    pub(super) fn set(&mut self, ban: &Ban) -> bool {
        if self.set.len() >= MAX_BANS && !self.set.contains_key(&ban.subnet) {
            return false;
        }
        self.set.insert(ban.subnet, Arc::new(ban.clone()));
        true
    }

    /// Lifts every ban within the subnet and remembers the moment; whether there was one.
    pub(super) fn pardon(&mut self, subnet: Subnet, at: Millis) -> bool {
        let before = self.set.len();
        remove(&mut self.set, |known, _| subnet.covers(known));
        self.remember_pardon(subnet, at);
        self.set.len() < before
    }

    fn remember_pardon(&mut self, subnet: Subnet, at: Millis) {
        let latest = self.pardons.get(&subnet).copied().unwrap_or(0).max(at);
        self.pardons.insert(subnet, latest);
        if self.pardons.len() > MAX_PARDONS {
            let oldest = self.pardons.iter().min_by_key(|(subnet, at)| (**at, **subnet));
            if let Some(oldest) = oldest.map(|(subnet, _)| *subnet) {
                self.pardons.remove(&oldest);
            }
        }
    }

    /// When the first ban or pardon has had its time.
    pub(super) fn next_expiry(&self) -> Option<Millis> {
        let bans = self.set.values().filter_map(|ban| ban.until);
        let pardons = self.pardons.values().map(|at| at.saturating_add(MAX_STRIKE_AGE + 1));
        bans.chain(pardons).min()
    }

    /// Drops bans that have ended, and pardons older than any failure that still counts.
    pub(super) fn forget(&mut self, now: Millis) {
        remove(&mut self.set, |_, ban| !ban.is_in_force(now));
        remove(&mut self.pardons, |_, at| at.saturating_add(MAX_STRIKE_AGE) < now);
    }

    /// The narrowest ban in force on a client.
    pub(super) fn find(&self, address: IpAddr, now: Millis) -> Option<&Arc<Ban>> {
        if self.set.is_empty() {
            return None;
        }
        let mut bans = Subnet::around(address).filter_map(|subnet| self.set.get(&subnet));
        bans.find(|ban| ban.is_in_force(now))
    }

    /// Failures of a client up to and including this moment do not count.
    pub(super) fn pardoned(&self, address: IpAddr) -> Option<Millis> {
        if self.pardons.is_empty() {
            return None;
        }
        Subnet::around(address).filter_map(|subnet| self.pardons.get(&subnet)).copied().max()
    }

    /// Takes over a pardon another branch gave: bans set before it end.
    pub(super) fn merge_pardon(&mut self, subnet: Subnet, at: Millis) -> bool {
        if self.pardons.get(&subnet).is_some_and(|known| *known >= at) {
            return false;
        }
        remove(&mut self.set, |known, ban| subnet.covers(known) && ban.since < at);
        self.remember_pardon(subnet, at);
        true
    }

    /// Takes over a ban another branch set, unless a later pardon lifted it. Of two bans of one
    /// subnet the later end counts, and the words of the later one.
    pub(super) fn merge_ban(&mut self, ban: &Ban) -> bool {
        self.joined(ban).is_some_and(|ban| self.set(&ban))
    }

    /// Whether [`Self::merge_ban`] would change anything.
    pub(super) fn would_change(&self, ban: &Ban) -> bool {
        self.joined(ban).is_some()
    }

    fn joined(&self, ban: &Ban) -> Option<Ban> {
        let lifts =
            |(subnet, at): (&Subnet, &Millis)| subnet.covers(&ban.subnet) && ban.since < *at;
        if self.pardons.iter().any(lifts) {
            return None;
        }
        let Some(known) = self.set.get(&ban.subnet) else { return Some(ban.clone()) };
        let words = |ban: &Ban| (ban.since, ban.node, ban.reason.clone());
        let later = if words(known) < words(ban) { ban } else { known };
        let last =
            |(a, b): (Millis, Millis)| if mutated!(BanShortened) { a.min(b) } else { a.max(b) };
        let until = known.until.zip(ban.until).map(last);
        let joined = Ban { until, ..later.clone() };
        (joined != **known).then_some(joined)
    }

    pub(super) fn pardons(&self) -> impl Iterator<Item = (&Subnet, &Millis)> {
        self.pardons.iter()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Ban>> {
        self.set.values()
    }
}

fn remove<V: Clone>(table: &mut OrdMap<Subnet, V>, goes: impl Fn(&Subnet, &V) -> bool) {
    let going: Vec<_> = table.iter().filter(|(k, v)| goes(k, v)).map(|(k, _)| *k).collect();
    for subnet in going {
        table.remove(&subnet);
    }
}
