//! The second opinion: may this node claim an address whose Active has fallen silent on the
//! segment? Sans-io: what was heard on the control links and a time go in, a verdict comes out.
//!
//! VRRP alone cannot tell a dead Active from a segment that lost its advertisements. The control
//! links can, from memory, without asking anybody:
//!
//! | last heard from the Active, directly or through a third member | verdict |
//! |---|---|
//! | nothing, or only what is older than [`fresh_for`] | claim |
//! | alive, Active, healthy, its advertisements go out | hold, and look again |
//! | alive, Active, but unhealthy, yielding or unable to advertise | claim |
//! | alive, but not Active for this virtual router | claim |
//! | no control link at all | claim: plain VRRP |

use std::net::IpAddr;
use std::time::{Duration, Instant};

use cluster::NodeId;
use cluster::presence::{Heard, RouterState, RouterWord, Told};

/// How many advertisement intervals a beat is believed.
///
/// A power cut ends beats and advertisements in the same instant D. The last advertisement left
/// at D - 1 interval or later, so Active_Down_Timer, three intervals and the skew time long,
/// fires at D + 2 intervals + skew or later. The last beat arrived by D (plus its way), so with
/// two intervals it is too old in every such case, and a dead Active never costs a wait; at most
/// the way of that beat, less the skew time. A living Active's beats come twice an interval: one
/// may be lost and the next late by an interval before it is taken for dead.
const FRESH: u32 = 2;

/// The same once a cut of the segment is certain, because beats went on while the advertisements
/// were gone: then only the death of the Active on top of that counts, and TCP gets the time to
/// send a lost segment again (200 ms at the least) before silence means anything.
const FRESH_IN_CUT: u32 = 3;
const REPAIR: Duration = Duration::from_millis(300);

/// A virtual router as this node is configured to be part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// The identifier on the wire.
    pub vrid: u8,
    /// Its virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// Advert_Interval.
    pub interval: Duration,
}

/// What to do about a silent Active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take the addresses.
    Claim,
    /// Leave them where they are, and ask again.
    Hold {
        /// When to ask again.
        until: Instant,
        /// The node that is Active and well.
        active: NodeId,
    },
}

/// How long a beat is believed. `cut`: the segment is known to be cut.
pub fn fresh_for(interval: Duration, cut: bool) -> Duration {
    if cut { (interval * FRESH_IN_CUT).max(REPAIR) } else { interval * FRESH }
}

/// The verdict at `now`. `held_since` is when the first of the holds before this question began,
/// if the last answer was one.
pub fn judge(router: &Router, heard: &Heard, held_since: Option<Instant>, now: Instant) -> Verdict {
    let well = heard.peers.keys().filter_map(|node| {
        let newest = heard.about(*node).max_by_key(|told| told.at)?;
        let cut = held_since.is_some_and(|since| newest.at >= since + router.interval);
        let old_at = newest.at + fresh_for(router.interval, cut);
        (now < old_at && is_well(router, newest)).then_some((old_at, *node))
    });
    match well.max() {
        // At the latest after an interval: the Active may have yielded meanwhile.
        Some((old_at, active)) => {
            Verdict::Hold { until: old_at.min(now + router.interval), active }
        }
        None => Verdict::Claim,
    }
}

