//! What a branch that ends gives to the one that goes on. Sans-io: plain values, applied by
//! [`State`](crate::State).
//!
//! | data | rule |
//! |---|---|
//! | ExApp records | the last writer, by generation, time of the change and node |
//! | bans, pardons | all of both; of two bans of one subnet the later end counts |
//! | join tokens | those of the branch that goes on; whom the other one admitted with them counts as admitted, what it revoked is revoked |
//! | numbers of members | none that either has given is given again |
//! | authorities of the tunnel port | those added on either are trusted, those dropped on either are not; the branch that goes on signs |
//! | members, other certificates, keys | those of the branch that goes on |
//! | what happened | all of both, as long as there is room |
//! | sessions, registrations | dropped: they form again |
//!
//! The ended branch's node finds out what the other one lacks and proposes it there. Every part
//! can be applied again without harm, so a crash in between only means to begin again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::group::Group;
use crate::record::{
    Attempt, Ban, Event, FrpAuthority, Millis, NodeId, SealedExApp, Subnet, Tenant, TokenId,
};

/// When and where a durable change was made. The order is who wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// The generation it was made in.
    pub generation: u64,
    /// When, by the clock of the node that proposed it; later than the change before it.
    pub at: Millis,
    /// The node that proposed it.
    pub node: NodeId,
}

/// One thing the branch that goes on may lack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Item {
    /// Failures of a subnet were pardoned.
    Pardon {
        /// Whose.
        subnet: Subnet,
        /// When.
        at: Millis,
    },
    /// An admin's ban.
    Ban(Ban),
    /// An ExApp record was pushed, or deleted.
    ExApp {
        /// Whose.
        tenant: Tenant,
        /// Lower-cased id.
        id: String,
        /// The last change of it.
        stamp: Stamp,
        /// What it left; none: deleted.
        record: Option<Arc<SealedExApp>>,
    },
    /// Numbers below this one were given: none of them is given again.
    Numbers {
        /// The next one.
        next: NodeId,
    },
    /// A join token admitted machines that are no members any more.
    Spent {
        /// Which.
        id: TokenId,
        /// Whom it admitted.
        attempts: Vec<Attempt>,
    },
    /// A join token was revoked.
    Revoked {
        /// Which.
        id: TokenId,
    },
    /// Authorities of the tunnel port came and went.
    FrpAuthorities {
        /// Trusted from now on too, the oldest first.
        added: Vec<FrpAuthority>,
        /// Not trusted any more, by certificate (PEM).
        dropped: Vec<String>,
    },
    /// Something happened on the branch that ended.
    Happened(Event),
}

/// A part of what an ended branch gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Merge {
    /// The branch that ended.
    pub from: Group,
    /// Its part; pardons come before the bans they do not lift.
    pub items: Vec<Item>,
}

/// What became of the changes an ended branch took after the fork.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeReport {
    /// Things that went over.
    pub given: usize,
    /// ExApps changed on both sides whose change here was the older one and is lost.
    pub overruled: Vec<String>,
    /// Join tokens made on the ended branch: they admit nobody any more.
    pub void_tokens: Vec<String>,
    /// Members taken in on the ended branch: they have to join again.
    pub void_members: Vec<String>,
    /// Whether both branches gave up every authority of the tunnel port they had in common:
    /// clients installed on the ended one have to be installed again.
    pub void_frp: bool,
}

impl MergeReport {
    /// What was made on the ended branch and is void, a few words each.
    pub fn void(&self) -> Vec<String> {
        let tokens = self.void_tokens.iter().map(|id| format!("join token {id}"));
        let members = self.void_members.iter().map(|name| format!("member {name}"));
        let frp = self.void_frp.then(|| "the authorities of the tunnel port".to_owned());
        tokens.chain(members).chain(frp).collect()
    }

    /// Whether something of the ended branch is lost.
    pub fn is_loss(&self) -> bool {
        !self.overruled.is_empty() || !self.void().is_empty()
    }
}

/// What to give, and what is lost.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Legacy {
    pub(crate) items: Vec<Item>,
    pub(crate) report: MergeReport,
}

impl Legacy {
    /// In parts of at most `limit` encoded bytes as `size` counts them, in order.
    pub(crate) fn into_parts(
        self,
        from: Group,
        limit: usize,
        size: impl Fn(&Item) -> usize,
    ) -> Vec<Merge> {
        let mut parts: Vec<Merge> = Vec::new();
        let mut room = 0;
        for item in self.items {
            let needed = size(&item);
            match parts.last_mut() {
                Some(part) if needed <= room => part.items.push(item),
                _ => {
                    parts.push(Merge { from, items: vec![item] });
                    room = limit;
                }
            }
            room = room.saturating_sub(needed);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_goes_in_parts_that_fit_and_in_order() {
        let items: Vec<_> =
            (1..=7).map(|at| Item::Pardon { subnet: "192.0.2.7".parse().unwrap(), at }).collect();
        let legacy = Legacy { items: items.clone(), report: MergeReport::default() };
        let parts = legacy.into_parts(crate::pair::group(1), 30, |_| 10);
        let sizes: Vec<_> = parts.iter().map(|part| part.items.len()).collect();
        assert_eq!(sizes, [3, 3, 1]);
        let again: Vec<_> = parts.into_iter().flat_map(|part| part.items).collect();
        assert_eq!(again, items);
    }
}
