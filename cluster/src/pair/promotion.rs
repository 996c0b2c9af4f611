//! Whether the learner of a pair may open the next generation. Sans-io.
//!
//! | rule | holds when |
//! |---|---|
//! | 1 | the voter is silent on every control path for `pair_promote_after` |
//! | 2 | no advertisement of another router was heard for as long, and this node has been Active for [`ACTIVE_FOR`] |
//! | 3 | this node reaches the world: the gateway answers, and a Nextcloud does |
//! | 4 | the pair was sync when the voter was heard last |
//! | 5 | the voter was heard since this node started |
//!
//! By itself (`pair_policy = "auto"`) a node is promoted when all of them hold. An operator's word
//! stands in for rules 4 and 5 as far as he gave it, and for the policy; with force for all but
//! one: nobody is promoted against a voter that answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::semi_sync::Sync;
use super::standing::UNSEEN;
use crate::config::PairPolicy;
use crate::mutation::mutated;

/// How long this node has to be Active: an address that has just come may go again.
pub(crate) const ACTIVE_FOR: Duration = Duration::from_secs(5);

/// What an operator has agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consent {
    /// Nobody was asked.
    Nobody,
    /// `trigon cluster promote`: with what the voter may have acknowledged since.
    Promote,
    /// `trigon cluster promote --force`: whatever the rules say.
    Force,
}

/// The way to the other node over one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// What it is called in messages: the peer's cluster port, its health port.
    pub(crate) name: String,
    /// Time since it last answered; since this node started, if never.
    pub(crate) silent_for: Duration,
}

/// What a learner knows when it asks whether it may be promoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) policy: PairPolicy,
    pub(crate) consent: Consent,
    /// `pair_promote_after`.
    pub(crate) after: Duration,
    pub(crate) paths: Vec<Path>,
    /// Time since an advertisement of another router was heard; none: never.
    pub(crate) advert_heard: Option<Duration>,
    /// How long this node has been Active; none: it is not, or it has no virtual router.
    pub(crate) active_for: Option<Duration>,
    /// Whether the gateway answers; none: nobody looks.
    pub(crate) gateway: Option<bool>,
    /// Whether a Nextcloud answers; none: nobody looks.
    pub(crate) nextcloud: Option<bool>,
    /// What the voter said of the pair when it was heard last.
    pub(crate) sync: Sync,
    pub(crate) seen_since_start: bool,
    /// This node has the state of its group, if perhaps not the newest.
    pub(crate) has_state: bool,
}

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "refusal")]
pub enum Refusal {
    /// The policy.
    #[error("pair_policy is \"manual\": an operator decides, by `trigon cluster promote`")]
    Manual,
    /// Rule 1: it answers.
    #[error("the voter answers on {path}; to move its part here use `trigon cluster handover`")]
    Answers {
        /// Where.
        path: String,
    },
    /// Rule 1: not silent for long enough.
    #[error("the voter has been silent on {path} for {silent_s} s, {after_s} s are needed")]
    NotSilentYet {
        /// Where.
        path: String,
        /// Seconds.
        silent_s: u64,
        /// Seconds.
        after_s: u64,
    },
    /// Rule 2.
    #[error("an advertisement was heard {ago_s} s ago: another node holds the virtual address")]
    AdvertHeard {
        /// Seconds.
        ago_s: u64,
    },
    /// Rule 2.
    #[error("this node is not the Active of a virtual router")]
    NotActive,
    /// Rule 2.
    #[error("this node has been Active for {active_s} s only, 5 s are needed")]
    NotActiveYet {
        /// Seconds.
        active_s: u64,
    },
    /// Rule 3.
    #[error("the gateway does not answer: this node may be the one that is cut off")]
    NoGateway,
    /// Rule 3.
    #[error("no Nextcloud answers: this node may be the one that is cut off")]
    NoNextcloud,
    /// Rule 4.
    #[error(
        "the pair was async: {behind} entries or more were missing here when the voter was heard \
         last; `trigon cluster promote` accepts that they are lost"
    )]
    Behind {
        /// Entries.
        behind: u64,
    },
    /// Rule 4: there is nothing to go on with.
    #[error("this node has not received the state of its generation yet")]
    Empty,
    /// Rule 5.
    #[error(
        "the voter was not heard since this node started, which may have slept for long; \
         `trigon cluster promote --force` takes what this node has for the newest"
    )]
    NeverSeen,
}

