//! Which of two branches goes on when their nodes meet again. Sans-io: both compute it from the
//! same two claims and come to the same end.
//!
//! The later generation goes on. Of two with the same number (both nodes were promoted, by force
//! or in a split) the one with more durable changes, then the one changed last, then the one of
//! the lower node. Such claims are only compared once neither side writes any more: the counts
//! would move while they are told.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::generation::Parent;
use crate::group::Group;
use crate::record::{Millis, NodeId};

/// What one side has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) group: Group,
    /// Where it comes from; none for the first.
    pub(crate) parent: Option<Parent>,
    /// Durable changes since the branch was opened.
    pub(crate) changes: u64,
    /// When the last of them was made.
    pub(crate) changed_at: Millis,
    /// Who says this.
    pub(crate) node: NodeId,
    /// The side takes no more changes until it is settled which branch goes on.
    pub(crate) frozen: bool,
}

/// What follows for the node that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Healing {
    /// Both are of one branch.
    One,
    /// This node's branch goes on.
    Goes,
    /// This node's branch ends; it follows the other one.
    Ends,
    /// Stop writing; it cannot be told before both have.
    Freeze,
}

/// What follows from `own` and `other` for the node of `own`.
pub(crate) fn heal(own: &Claim, other: &Claim) -> Healing {
    if own.group == other.group {
        return Healing::One;
    }
    let same = own.group.generation == other.group.generation;
    if same && !(own.frozen && other.frozen) {
        return Healing::Freeze;
    }
    match weight(own).cmp(&weight(other)) {
        Ordering::Less => Healing::Ends,
        Ordering::Equal | Ordering::Greater => Healing::Goes,
    }
}

/// Orders claims of different branches; no two are equal, because their nodes are not.
fn weight(claim: &Claim) -> (u64, u64, Millis, std::cmp::Reverse<NodeId>) {
    let node = std::cmp::Reverse(claim.node);
    (claim.group.generation, claim.changes, claim.changed_at, node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Lineage;
    use proptest::prelude::*;

    fn claim(generation: u64, node: NodeId) -> Claim {
        let lineage = Lineage([u8::try_from(node).unwrap(); 16]);
        let group = Group { generation, ..Group::first(uuid::Uuid::nil(), lineage) };
        Claim { group, parent: None, changes: 5, changed_at: 1000, node, frozen: true }
    }

    #[test]
    fn the_later_generation_goes_on_then_the_busier_then_the_fresher_then_the_lower_node() {
        type Edit = fn(&mut Claim, &mut Claim);
        let table: [(&str, Edit, Healing, Healing); 8] = [
            ("lower node", |_, _| {}, Healing::Goes, Healing::Ends),
            ("later", |_, b| b.group.generation = 9, Healing::Ends, Healing::Goes),
            (
                "later, with less",
                |_, b| (b.group.generation, b.changes) = (9, 0),
                Healing::Ends,
                Healing::Goes,
            ),
            (
                "later, not frozen",
                |a, b| (b.group.generation, a.frozen, b.frozen) = (9, false, false),
                Healing::Ends,
                Healing::Goes,
            ),
            ("busier", |_, b| b.changes = 6, Healing::Ends, Healing::Goes),
            ("fresher", |_, b| b.changed_at = 1001, Healing::Ends, Healing::Goes),
            ("one still writes", |_, b| b.frozen = false, Healing::Freeze, Healing::Freeze),
            ("one branch", |a, b| b.group = a.group, Healing::One, Healing::One),
        ];
        for (name, edit, first, second) in table {
            let (mut a, mut b) = (claim(2, 1), claim(2, 2));
            edit(&mut a, &mut b);
            assert_eq!((heal(&a, &b), heal(&b, &a)), (first, second), "{name}");
        }
    }

    proptest! {
        #[test]
        fn both_sides_come_to_the_same_end(
            generations in (1_u64..4, 1_u64..4),
            changes in (0_u64..3, 0_u64..3),
            times in (0_u64..3, 0_u64..3),
            frozen in any::<(bool, bool)>(),
        ) {
            let mut a = claim(generations.0, 1);
            let mut b = claim(generations.1, 2);
            (a.changes, b.changes) = changes;
            (a.changed_at, b.changed_at) = times;
            (a.frozen, b.frozen) = frozen;
            let ends = (heal(&a, &b), heal(&b, &a));
            prop_assert!(matches!(
                ends,
                (Healing::Goes, Healing::Ends)
                    | (Healing::Ends, Healing::Goes)
                    | (Healing::Freeze, Healing::Freeze)
            ));
        }
    }
}
