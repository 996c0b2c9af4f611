//! What the two nodes of a pair tell each other, whatever groups they are in. Sans-io.

use serde::{Deserialize, Serialize};

use super::healing::Claim;
use super::semi_sync::Sync;

/// Question and answer alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Word {
    /// What the sender's history is.
    pub(crate) claim: Claim,
    /// It is the voter of its group.
    pub(crate) votes: bool,
    /// Whether the other one has everything: a voter's knowledge.
    pub(crate) sync: Sync,
}