impl Refusal {
    /// The number of the rule; none for the policy.
    pub fn rule(&self) -> Option<u8> {
        match self {
            Self::Manual => None,
            Self::Answers { .. } | Self::NotSilentYet { .. } => Some(1),
            Self::AdvertHeard { .. } | Self::NotActive | Self::NotActiveYet { .. } => Some(2),
            Self::NoGateway | Self::NoNextcloud => Some(3),
            Self::Behind { .. } | Self::Empty => Some(4),
            Self::NeverSeen => Some(5),
        }
    }

    /// How far an operator has to go to do without the rule; none: no word of his replaces it.
    fn waived_by(&self) -> Option<Consent> {
        match self {
            Self::Answers { .. } | Self::Empty => None,
            Self::Manual | Self::Behind { .. } => Some(Consent::Promote),
            Self::NotSilentYet { .. }
            | Self::AdvertHeard { .. }
            | Self::NotActive
            | Self::NotActiveYet { .. }
            | Self::NoGateway
            | Self::NoNextcloud
            | Self::NeverSeen => Some(Consent::Force),
        }
    }
}

/// Everything that stands against a promotion now; nothing: it may begin.
pub(crate) fn refusals(facts: &Facts) -> Vec<Refusal> {
    let mut found = Vec::new();
    if facts.policy == PairPolicy::Manual {
        found.push(Refusal::Manual);
    }
    found.extend(facts.paths.iter().filter_map(|path| silence(path, facts.after)));
    if let Some(ago) = facts.advert_heard.filter(|ago| *ago < facts.after) {
        found.push(Refusal::AdvertHeard { ago_s: ago.as_secs() });
    }
    match facts.active_for {
        None => found.push(Refusal::NotActive),
        Some(since) if since < ACTIVE_FOR => {
            found.push(Refusal::NotActiveYet { active_s: since.as_secs() });
        }
        Some(_) => {}
    }
    if facts.gateway == Some(false) {
        found.push(Refusal::NoGateway);
    }
    // A node that looks at neither would call itself connected without knowing anything.
    if facts.nextcloud == Some(false) || (facts.nextcloud.is_none() && facts.gateway.is_none()) {
        found.push(Refusal::NoNextcloud);
    }
    if let Sync::Async { behind } = facts.sync {
        found.push(Refusal::Behind { behind });
    }
    if !facts.has_state {
        found.push(Refusal::Empty);
    }
    if !facts.seen_since_start {
        found.push(Refusal::NeverSeen);
    }
    if mutated!(PromotedAtOnce) {
        found.retain(|refusal| matches!(refusal, Refusal::Answers { .. } | Refusal::Empty));
    }
    found.retain(|refusal| refusal.waived_by().is_none_or(|needed| facts.consent < needed));
    found
}

