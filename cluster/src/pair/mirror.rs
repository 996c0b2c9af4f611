//! Whether the voter of a pair may go on writing while it does not see the learner. Sans-io.
//!
//! It is a quorum by itself and would go on for ever, also while it is the one that is cut off
//! and the learner has been promoted. So, 3 s after the learner was seen last, it takes durable
//! changes only while it is the Active and reaches the world: what the learner needs for itself
//! to be promoted 12 s later. While the control link is cut durable changes belong to the Active.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::standing::UNSEEN;

/// What the voter of a pair knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Time since the learner was seen; since this node started, if never.
    pub(crate) silent_for: Duration,
    /// Somebody said that a later generation exists, or another one with the same number.
    pub(crate) other_branch: bool,
    /// Whether this node is the Active of a virtual router; none: it has none.
    pub(crate) active: Option<bool>,
    /// Whether the gateway answers; none: nobody looks.
    pub(crate) gateway: Option<bool>,
    /// Whether a Nextcloud answers; none: nobody looks.
    pub(crate) nextcloud: Option<bool>,
}

/// Why the voter takes no durable changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// It may be past: nobody has said otherwise since the start.
    #[error("the other node is being asked whether this generation is still the newest")]
    Asking,
    /// Likewise.
    #[error(
        "the other node was not heard since this one started; if it is gone for good, \
         `trigon cluster promote --force`"
    )]
    Unheard,
    /// It is past, perhaps.
    #[error("another branch of this cluster exists; which one goes on is being settled")]
    OtherBranch,
    /// The learner may have been promoted.
    #[error("the other node is not seen and this one is not the Active")]
    NotActive,
    /// Likewise.
    #[error("the other node is not seen and this one does not reach the gateway")]
    NoGateway,
    /// Likewise.
    #[error("the other node is not seen and this one does not reach a Nextcloud")]
    NoNextcloud,
}

/// Why not to write; none: go on.
pub(crate) fn silence(facts: &Facts) -> Option<Silence> {
    if facts.other_branch {
        return Some(Silence::OtherBranch);
    }
    // Without a virtual router no learner is promoted by itself either.
    if facts.silent_for < UNSEEN || facts.active.is_none() {
        return None;
    }
    let reasons = [
        (facts.active == Some(false), Silence::NotActive),
        (facts.gateway == Some(false), Silence::NoGateway),
        (facts.nextcloud == Some(false), Silence::NoNextcloud),
    ];
    reasons.into_iter().find(|(holds, _)| *holds).map(|(_, silence)| silence)
}

#[cfg(test)]
mod tests {
    use super::super::promotion::{self, Consent};
    use super::super::semi_sync::Sync;
    use super::*;
    use proptest::prelude::*;

    fn alone() -> Facts {
        Facts {
            silent_for: Duration::from_secs(10),
            other_branch: false,
            active: Some(true),
            gateway: Some(true),
            nextcloud: Some(true),
        }
    }

    #[test]
    fn a_voter_alone_writes_only_as_the_active_that_reaches_the_world() {
        type Edit = fn(&mut Facts);
        let table: [(&str, Edit, Option<Silence>); 10] = [
            ("active and connected", |_| {}, None),
            ("backup", |f| f.active = Some(false), Some(Silence::NotActive)),
            ("no gateway", |f| f.gateway = Some(false), Some(Silence::NoGateway)),
            ("no nextcloud", |f| f.nextcloud = Some(false), Some(Silence::NoNextcloud)),
            ("nothing watched", |f| (f.gateway, f.nextcloud) = (None, None), None),
            ("no virtual router", |f| f.active = None, None),
            (
                "backup whose learner is seen",
                |f| (f.active, f.silent_for) = (Some(false), Duration::from_millis(2999)),
                None,
            ),
            (
                "backup, after 3 s",
                |f| (f.active, f.silent_for) = (Some(false), UNSEEN),
                Some(Silence::NotActive),
            ),
            ("another generation", |f| f.other_branch = true, Some(Silence::OtherBranch)),
            (
                "another generation, learner seen",
                |f| (f.other_branch, f.silent_for) = (true, Duration::ZERO),
                Some(Silence::OtherBranch),
            ),
        ];
        for (name, edit, expected) in table {
            let mut facts = alone();
            edit(&mut facts);
            assert_eq!(silence(&facts), expected, "{name}");
        }
    }

    proptest! {
        /// The control link is cut, the segment is not, and each side's world is what it is: the
        /// one that is not the Active writes nothing by the time the Active may be promoted.
        #[test]
        fn on_one_segment_two_branches_are_never_written_to(
            voter_active in any::<bool>(),
            gateways in any::<[bool; 2]>(),
            nextclouds in any::<[bool; 2]>(),
            cut_for in 0_u64..60,
        ) {
            let cut_for = Duration::from_secs(cut_for);
            let voter_writes = silence(&Facts {
                silent_for: cut_for,
                other_branch: false,
                active: Some(voter_active),
                gateway: Some(gateways[0]),
                nextcloud: Some(nextclouds[0]),
            }).is_none();
            let learner_is_promoted = promotion::refusals(&promotion::Facts {
                policy: crate::config::PairPolicy::Auto,
                consent: Consent::Nobody,
                after: Duration::from_secs(15),
                paths: vec![promotion::Path { name: "peer".into(), silent_for: cut_for }],
                // On one segment the Backup hears the Active.
                advert_heard: voter_active.then_some(Duration::ZERO),
                active_for: (!voter_active).then_some(cut_for),
                gateway: Some(gateways[1]),
                nextcloud: Some(nextclouds[1]),
                sync: Sync::Sync,
                seen_since_start: true,
                has_state: true,
            }).is_empty();
            prop_assert!(!(voter_writes && learner_is_promoted));
        }
    }
}
