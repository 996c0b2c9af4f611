//! What a node of a pair does now, by all the rules together. Sans-io.

use super::boot;
use super::healing::Healing;
use super::mirror::{self, Silence};
use super::promotion::{self, Consent, Refusal};

/// Everything a decision follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Situation {
    /// This node is the voter of its group.
    pub(crate) votes: bool,
    /// Where the start is; none when it is over.
    pub(crate) boot: Option<boot::Step>,
    /// What follows from the claims of both; none while the other one has not said anything.
    pub(crate) healing: Option<Healing>,
    pub(crate) mirror: mirror::Facts,
    pub(crate) promotion: promotion::Facts,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// Take part.
    Go,
    /// Take part, but take no durable changes.
    Silent(Silence),
    /// Learn, and wait: these stand against a promotion.
    Learn(Vec<Refusal>),
    /// Open the next generation.
    Promote,
    /// Follow the other node's group.
    Rejoin,
}

impl Situation {
    /// What to do now.
    pub(crate) fn conduct(&self) -> Conduct {
        if self.healing == Some(Healing::Ends) || self.boot == Some(boot::Step::Rejoin) {
            return Conduct::Rejoin;
        }
        let silence = if self.votes { self.silence() } else { None };
        let refusals = promotion::refusals(&self.promotion);
        // A voter is promoted, past a generation it may have lost, only by an operator.
        let forced = self.promotion.consent > Consent::Nobody;
        match (self.votes, silence) {
            (true, None) => Conduct::Go,
            (true, Some(_)) if forced && refusals.is_empty() => Conduct::Promote,
            (true, Some(silence)) => Conduct::Silent(silence),
            (false, _) if refusals.is_empty() => Conduct::Promote,
            (false, _) => Conduct::Learn(refusals),
        }
    }

    fn silence(&self) -> Option<Silence> {
        match self.boot {
            Some(boot::Step::Ask) => return Some(Silence::Asking),
            Some(boot::Step::Soft) => return Some(Silence::Unheard),
            Some(boot::Step::Start | boot::Step::Rejoin) | None => {}
        }
        let other_branch = self.healing == Some(Healing::Freeze);
        mirror::silence(&mirror::Facts { other_branch, ..self.mirror })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::semi_sync::Sync;
    use super::*;
    use crate::config::PairPolicy;

    fn voter() -> Situation {
        let alone = Duration::from_secs(60);
        Situation {
            votes: true,
            boot: None,
            healing: Some(Healing::One),
            mirror: mirror::Facts {
                silent_for: alone,
                other_branch: false,
                active: Some(true),
                gateway: Some(true),
                nextcloud: Some(true),
            },
            promotion: promotion::Facts {
                policy: PairPolicy::Auto,
                consent: Consent::Nobody,
                after: Duration::from_secs(15),
                paths: vec![promotion::Path { name: "peer".into(), silent_for: alone }],
                advert_heard: None,
                active_for: Some(alone),
                gateway: Some(true),
                nextcloud: Some(true),
                sync: Sync::Sync,
                seen_since_start: true,
                has_state: true,
            },
        }
    }

    #[test]
    fn the_rules_together() {
        type Row = (&'static str, fn(&mut Situation), Conduct);
        let silent = |silence| Conduct::Silent(silence);
        let table: [Row; 11] = [
            ("a voter alone, active", |_| {}, Conduct::Go),
            ("not active", |s| s.mirror.active = Some(false), silent(Silence::NotActive)),
            ("starting", |s| s.boot = Some(boot::Step::Ask), silent(Silence::Asking)),
            ("unheard", |s| s.boot = Some(boot::Step::Soft), silent(Silence::Unheard)),
            (
                "unheard, forced",
                |s| (s.boot, s.promotion.consent) = (Some(boot::Step::Soft), Consent::Force),
                Conduct::Promote,
            ),
            (
                "a voter that may write is not promoted",
                |s| s.promotion.consent = Consent::Force,
                Conduct::Go,
            ),
            ("a later generation", |s| s.healing = Some(Healing::Ends), Conduct::Rejoin),
            ("a rival", |s| s.healing = Some(Healing::Freeze), silent(Silence::OtherBranch)),
            ("found at the start", |s| s.boot = Some(boot::Step::Rejoin), Conduct::Rejoin),
            ("a learner, all rules hold", |s| s.votes = false, Conduct::Promote),
            (
                "a learner that is backup",
                |s| (s.votes, s.promotion.active_for) = (false, None),
                Conduct::Learn(vec![Refusal::NotActive]),
            ),
        ];
        for (name, edit, expected) in table {
            let mut situation = voter();
            edit(&mut situation);
            assert_eq!(situation.conduct(), expected, "{name}");
        }
    }
}
