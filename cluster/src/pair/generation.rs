//! The steps by which a node opens a new branch, or comes to another one, in its state directory.
//! Sans-io: what is found on disk says which step is next, so a crash between any two goes on
//! where it was.
//!
//! ```text
//! plan ── fsync ──▶ directory of the new branch ──▶ first entries ──▶ passport ──▶ plan cleared
//!                                                                        ▲
//!                        the old branch is what a start finds until here ┘
//! ```
//!
//! The passport names the branch a start opens, so writing it is the moment that counts: before
//! it the old branch is untouched and a start finds the plan and goes on with it; after it only
//! the plan and directories of old have to be cleared away.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::group::Group;

/// Where a group left the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The group before.
    pub group: Group,
    /// Its entries that are part of the new one: all before this index.
    pub entries: u64,
}

/// Branches of the past kept beside the present one, for whoever wants to look at them.
pub(crate) const KEPT: usize = 3;

/// What a node has set out to do; on disk as `plan.json` while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    /// The branch to come.
    pub(crate) group: Group,
    /// Where it leaves the present one.
    pub(crate) parent: Parent,
}

/// How a node comes to another branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// It opens the branch, as its only voter.
    Promotion,
    /// The other node has opened it; this one follows as a learner, under a new incarnation.
    Rejoining,
}

/// What a start, or the node itself, finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) plan: Option<Plan>,
    /// The branch the passport names.
    pub(crate) present: Group,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Take part in the branch the passport names: nothing is under way.
    Go,
    /// Remove what a crash left of the planned branch, and found it anew from the old one's state.
    Found(Plan),
    /// Write the passport for the planned branch.
    Adopt(Plan),
    /// Remove the plan, and branches older than the last [`KEPT`].
    Clear,
}

impl Found {
    /// The next step.
    pub(crate) fn step(&self) -> Step {
        let Some(plan) = self.plan else { return Step::Go };
        if plan.group == self.present {
            return Step::Clear;
        }
        match plan.kind {
            Kind::Promotion => Step::Found(plan),
            Kind::Rejoining => Step::Adopt(plan),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promotion => "promotion",
            Self::Rejoining => "rejoining",
        })
    }
}

/// Which of the branches in a state directory to remove: all but the present one and the last
/// [`KEPT`] before it. Branches ahead of the present one are what a crash left of a plan.
pub(crate) fn outlived(found: &[Group], present: Group) -> Vec<Group> {
    let mut past: Vec<_> = found.iter().copied().filter(|group| *group != present).collect();
    past.sort_unstable();
    let ahead = past.iter().filter(|group| group.generation > present.generation).count();
    let kept_from = past.len().saturating_sub(KEPT + ahead);
    let mut going: Vec<_> = past.drain(..kept_from).collect();
    going.extend(past.into_iter().filter(|group| group.generation > present.generation));
    going
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Lineage;
    use crate::pair::group;

    fn plan(kind: Kind) -> Plan {
        let parent = Parent { group: group(1), entries: 17 };
        Plan { kind, group: group(2), parent }
    }

    #[test]
    fn a_crash_between_any_two_steps_goes_on_where_it_was() {
        let found = |plan, present| Found { plan, present: group(present) };
        for kind in [Kind::Promotion, Kind::Rejoining] {
            let plan = plan(kind);
            let first = if kind == Kind::Promotion { Step::Found(plan) } else { Step::Adopt(plan) };
            for (name, found, expected) in [
                ("before the plan", found(None, 1), Step::Go),
                ("planned, perhaps founded", found(Some(plan), 1), first),
                ("adopted", found(Some(plan), 2), Step::Clear),
                ("cleared", found(None, 2), Step::Go),
            ] {
                assert_eq!(found.step(), expected, "{kind} {name}");
            }
        }
    }

    #[test]
    fn the_last_three_branches_are_kept_and_leftovers_of_a_plan_are_not() {
        let groups: Vec<_> = (1..=7).map(group).collect();
        assert_eq!(outlived(&groups, group(7)), [1, 2, 3].map(group));
        assert_eq!(outlived(&groups[..3], group(3)), []);
        assert_eq!(outlived(&groups[..5], group(4)), [group(5)]);
        assert_eq!(outlived(&[group(4)], group(4)), []);
        // A rival of the same number is past, too.
        let rival = Group { lineage: Lineage([9; 16]), ..group(4) };
        assert_eq!(outlived(&[group(4), rival], group(4)), []);
    }
}
