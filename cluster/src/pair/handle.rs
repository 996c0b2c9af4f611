//! What the rest of the product tells a pair, and asks it for.

use std::time::Duration;

use super::keeper::order;
use super::orders::PairError;
use super::promotion::Consent;
use super::surroundings::Surroundings;
use crate::group::Group;
use crate::handle::{Backend, Handle};

/// Longest a promotion may take: the old group ends, the new one is founded.
const PROMOTION: Duration = Duration::from_secs(30);

impl Handle {
    /// Tells what this node sees of the world; to be called about every second, because what was
    /// told goes on counting its age.
    pub fn tell_surroundings(&self, seen: Surroundings) {
        if let Backend::Engine { slot, .. } = &self.backend {
            slot.engine().bond.tell_surroundings(seen);
        }
    }

    /// Makes the other node of a pair the voter, without a new generation.
    ///
    /// # Errors
    /// [`PairError`]: this node is not the voter, or the other one does not follow.
    pub async fn hand_over(&self) -> Result<(), PairError> {
        match &self.backend {
            Backend::Memory { .. } => Err(PairError::NoPair),
            Backend::Engine { slot, .. } => slot.engine().hand_over_now().await,
        }
    }

    /// Opens the next generation on this node, by an operator's word instead of the rules that
    /// [`Consent`] stands for. Gives the new group.
    ///
    /// # Errors
    /// [`PairError`]: no pair, nothing to promote, or the rules that do not hold.
    pub async fn promote(&self, consent: Consent) -> Result<Group, PairError> {
        match &self.backend {
            Backend::Memory { .. } => Err(PairError::NoPair),
            Backend::Engine { orders, .. } => order(orders, consent, PROMOTION).await,
        }
    }
}