fn silence(path: &Path, after: Duration) -> Option<Refusal> {
    if path.silent_for < UNSEEN {
        return Some(Refusal::Answers { path: path.name.clone() });
    }
    (path.silent_for < after).then(|| Refusal::NotSilentYet {
        path: path.name.clone(),
        silent_s: path.silent_for.as_secs(),
        after_s: after.as_secs(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn path(silent: u64) -> Path {
        Path { name: "192.0.2.11:7443".into(), silent_for: seconds(silent) }
    }

    /// Everything holds.
    fn ready() -> Facts {
        Facts {
            policy: PairPolicy::Auto,
            consent: Consent::Nobody,
            after: seconds(15),
            paths: vec![path(15)],
            advert_heard: Some(seconds(15)),
            active_for: Some(seconds(5)),
            gateway: Some(true),
            nextcloud: Some(true),
            sync: Sync::Sync,
            seen_since_start: true,
            has_state: true,
        }
    }

    #[test]
    fn each_refusal_names_its_rule_and_who_may_do_without_it() {
        // The fact that is different, the rule refused by, what an operator has to say.
        type Row = (&'static str, fn(&mut Facts), Option<Option<u8>>, Option<Consent>);
        let table: [Row; 17] = [
            ("all hold", |_| {}, None, Some(Consent::Nobody)),
            ("manual", |f| f.policy = PairPolicy::Manual, Some(None), Some(Consent::Promote)),
            ("voter answers", |f| f.paths = vec![path(2)], Some(Some(1)), None),
            ("second path answers", |f| f.paths.push(path(0)), Some(Some(1)), None),
            ("silent 14 s", |f| f.paths = vec![path(14)], Some(Some(1)), Some(Consent::Force)),
            (
                "advertisement 14 s ago",
                |f| f.advert_heard = Some(seconds(14)),
                Some(Some(2)),
                Some(Consent::Force),
            ),
            ("never one", |f| f.advert_heard = None, None, Some(Consent::Nobody)),
            ("backup", |f| f.active_for = None, Some(Some(2)), Some(Consent::Force)),
            (
                "active 4 s",
                |f| f.active_for = Some(seconds(4)),
                Some(Some(2)),
                Some(Consent::Force),
            ),
            ("no gateway", |f| f.gateway = Some(false), Some(Some(3)), Some(Consent::Force)),
            ("gateway unwatched", |f| f.gateway = None, None, Some(Consent::Nobody)),
            ("no nextcloud", |f| f.nextcloud = Some(false), Some(Some(3)), Some(Consent::Force)),
            (
                "nothing watched",
                |f| (f.gateway, f.nextcloud) = (None, None),
                Some(Some(3)),
                Some(Consent::Force),
            ),
            (
                "async",
                |f| f.sync = Sync::Async { behind: 7 },
                Some(Some(4)),
                Some(Consent::Promote),
            ),
            (
                "async, nothing known to miss",
                |f| f.sync = Sync::Async { behind: 0 },
                Some(Some(4)),
                Some(Consent::Promote),
            ),
            ("nothing received yet", |f| f.has_state = false, Some(Some(4)), None),
            ("cold start", |f| f.seen_since_start = false, Some(Some(5)), Some(Consent::Force)),
        ];
        for (name, edit, rule, needed) in table {
            let mut facts = ready();
            edit(&mut facts);
            let found = refusals(&facts);
            assert_eq!(found.first().map(Refusal::rule), rule, "{name}: {found:?}");
            assert!(found.len() <= 1, "{name}: {found:?}");
            for consent in [Consent::Nobody, Consent::Promote, Consent::Force] {
                facts.consent = consent;
                let may = refusals(&facts).is_empty();
                assert_eq!(
                    may,
                    needed.is_some_and(|needed| needed <= consent),
                    "{name} {consent:?}"
                );
            }
        }
    }

    #[test]
    fn every_refusal_is_told_at_once() {
        let facts = Facts {
            policy: PairPolicy::Manual,
            paths: vec![path(14)],
            advert_heard: Some(seconds(1)),
            active_for: None,
            gateway: Some(false),
            nextcloud: Some(false),
            sync: Sync::Async { behind: 1 },
            seen_since_start: false,
            ..ready()
        };
        assert_eq!(refusals(&facts).len(), 8);
        assert!(refusals(&facts)[1].to_string().contains("192.0.2.11:7443 for 14 s"));
    }

    proptest! {
        #[test]
        fn nobody_is_promoted_against_a_voter_that_answers(
            silent in 0_u64..3,
            active in prop::option::of(0_u64..100),
            force in any::<bool>(),
            seen in any::<bool>(),
        ) {
            let facts = Facts {
                paths: vec![path(100), path(silent)],
                active_for: active.map(seconds),
                consent: if force { Consent::Force } else { Consent::Nobody },
                seen_since_start: seen,
                ..ready()
            };
            prop_assert!(!refusals(&facts).is_empty());
        }

        #[test]
        fn waiting_alone_never_takes_a_permission_back(
            silent in 0_u64..40, advert in 0_u64..40, active in 0_u64..40, more in 0_u64..40,
        ) {
            let at = |later: u64| Facts {
                paths: vec![path(silent + later)],
                advert_heard: Some(seconds(advert + later)),
                active_for: Some(seconds(active + later)),
                ..ready()
            };
            if refusals(&at(0)).is_empty() {
                prop_assert!(refusals(&at(more)).is_empty());
            }
        }
    }
}
