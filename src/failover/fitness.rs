//! What the condition of this node takes off the priorities of its virtual routers: rules every
//! virtual router has besides the trackers of its configuration. Sans-io.
//!
//! | rule | counts | while |
//! |---|---|---|
//! | [`Quorum`](Rule::Quorum) | -30 | three or more vote, and this node has no quorum |
//! | [`Control`](Rule::Control) | -20 | its engine has stopped, or its disk takes no changes |
//! | [`Nextcloud`](Rule::Nextcloud) | -50 | it does not reach a Nextcloud, and another node says it does |
//!
//! VRRP never waits for the cluster: a node without a quorum claims an address nobody holds as
//! ever, only later than one with a quorum. What keeps the address from flapping:
//!
//! - An Active that hears other load balancers lowers itself only if one of them is better off.
//!   If it hears none it cannot know; so a Backup lowers itself sooner than an Active would
//!   ([`BACKUP_AFTER`], [`ACTIVE_AFTER`]): when the Active does, every node that has lost its
//!   quorum too lies below it already.
//! - A node that gave the address away wants it back only after it has been well for
//!   [`REGRET`]; any other Backup after [`SETTLED`], an Active at once.

use std::time::{Duration, Instant};

use cluster::Role;
use cluster::presence::Heard;
use vrrp::{ConfigError, RouterConfig, Tracked, Tracker};

/// How long a condition lasts before an Active lowers itself: longer than an election.
pub const ACTIVE_AFTER: Duration = Duration::from_secs(5);
/// The same for a Backup.
pub const BACKUP_AFTER: Duration = Duration::from_secs(2);
/// How long a Backup has to be well before it counts again.
pub const SETTLED: Duration = Duration::from_secs(5);
/// The same for one that lost the address by a rule.
pub const REGRET: Duration = Duration::from_secs(60);

/// What another node said of itself is believed for so long.
const FRESH: Duration = Duration::from_secs(3);

/// A tracker of that name counts in place of [`Rule::Nextcloud`].
const OWN_NEXTCLOUD: &str = "health nextcloud";

/// The tracker that keeps a node from taking back at once what an admin has moved away from it: it
/// counts what it is set to, see [`below`].
pub const MOVED: &str = "an admin's failover";

/// By how much a node of priority `own` lowers itself, so that one of priority `heir` keeps the
/// addresses it was given.
pub fn below(own: u8, heir: u8) -> Tracked {
    let excess = i32::from(own) - i32::from(heir);
    // One more than this would leave no priority at all, which is a fault.
    let by = if excess < 0 { 0 } else { (-excess - 1).max(-253) };
    Tracked::Value(by)
}

/// One of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// No quorum.
    Quorum,
    /// No part in the cluster.
    Control,
    /// No Nextcloud, but there is one.
    Nextcloud,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 3] = [Self::Quorum, Self::Control, Self::Nextcloud];

    /// Its tracker's name; "is down" is what status says after it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quorum => "the quorum",
            Self::Control => "the control plane",
            Self::Nextcloud => "the way to Nextcloud",
        }
    }

    /// What it counts while it is down.
    pub fn weight(self) -> i16 {
        match self {
            Self::Quorum => -30,
            Self::Control => -20,
            Self::Nextcloud => -50,
        }
    }
}

/// The virtual router with the rules among its trackers. Until it is told otherwise there is no
/// quorum: a node that starts must not take the address from one that has it.
///
/// # Errors
/// A tracker of the configuration has a rule's name.
pub fn with_rules(router: RouterConfig) -> Result<RouterConfig, ConfigError> {
    let mut trackers = router.trackers().to_vec();
    let looks_itself = trackers.iter().any(|tracker| &**tracker.name() == OWN_NEXTCLOUD);
    for rule in Rule::ALL.into_iter().filter(|rule| !(looks_itself && *rule == Rule::Nextcloud)) {
        let lowered = Lapse::begun(rule).lowered;
        let tracker = Tracker::new(rule.name(), rule.weight())?;
        trackers.push(tracker.with_initial(reading(lowered)));
    }
    trackers.push(Tracker::new(MOVED, 1)?.with_initial(Tracked::Value(0)));
    router.with_trackers(trackers)
}

