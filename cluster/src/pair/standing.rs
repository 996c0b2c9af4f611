//! How a node of a pair stands, as status and metrics tell it. Sans-io.
//!
//! ```text
//! normal ── peer silent for 3 s ──▶ degraded ── promoted here ──▶ solo
//!   ▲  ▲ ◀────── peer seen ────────────┘                            │
//!   │  └──────────────── the peer follows this branch ──────────────┘
//!   └── caught up ── rejoining ◀── the peer's branch goes on, this one ends
//! ```

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A peer silent for so long is not seen any more.
pub(crate) const UNSEEN: Duration = Duration::from_secs(3);

/// How a node of a pair stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Both are there and follow one branch.
    Normal,
    /// The other one is not seen; this one serves what it knows.
    Degraded,
    /// This node has opened a generation of its own and the other one has not come to it yet.
    Solo,
    /// This node gives its own branch up and follows the other's.
    Rejoining,
}

impl Standing {
    /// Every standing, for whoever counts them.
    pub const ALL: [Self; 4] = [Self::Normal, Self::Degraded, Self::Solo, Self::Rejoining];

    /// As status, metrics and logs call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Degraded => "degraded",
            Self::Solo => "solo",
            Self::Rejoining => "rejoining",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a standing follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Time since the peer was heard last; none when never since this node started.
    pub(crate) silent_for: Option<Duration>,
    /// Time since this node started.
    pub(crate) up_for: Duration,
    /// The branch was opened here by a promotion, and the peer does not follow it yet.
    pub(crate) opened_here: bool,
    /// This node has given its own branch up and has not caught up with the other's yet.
    pub(crate) rejoining: bool,
}

impl Facts {
    /// The standing.
    pub(crate) fn standing(&self) -> Standing {
        if self.rejoining {
            Standing::Rejoining
        } else if self.opened_here {
            Standing::Solo
        } else if self.silent_for.unwrap_or(self.up_for) < UNSEEN {
            Standing::Normal
        } else {
            Standing::Degraded
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_follows_from_who_is_seen_and_whose_branch_it_is() {
        let seconds = |count| Some(Duration::from_secs(count));
        let up = Duration::from_secs(100);
        for (silent_for, up_for, opened_here, rejoining, expected) in [
            (seconds(0), up, false, false, Standing::Normal),
            (seconds(2), up, false, false, Standing::Normal),
            (seconds(3), up, false, false, Standing::Degraded),
            (None, Duration::from_secs(1), false, false, Standing::Normal),
            (None, up, false, false, Standing::Degraded),
            (seconds(60), up, true, false, Standing::Solo),
            (seconds(0), up, true, false, Standing::Solo),
            (seconds(0), up, false, true, Standing::Rejoining),
        ] {
            let facts = Facts { silent_for, up_for, opened_here, rejoining };
            assert_eq!(facts.standing(), expected, "{facts:?}");
        }
    }
}
