//! What a node of a pair does before it takes part again. Sans-io.
//!
//! A former voter could lead its old generation at once, all by itself, while the other node has
//! been promoted long ago. So it asks first, for [`ASKING`]; while nobody answers it serves what
//! it knows and changes nothing. A node that cannot lead alone has nobody to ask.

use std::time::Duration;

use super::healing::{Claim, Healing, heal};

/// How long the other node is asked before the start goes on without an answer.
pub(crate) const ASKING: Duration = Duration::from_secs(30);

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask, and look again.
    Ask,
    /// Take part in the branch on disk.
    Start,
    /// Give the branch on disk up and follow the one the other node told of.
    Rejoin,
    /// Serve what is known, and go on asking.
    Soft,
}

/// The start of a node that could lead alone.
#[derive(Clone, Debug)]
pub(crate) struct Boot {
    own: Claim,
    decided: Option<Step>,
}

impl Boot {
    /// Begins to ask. Nothing is written meanwhile, which makes the claim a frozen one.
    pub(crate) fn new(own: Claim) -> Self {
        Self { own: Claim { frozen: true, ..own }, decided: None }
    }

    /// The other node answered.
    pub(crate) fn heard(&mut self, other: &Claim) {
        self.decided = match heal(&self.own, other) {
            Healing::One | Healing::Goes => Some(Step::Start),
            Healing::Ends => Some(Step::Rejoin),
            Healing::Freeze => None,
        };
    }

    /// What to do, `asked_for` after the beginning.
    pub(crate) fn step(&self, asked_for: Duration) -> Step {
        let undecided = if asked_for < ASKING { Step::Ask } else { Step::Soft };
        self.decided.unwrap_or(undecided)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{Group, Lineage};

    fn claim(generation: u64, lineage: u8, node: u64) -> Claim {
        let first = Group::first(uuid::Uuid::nil(), Lineage([lineage; 16]));
        let group = Group { generation, ..first };
        Claim { group, parent: None, changes: 1, changed_at: 1, node, frozen: false }
    }

    #[test]
    fn a_former_voter_asks_before_it_leads() {
        let own = claim(2, 2, 1);
        let frozen = |claim: Claim| Claim { frozen: true, ..claim };
        for (name, answer, after, expected) in [
            ("nobody yet", None, 29, Step::Ask),
            ("nobody", None, 30, Step::Soft),
            ("the same branch", Some(own), 1, Step::Start),
            ("the same branch, late", Some(own), 300, Step::Start),
            ("a later one", Some(claim(3, 3, 2)), 1, Step::Rejoin),
            ("a later one, late", Some(claim(3, 3, 2)), 300, Step::Rejoin),
            ("an earlier one", Some(claim(1, 1, 2)), 1, Step::Start),
            ("a rival that writes", Some(claim(2, 9, 2)), 1, Step::Ask),
            ("a rival", Some(frozen(claim(2, 9, 2))), 1, Step::Start),
        ] {
            let mut boot = Boot::new(own);
            assert!(boot.own.frozen);
            if let Some(answer) = answer {
                boot.heard(&answer);
            }
            assert_eq!(boot.step(Duration::from_secs(after)), expected, "{name}");
        }
    }
}