/// What a virtual router is told of a rule.
pub fn reading(lowered: bool) -> Tracked {
    if lowered { Tracked::Down } else { Tracked::Up }
}

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether it has a quorum; none where a single node decides, as in a pair.
    pub quorum: Option<bool>,
    /// Whether it can take part in the cluster.
    pub control: bool,
    /// Whether it reaches a Nextcloud.
    pub nextcloud: bool,
}

/// What the other load balancers say of themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Any of them is heard.
    heard: bool,
    /// One that can serve has this.
    quorum: bool,
    control: bool,
    nextcloud: bool,
}

impl Others {
    /// By what was heard, directly or through a third member.
    pub fn of(heard: &Heard, now: Instant) -> Self {
        let mut others = Self::default();
        let nodes = heard.peers.iter().filter(|(_, peer)| peer.role == Role::Node);
        for (node, _) in nodes {
            let Some(told) = heard.about(*node).max_by_key(|told| told.at) else { continue };
            if now.saturating_duration_since(told.at) >= FRESH {
                continue;
            }
            let word = &told.word;
            let serves = word.healthy && !word.routers.is_empty();
            others.heard = true;
            others.quorum |= serves && word.quorum;
            others.control |= serves && word.control;
            others.nextcloud |= serves && word.nextcloud;
        }
        others
    }
}

impl Condition {
    /// Whether a rule is broken; none: it does not apply to this cluster.
    fn breaks(self, rule: Rule, others: Others, active: bool) -> Option<bool> {
        let somebody = |better: bool| !active || !others.heard || better;
        match rule {
            Rule::Quorum => Some(!self.quorum? && somebody(others.quorum)),
            Rule::Control => Some(!self.control && somebody(others.control)),
            Rule::Nextcloud => Some(!self.nextcloud && others.nextcloud),
        }
    }
}

/// What the rules make of one virtual router.
#[derive(Debug)]
pub struct Fitness {
    lapses: [(Rule, Lapse); 3],
}

impl Default for Fitness {
    fn default() -> Self {
        Self { lapses: Rule::ALL.map(|rule| (rule, Lapse::begun(rule))) }
    }
}

impl Fitness {
    /// Looks at the node, about twice a second; `active`: the router is. Gives the rules that
    /// begin (true) or cease to lower the priority.
    pub fn look(
        &mut self,
        now: Instant,
        condition: Condition,
        others: Others,
        active: bool,
    ) -> Vec<(Rule, bool)> {
        let changes = self.lapses.iter_mut().filter_map(|(rule, lapse)| {
            let before = lapse.lowered;
            match condition.breaks(*rule, others, active) {
                Some(broken) => lapse.look(now, broken, active),
                None => *lapse = Lapse::default(),
            }
            (lapse.lowered != before).then_some((*rule, lapse.lowered))
        });
        changes.collect()
    }
}

/// One rule of one virtual router.
#[derive(Debug, Default)]
struct Lapse {
    lowered: bool,
    /// The router was Active while lowered, and may have lost the address for it.
    at_stake: bool,
    /// Since when the rule is broken, or, while it lowers, kept.
    since: Option<(bool, Instant)>,
}

impl Lapse {
    fn begun(rule: Rule) -> Self {
        Self { lowered: rule == Rule::Quorum, ..Self::default() }
    }