/// Whether a node says of itself that it is the Active of this router and nothing is wrong.
fn is_well(router: &Router, told: &Told) -> bool {
    let same = |said: &&RouterWord| said.is_same_router(router.vrid, &router.addresses);
    told.word.routers.iter().filter(same).any(|said| {
        told.word.healthy && said.state == RouterState::Active && said.advertising && !said.yielding
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use cluster::Role;
    use cluster::flows::Mark;
    use cluster::presence::{Peer, Word};
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn ours() -> Router {
        Router { vrid: 51, addresses: vec![[192, 0, 2, 10].into()], interval: INTERVAL }
    }

    fn active() -> RouterWord {
        RouterWord {
            name: "there".into(),
            vrid: 51,
            addresses: ours().addresses,
            state: RouterState::Active,
            priority: 254,
            source: None,
            yielding: false,
            advertising: true,
        }
    }

    fn said(at: Instant, healthy: bool, router: RouterWord) -> Told {
        Told { at, word: Arc::new(Word { healthy, routers: vec![router], ..Word::default() }) }
    }

    /// Node 1 as heard directly and node 1 as the witness, node 3, heard it.
    fn heard(directly: Option<Told>, by_witness: Option<Told>) -> Heard {
        let peer = |role, last, hears| Peer {
            role,
            connected: true,
            last,
            round_trip: None,
            hears: Arc::new(hears),
            beats: 1,
            mark: Mark::default(),
        };
        let hears = by_witness.map(|told| (1, told)).into_iter().collect();
        let witness = peer(Role::Witness, None, hears);
        let node = peer(Role::Node, directly, Vec::new());
        Heard { peers: BTreeMap::from([(1, node), (3, witness)]) }
    }

    #[test]
    fn the_table_of_the_second_opinion() {
        let now = Instant::now() + Duration::from_secs(60);
        let ago = |age| now - ms(age);
        let well = |age| Some(said(ago(age), true, active()));
        let wrong = |router| Some(said(ago(10), true, router));
        let elsewhere = vec![[192, 0, 2, 11].into()];
        let table = [
            ("no control link", None, None, false),
            ("alive and well", well(10), None, true),
            ("alive and well, one beat lost", well(110), None, true),
            ("silent for two intervals", well(200), None, false),
            ("alive by the witness alone", None, well(60), true),
            ("alive by the witness, silent here", well(900), well(60), true),
            ("silent here and there", well(900), well(300), false),
            ("not healthy", Some(said(ago(10), false, active())), None, false),
            ("yielding", wrong(RouterWord { yielding: true, ..active() }), None, false),
            ("cannot advertise", wrong(RouterWord { advertising: false, ..active() }), None, false),
            ("a backup", wrong(RouterWord { state: RouterState::Backup, ..active() }), None, false),
            ("of another router", wrong(RouterWord { vrid: 52, ..active() }), None, false),
            (
                "of another segment",
                wrong(RouterWord { addresses: elsewhere, ..active() }),
                None,
                false,
            ),
            (
                "the newest word counts: it has yielded since",
                wrong(RouterWord { yielding: true, ..active() }),
                well(90),
                false,
            ),
            (
                "the newest word counts: it is Active again",
                Some(said(ago(90), false, active())),
                well(10),
                true,
            ),
        ];
        for (name, directly, by_witness, holds) in table {
            let verdict = judge(&ours(), &heard(directly, by_witness), None, now);
            assert_eq!(matches!(verdict, Verdict::Hold { active: 1, .. }), holds, "{name}");
        }
    }

    #[test]
    fn a_hold_ends_when_the_beat_is_old_and_is_looked_at_again_each_interval() {
        let now = Instant::now() + Duration::from_secs(60);
        let until = |age| match judge(
            &ours(),
            &heard(Some(said(now - ms(age), true, active())), None),
            None,
            now,
        ) {
            Verdict::Hold { until, .. } => until - now,
            Verdict::Claim => Duration::ZERO,
        };
        assert_eq!(until(0), ms(100));
        assert_eq!(until(150), ms(50));
        assert_eq!(until(199), ms(1));
        assert_eq!(until(200), ms(0));
    }

    #[test]
    fn in_a_known_cut_a_lost_segment_of_the_control_link_is_no_death() {
        let now = Instant::now() + Duration::from_secs(60);
        let beats = heard(Some(said(now - ms(280), true, active())), None);
        let holds = |since| judge(&ours(), &beats, since, now) != Verdict::Claim;
        assert!(!holds(None));
        assert!(!holds(Some(now - ms(300))), "no beat since the hold began proves a cut");
        assert!(holds(Some(now - ms(380))));
        let old = heard(Some(said(now - ms(300), true, active())), None);
        assert_eq!(judge(&ours(), &old, Some(now - ms(900)), now), Verdict::Claim);
        assert_eq!(fresh_for(Duration::from_secs(1), true), Duration::from_secs(3));
    }

    proptest! {
        /// However advertisements and beats fall before a power cut, and with every priority: when
        /// the timer fires, the dead Active is not believed, if its last beat took less than the
        /// skew time; else the wait is shorter than that beat's way.
        #[test]
        fn a_power_cut_costs_nothing(
            interval_ms in 10_u64..1000, advert_before in 0.0..1.0_f64, beat_before in 0.0..0.5_f64,
            priority in 1_u32..255, way_us in 0_u64..2000,
        ) {
            let interval = ms(interval_ms);
            let death = Instant::now() + Duration::from_secs(60);
            let skew = interval * (256 - priority) / 256;
            let fires = death - interval.mul_f64(advert_before) + interval * 3 + skew;
            let way = Duration::from_micros(way_us);
            let beat = death - interval.mul_f64(beat_before) + way;
            let router = Router { interval, ..ours() };
            match judge(&router, &heard(Some(said(beat, true, active())), None), None, fires) {
                Verdict::Claim => {}
                Verdict::Hold { until, .. } => prop_assert!(until - fires <= way.saturating_sub(skew)),
            }
        }

        /// A living Active whose beats come twice an interval, each at most an interval late, is
        /// never taken for dead.
        #[test]
        fn a_living_active_is_believed(since_sent in 0.0..0.5_f64, late in 0.0..1.0_f64) {
            let now = Instant::now() + Duration::from_secs(60);
            // What arrived last was sent one beat before the one that is still under way.
            let age = INTERVAL.mul_f64(since_sent) + INTERVAL.mul_f64(late);
            let verdict = judge(&ours(), &heard(Some(said(now - age, true, active())), None), None, now);
            prop_assert_ne!(verdict, Verdict::Claim);
        }
    }
}