    fn look(&mut self, now: Instant, broken: bool, active: bool) {
        let since = match self.since {
            Some((was, since)) if was == broken => since,
            _ => now,
        };
        self.since = Some((broken, since));
        let lasted = now.saturating_duration_since(since);
        if broken {
            self.lowered |= lasted >= if active { ACTIVE_AFTER } else { BACKUP_AFTER };
        } else if active || lasted >= if self.at_stake { REGRET } else { SETTLED } {
            self.lowered = false;
        }
        self.at_stake = self.lowered && (self.at_stake || active);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use cluster::flows::Mark;
    use cluster::presence::{Peer, Told, Word};
    use proptest::prelude::*;

    use super::*;
    use crate::failover::trackers::{Health, Source};

    const WELL: Condition = Condition { quorum: Some(true), control: true, nextcloud: true };
    const CUT: Condition = Condition { quorum: Some(false), ..WELL };
    const NOBODY: Others = Others { heard: false, quorum: false, control: false, nextcloud: false };
    const WELL_OFF: Others = Others { heard: true, quorum: true, control: true, nextcloud: true };
    const NO_BETTER: Others =
        Others { heard: true, quorum: false, control: false, nextcloud: false };

    fn seconds(count: f64) -> Duration {
        Duration::from_secs_f64(count)
    }

    /// One that has been well for long.
    fn settled(start: Instant, active: bool) -> Fitness {
        let mut fitness = Fitness::default();
        fitness.look(start, WELL, NOBODY, active);
        fitness.look(start + SETTLED, WELL, NOBODY, active);
        fitness
    }

    #[test]
    fn what_lowers_a_priority_and_when() {
        let stopped = Condition { control: false, ..WELL };
        let away = Condition { nextcloud: false, ..WELL };
        let pair = Condition { quorum: None, ..WELL };
        let table = [
            ("well", WELL, WELL_OFF, true, None),
            ("no quorum, and others unknown", CUT, NOBODY, true, Some((Rule::Quorum, 5.0))),
            ("no quorum, another has one", CUT, WELL_OFF, true, Some((Rule::Quorum, 5.0))),
            ("no quorum, and nobody has one", CUT, NO_BETTER, true, None),
            ("a backup without one", CUT, NOBODY, false, Some((Rule::Quorum, 2.0))),
            ("a backup where nobody has one", CUT, NO_BETTER, false, Some((Rule::Quorum, 2.0))),
            ("a pair", pair, WELL_OFF, true, None),
            ("no part in the cluster", stopped, WELL_OFF, true, Some((Rule::Control, 5.0))),
            ("a backup without", stopped, NOBODY, false, Some((Rule::Control, 2.0))),
            ("nobody takes changes", stopped, NO_BETTER, true, None),
            ("no Nextcloud, another has", away, WELL_OFF, true, Some((Rule::Nextcloud, 5.0))),
            ("every Nextcloud is down", away, NO_BETTER, true, None),
            ("no Nextcloud, nobody heard", away, NOBODY, true, None),
        ];
        for (name, condition, others, active, expected) in table {
            let start = Instant::now();
            let mut fitness = settled(start, active);
            let begin = start + SETTLED;
            let mut found = None;
            for tick in 0..40 {
                let at = seconds(f64::from(tick) / 2.0);
                for (rule, lowered) in fitness.look(begin + at, condition, others, active) {
                    assert!(lowered && found.is_none(), "{name}");
                    found = Some((rule, at.as_secs_f64()));
                }
            }
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_node_that_starts_has_no_quorum_until_it_has_had_one_for_a_while() {
        let start = Instant::now();
        let mut fitness = Fitness::default();
        assert_eq!(fitness.look(start, WELL, NOBODY, false), []);
        assert_eq!(fitness.look(start + seconds(4.5), WELL, NOBODY, false), []);
        assert_eq!(fitness.look(start + SETTLED, WELL, NOBODY, false), [(Rule::Quorum, false)]);
        let pair = Condition { quorum: None, ..WELL };
        assert_eq!(Fitness::default().look(start, pair, NOBODY, false), [(Rule::Quorum, false)]);
    }

    #[test]
    fn who_gave_the_address_away_wants_it_back_much_later_and_who_kept_it_at_once() {
        let start = Instant::now();
        for (stays, back) in [(true, 0.0), (false, 60.0)] {
            let mut fitness = settled(start, true);
            let cut = start + SETTLED;
            fitness.look(cut, CUT, NOBODY, true);
            assert_eq!(fitness.look(cut + ACTIVE_AFTER, CUT, NOBODY, true), [(Rule::Quorum, true)]);
            let healed = cut + seconds(10.0);
            let mut found = None;
            for tick in 0..400 {
                let at = seconds(f64::from(tick) / 2.0);
                let changes = fitness.look(healed + at, WELL, NOBODY, stays);
                found = found.or_else(|| changes.first().map(|_| at.as_secs_f64()));
            }
            assert_eq!(found, Some(back), "stays: {stays}");
        }
    }

    #[test]
    fn a_quorum_that_comes_and_goes_is_no_loss() {
        let start = Instant::now();
        let mut fitness = settled(start, true);
        for tick in 0..60_u32 {
            let condition = if tick % 8 == 7 { WELL } else { CUT };
            let now = start + SETTLED + seconds(f64::from(tick) / 2.0);
            assert_eq!(fitness.look(now, condition, NOBODY, true), []);
        }
    }

    #[test]
    fn only_load_balancers_that_were_heard_lately_and_can_serve_count() {
        let now = Instant::now() + Duration::from_secs(60);
        let router = cluster::presence::RouterWord {
            name: "web".into(),
            vrid: 51,
            addresses: Vec::new(),
            state: cluster::presence::RouterState::Backup,
            priority: 253,
            source: None,
            yielding: false,
            advertising: false,
        };
        let heard = |role, age, healthy| {
            let word =
                Word { healthy, quorum: true, routers: vec![router.clone()], ..Word::default() };
            let peer = Peer {
                role,
                connected: true,
                last: Some(Told { at: now - seconds(age), word: Arc::new(word) }),
                round_trip: None,
                hears: Arc::default(),
                beats: 1,
                mark: Mark::default(),
            };
            let others = Others::of(&Heard { peers: BTreeMap::from([(2, peer)]) }, now);
            (others.heard, others.quorum)
        };
        assert_eq!(heard(Role::Node, 0.1, true), (true, true));
        assert_eq!(heard(Role::Node, 0.1, false), (true, false), "nobody who could take over");
        assert_eq!(heard(Role::Node, 3.0, true), (false, false));
        assert_eq!(heard(Role::Witness, 0.1, true), (false, false));
    }

    #[test]
    fn every_router_has_the_rules_and_one_that_looks_at_nextcloud_itself_not_that_one() {
        let address = std::net::IpAddr::from([192, 0, 2, 10]);
        let router = || RouterConfig::new("eth0", 66, vec![address]).unwrap();
        let names = |router| {
            let with = with_rules(router).unwrap();
            with.trackers().iter().map(|it| it.name().to_string()).collect::<Vec<_>>()
        };
        let all = ["the quorum", "the control plane", "the way to Nextcloud", MOVED];
        assert_eq!(names(router()), all);
        let own = Tracker::new(OWN_NEXTCLOUD, -10).unwrap();
        let looks_itself = router().with_trackers(vec![own]).unwrap();
        assert_eq!(names(looks_itself), [OWN_NEXTCLOUD, all[0], all[1], MOVED]);
        assert_eq!(Source::Health(Health::Nextcloud).name(), OWN_NEXTCLOUD);
    }

    #[test]
    fn who_gave_an_address_away_stays_just_below_its_heir() {
        for (own, heir, by) in [(254, 253, -2), (254, 254, -1), (253, 254, 0), (254, 1, -253)] {
            assert_eq!(below(own, heir), Tracked::Value(by), "{own} and {heir}");
        }
    }

    proptest! {
        /// Two nodes that lose their quorum within two seconds of each other, whenever they look:
        /// the Active never lies below the Backup.
        #[test]
        fn a_quorum_lost_by_both_moves_nothing(
            later_ms in 0_u64..2000, active_later: bool, phases in (0_u64..500, 0_u64..500),
        ) {
            let start = Instant::now();
            let (mut a, mut b) = (settled(start, true), settled(start, false));
            let lost = start + SETTLED;
            let later = lost + Duration::from_millis(later_ms);
            let (lost_a, lost_b) = if active_later { (later, lost) } else { (lost, later) };
            let (mut priority_a, mut priority_b) = (254_i16, 253_i16);
            for ms in 0..20_000_u64 {
                let now = lost + Duration::from_millis(ms);
                let look = |fitness: &mut Fitness, lost, active, priority: &mut i16| {
                    let condition = if now >= lost { CUT } else { WELL };
                    for (rule, lowered) in fitness.look(now, condition, NOBODY, active) {
                        *priority += if lowered { rule.weight() } else { -rule.weight() };
                    }
                };
                if ms % 500 == phases.0 {
                    look(&mut a, lost_a, true, &mut priority_a);
                }
                if ms % 500 == phases.1 {
                    look(&mut b, lost_b, false, &mut priority_b);
                }
                prop_assert!(priority_a > priority_b);
            }
            prop_assert_eq!((priority_a, priority_b), (224, 223));
        }
    }
}
