//! RFC 9568 section 6.4, row by row: given a state, when something happens, then these actions in
//! this order, this state and this timer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use proptest::prelude::*;
#[path = "common/rows.rs"]
mod rows;

use rows::{
    Do::{Add, Announce, Consult, Remove, Renew, Report, Send},
    Setup, What, drain, fire,
};
use vrrp::{
    Action, Cause, Event, Interval, Lateness, Opinion, Priority, Reason, RouterConfig,
    State::{self, Active, Backup, Initialize},
    Tracked, Tracker, VirtualRouter, active_down_interval,
};

const OWN_PRIORITY: u8 = rows::OWN_PRIORITY;

fn ipv4() -> Setup {
    rows::setups()[0]
}

fn config() -> RouterConfig {
    ipv4().config()
}

fn interval(centiseconds: u16) -> Interval {
    Interval::from_centiseconds(centiseconds).unwrap()
}

fn heard(priority: u8, source: IpAddr) -> Event {
    ipv4().heard(priority, source)
}

fn router_in(state: State, config: RouterConfig) -> (VirtualRouter, Instant) {
    ipv4().router_in(state, config)
}

#[test]
fn every_row_of_section_6_4() {
    let setups = rows::setups();
    let wrong: Vec<_> = setups
        .iter()
        .flat_map(|setup| setup.rows().into_iter().filter_map(|row| setup.check(&row).err()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const KINDS: [&str; 11] = [
    "Startup",
    "Shutdown",
    "LinkDown",
    "ADVERTISEMENT",
    "SetPriority",
    "SetPermission",
    "SetFault",
    "Track",
    "AddressLost",
    "AddressRefused",
    "Opinion",
];

/// Group orders have a table of their own, and in Initialize no timer runs.
fn kind(what: &What) -> &'static str {
    match what {
        What::Timeout | What::Overslept(_) => "timeout",
        What::Event(event) => match event {
            Event::Startup { .. } => "Startup",
            Event::Shutdown => "Shutdown",
            Event::LinkDown => "LinkDown",
            Event::Advertisement { .. } => "ADVERTISEMENT",
            Event::SetPriority(_) => "SetPriority",
            Event::SetPermission(_) => "SetPermission",
            Event::SetFault { .. } => "SetFault",
            Event::Track { .. } => "Track",
            Event::AddressLost => "AddressLost",
            Event::AddressRefused => "AddressRefused",
            Event::Opinion(_) => "Opinion",
            Event::Group(_) => "Group",
        },
    }
}

/// Whoever adds a state or an event is reminded of the table.
#[test]
fn every_state_meets_every_event_in_a_row() {
    let rows = ipv4().rows();
    for state in [Initialize, Backup, Active] {
        let met: BTreeSet<_> =
            rows.iter().filter(|row| row.state == state).map(|row| kind(&row.what)).collect();
        let missing: Vec<_> = KINDS.iter().filter(|kind| !met.contains(*kind)).collect();
        assert!(missing.is_empty(), "{state}: {missing:?}");
    }
}

#[test]
fn active_down_timer_advertises_adds_and_announces_before_it_reports() {
    let (mut router, _) = router_in(Backup, config());
    let (due, actions) = fire(&mut router);
    assert_eq!(actions, [Send(150), Add, Announce, Report(Backup, Active)]);
    assert_eq!(router.poll_timeout(), Some(due + Duration::from_millis(100)));
}

#[test]
fn adver_timer_advertises_on_the_beat_and_makes_up_for_nothing() {
    let (mut router, started) = router_in(Active, config());
    let beat = |n: u32| started + Duration::from_millis(100) * n;
    router.handle_timeout(beat(1) + Duration::from_millis(3));
    assert_eq!(drain(&mut router), [Send(150)]);
    assert_eq!(router.poll_timeout(), Some(beat(2)));
    let late = beat(3) + Duration::from_millis(50);
    router.handle_timeout(late);
    assert_eq!(drain(&mut router), [Announce, Send(150)]);
    assert_eq!(router.poll_timeout(), Some(late + Duration::from_millis(100)));
}

#[test]
fn an_active_renews_its_lease_and_announces_again_and_again() {
    let (mut router, started) = router_in(Active, config());
    let (mut renewed, mut announced) = (Vec::new(), Vec::new());
    loop {
        let now = router.poll_timeout().unwrap();
        let elapsed = (now - started).as_millis();
        if elapsed > 66_000 {
            break;
        }
        router.handle_timeout(now);
        for action in drain(&mut router) {
            match action {
                Renew => renewed.push(elapsed),
                Announce => announced.push(elapsed),
                Send(_) => assert_eq!(elapsed % 100, 0),
                Add | Remove | Consult | Report(..) => panic!("{action:?} at {elapsed} ms"),
            }
        }
    }
    assert_eq!(announced, [200, 1_000, 5_000, 65_000]);
    assert_eq!(renewed, (1..=132).map(|n| n * 500).collect::<Vec<_>>());
}

#[test]
fn the_interval_learnt_from_the_active_is_forgotten_when_we_take_over() {
    let (mut router, now) = router_in(Backup, config());
    router.handle(now, heard(200, ipv4().greater));
    let (due, _) = fire(&mut router);
    assert_eq!(due, now + active_down_interval(OWN_PRIORITY, interval(30)));
    router.handle(due, Event::SetPermission(false));
    assert_eq!(
        router.active_down_timer(),
        Some(due + active_down_interval(OWN_PRIORITY, interval(10)))
    );
}

#[test]
fn without_permission_the_timer_is_held_until_permission_or_an_active_comes() {
    let (mut router, _) = router_in(Backup, config().with_permission(false));
    let (due, _) = fire(&mut router);
    assert_eq!((router.state(), router.is_held(), router.poll_timeout()), (Backup, true, None));
    router.handle(due, heard(149, ipv4().greater));
    assert!(router.is_held(), "a lower priority changes nothing");
    router.handle(due, heard(200, ipv4().greater));
    assert!(!router.is_held(), "there is an Active again");
    let (due, actions) = fire(&mut router);
    assert_eq!(actions, []);
    router.handle(due, Event::SetPermission(true));
    assert_eq!(drain(&mut router), [Send(150), Add, Announce, Report(Backup, Active)]);
}

#[test]
fn permission_alone_does_not_make_a_router_active() {
    let (mut router, now) = router_in(Backup, config().with_permission(false));
    router.handle(now, Event::SetPermission(true));
    assert_eq!(drain(&mut router), []);
    assert_eq!(router.state(), Backup);
}

#[test]
fn a_change_of_priority_moves_the_running_timer() {
    let (mut router, started) = router_in(Backup, config());
    router.handle(
        started + Duration::from_millis(10),
        Event::SetPriority(Priority::new(254).unwrap()),
    );
    assert_eq!(router.active_down_timer(), Some(started + active_down_interval(254, interval(10))));
}

#[test]
fn a_flood_of_losing_advertisements_is_not_answered_one_by_one() {
    let (mut router, started) = router_in(Active, config());
    let mut sent = 0;
    for millis in 0..100_u64 {
        router.handle(started + Duration::from_millis(millis), heard(1, ipv4().smaller));
        router.handle(started + Duration::from_millis(millis), heard(0, ipv4().smaller));
        sent += drain(&mut router).iter().filter(|action| **action == Send(150)).count();
    }
    assert_eq!(sent, 10);
}

#[test]
fn oddities_are_counted_and_change_nothing() {
    let (mut router, now) = router_in(Backup, config());
    router.handle(now, heard(200, ipv4().own));
    assert_eq!(router.anomalies().own_source, 1);
    router.handle(now, heard(200, ipv4().greater));
    assert_eq!(router.anomalies().interval_mismatch, 1);
    assert_eq!(router.anomalies().address_mismatch, 0);
    let Event::Advertisement { source, mut advertisement } = heard(200, ipv4().greater) else {
        unreachable!()
    };
    advertisement.addresses = [ipv4().own].as_slice().into();
    router.handle(now, Event::Advertisement { source, advertisement });
    assert_eq!(router.anomalies().address_mismatch, 1);
    assert_eq!(router.peer().map(|peer| peer.source), Some(ipv4().greater));
}

/// Lets time pass until the router becomes Active, and says why it does.
fn reason_to_claim(router: &mut VirtualRouter) -> Option<Reason> {
    while router.state() == Backup {
        router.handle_timeout(router.poll_timeout()?);
    }
    std::iter::from_fn(|| router.poll_action()).find_map(|action| match action {
        Action::Report(transition) => Some(transition.reason),
        _ => None,
    })
}

#[test]
fn reasons_tell_silence_from_farewell() {
    for (event, expected) in [(None, Reason::ActiveSilent), (Some(0), Reason::ActiveLeft)] {
        let (mut router, now) = router_in(Backup, config());
        if let Some(priority) = event {
            router.handle(now, heard(priority, ipv4().greater));
        }
        assert_eq!(reason_to_claim(&mut router), Some(expected));
    }
}

fn events() -> impl Strategy<Value = Event> {
    let source = prop_oneof![Just(ipv4().own), Just(ipv4().smaller), Just(ipv4().greater)];
    prop_oneof![
        Just(Event::Startup { source: ipv4().own }),
        Just(Event::Shutdown),
        Just(Event::LinkDown),
        Just(Event::AddressLost),
        Just(Event::AddressRefused),
        (1_u8..=254).prop_map(|priority| Event::SetPriority(Priority::new(priority).unwrap())),
        any::<bool>().prop_map(Event::SetPermission),
        (any::<u8>(), source).prop_map(|(priority, source)| heard(priority, source)),
    ]
}

proptest! {
    /// Whatever happens: addresses are held exactly while Active, every change of state is
    /// reported once and after its actions, and a router never stops having a next step unless it
    /// is stopped or held.
    #[test]
    fn addresses_are_held_exactly_while_active(
        preempt in any::<bool>(),
        steps in prop::collection::vec((events(), any::<bool>(), 0_u64..700), 1..80),
    ) {
        let mut now = Instant::now();
        let mut router = VirtualRouter::new(config().with_preempt(preempt));
        let mut holds = false;
        let mut state = Initialize;
        for (event, timers_first, millis) in steps {
            now += Duration::from_millis(millis);
            if timers_first {
                router.handle_timeout(now);
            }
            router.handle(now, event);
            for action in drain(&mut router) {
                match action {
                    Add => holds = true,
                    Remove => holds = false,
                    Report(from, to) => {
                        prop_assert_eq!(from, state);
                        prop_assert_ne!(from, to);
                        prop_assert_eq!(holds, to == Active);
                        state = to;
                    }
                    Renew => prop_assert!(holds),
                    Send(_) | Announce | Consult => {}
                }
            }
            prop_assert_eq!(state, router.state());
            prop_assert_eq!(holds, state == Active);
            let expects_timer = state != Initialize && !router.is_held();
            prop_assert_eq!(router.poll_timeout().is_some(), expects_timer);
        }
    }
}

#[test]
fn a_second_opinion_delays_a_takeover_and_silence_of_the_adviser_ends_the_delay() {
    let (mut router, started) = router_in(Backup, config().with_second_opinion(true));
    let (due, actions) = fire(&mut router);
    assert_eq!(due - started, active_down_interval(OWN_PRIORITY, interval(10)));
    assert_eq!(actions, [Consult]);
    let until = due + Duration::from_millis(150);
    router.handle(due, Event::Opinion(Opinion::Hold { until, why: "it is well" }));
    assert_eq!((drain(&mut router), router.state()), (vec![], Backup));
    assert_eq!(router.hold(), Some("it is well"));
    assert_eq!(fire(&mut router), (until, vec![Consult]));
    router.handle(until, Event::Opinion(Opinion::Claim));
    assert_eq!(drain(&mut router), [Send(OWN_PRIORITY), Add, Announce, Report(Backup, Active)]);
    assert_eq!(router.hold(), None);
}

#[test]
fn a_permission_that_comes_after_the_silence_needs_a_second_opinion_too() {
    let (mut router, started) = router_in(Backup, config().with_second_opinion(true));
    router.handle(started, Event::SetPermission(false));
    let (due, actions) = fire(&mut router);
    assert_eq!((actions, router.is_held()), (vec![], true));
    let later = due + Duration::from_secs(1);
    router.handle(later, Event::SetPermission(true));
    assert_eq!((drain(&mut router), router.state()), (vec![Consult], Backup));
    router.handle(later, Event::Opinion(Opinion::Claim));
    assert_eq!(drain(&mut router), [Send(OWN_PRIORITY), Add, Announce, Report(Backup, Active)]);
}

#[test]
fn an_advertisement_ends_the_delay_and_a_goodbye_needs_no_second_opinion() {
    let (mut router, _) = router_in(Backup, config().with_second_opinion(true));
    let (due, _) = fire(&mut router);
    let until = due + Duration::from_millis(150);
    router.handle(due, Event::Opinion(Opinion::Hold { until, why: "it is well" }));
    drain(&mut router);
    router.handle(due, heard(200, ipv4().greater));
    assert_eq!((router.hold(), router.state()), (None, Backup));
    // Too late to matter.
    router.handle(due, Event::Opinion(Opinion::Claim));
    assert_eq!(router.state(), Backup);
    router.handle(due, heard(0, ipv4().greater));
    router.handle_timeout(router.poll_timeout().unwrap());
    assert_eq!(router.state(), Active);
}

#[test]
fn a_hold_does_not_protect_a_lower_priority_that_is_heard() {
    let (mut router, _) = router_in(Backup, config().with_second_opinion(true));
    let (due, _) = fire(&mut router);
    let until = due + Duration::from_millis(150);
    router.handle(due, Event::Opinion(Opinion::Hold { until, why: "it is well" }));
    router.handle(due + Duration::from_millis(90), heard(149, ipv4().smaller));
    let reason = Reason::Preempting { source: ipv4().smaller, priority: 149 };
    assert_eq!(reason_to_claim(&mut router), Some(reason));
}

#[test]
fn a_preempt_delay_begins_with_the_first_lower_advertisement_and_again_after_a_higher_one() {
    let delayed = config().with_preempt_delay(Duration::from_secs(1)).unwrap();
    // When a higher priority is heard in between, in milliseconds.
    for (higher, expected) in [(None, 1_000), (Some(500), 1_600)] {
        let (mut router, started) = router_in(Backup, delayed.clone());
        let at = |millis| started + Duration::from_millis(millis);
        let mut last_followed = 0;
        for millis in (0..=2_000).step_by(100) {
            let priority = if higher == Some(millis) { 200 } else { 149 };
            router.handle(at(millis), heard(priority, ipv4().smaller));
            let down = at(millis) + active_down_interval(OWN_PRIORITY, interval(30));
            if router.active_down_timer() == Some(down) {
                last_followed = millis;
            }
        }
        assert_eq!(last_followed, expected - 100, "{higher:?}");
    }
}

#[test]
fn any_number_of_faults_end_one_by_one() {
    let (mut router, now) = router_in(Active, config());
    let fault = |cause, present| Event::SetFault { cause, present };
    router.handle(now, fault("isolated", true));
    router.handle(now, fault("drained", true));
    router.handle(now, Event::Startup { source: ipv4().own });
    router.handle(now, fault("isolated", false));
    assert_eq!(router.state(), Initialize);
    assert_eq!(router.faults(), [Cause::Named("drained")]);
    drain(&mut router);
    router.handle(now, fault("drained", false));
    assert_eq!(drain(&mut router), [Report(Initialize, Backup)]);
    // Not without a link.
    router.handle(now, Event::LinkDown);
    router.handle(now, fault("drained", true));
    router.handle(now, fault("drained", false));
    assert_eq!((router.state(), router.faults()), (Initialize, vec![Cause::Link]));
}

#[test]
fn trackers_change_the_priority_that_is_advertised_and_say_why() {
    let trackers = vec![Tracker::new("web", -60).unwrap(), Tracker::new("extra", 20).unwrap()];
    let (mut router, _) = router_in(Active, config().with_trackers(trackers).unwrap());
    assert_eq!((router.base_priority().as_u8(), router.priority().as_u8()), (150, 170));
    let due = router.poll_timeout().unwrap();
    router.handle(due, Event::Track { tracker: "web".into(), seen: Tracked::Down });
    router.handle_timeout(due);
    assert_eq!(drain(&mut router), [Send(110)]);
    let reasons: Vec<_> =
        router.adjustments().iter().map(|it| format!("{:+} {}", it.by, it.cause)).collect();
    assert_eq!(reasons, ["-60 web is down", "+20 extra is up"]);
}

#[test]
fn an_address_that_is_taken_three_times_in_ten_seconds_is_left_to_others() {
    for (gaps, expected) in [([1, 1, 1], Backup), ([5, 5, 5], Active), ([1, 8, 0], Backup)] {
        let (mut router, mut now) = router_in(Active, config());
        for gap in gaps {
            for _ in 0..gap * 10 {
                now = fire(&mut router).0;
            }
            router.handle(now, Event::AddressLost);
        }
        assert_eq!(router.state(), expected, "{gaps:?}");
        if expected == Backup {
            let actions = drain(&mut router);
            assert!(actions.ends_with(&[Send(0), Remove, Report(Active, Backup)]), "{actions:?}");
            assert_eq!(router.active_down_timer(), Some(now + Duration::from_secs(60)));
        }
    }
}

#[test]
fn a_backup_that_slept_listens_before_it_claims() {
    let listening = |router: &VirtualRouter| {
        2 * interval(10).as_duration() + vrrp::skew_time(router.priority().as_u8(), interval(10))
    };
    // Asleep from and to, in milliseconds: over the timer, right before it, and far from it.
    for (from, to, waits) in
        [(100, 5_000, true), (90, 290, true), (90, 330, true), (90, 139, false)]
    {
        let (mut router, started) = router_in(Backup, config());
        let at = |millis| started + Duration::from_millis(millis);
        let due = router.active_down_timer().unwrap();
        while router.poll_timeout().unwrap() <= at(from) {
            router.handle_timeout(router.poll_timeout().unwrap());
        }
        router.handle_timeout(at(to));
        assert_eq!((router.state(), drain(&mut router)), (Backup, vec![]), "{from} to {to}");
        let expected = if waits { at(to) + listening(&router) } else { due };
        assert_eq!(router.active_down_timer(), Some(expected), "{from} to {to}");
        assert_eq!(router.lateness().times, u64::from(waits));
        // An Active that is heard meanwhile is followed.
        router.handle(at(to) + Duration::from_millis(1), heard(200, ipv4().greater));
        assert_eq!(router.peer().map(|peer| peer.priority), Some(200));
    }
}

#[test]
fn a_backup_that_is_never_awake_in_time_claims_in_the_end() {
    let (mut router, mut now) = router_in(Backup, config());
    for _ in 0..10 {
        now += Duration::from_secs(1);
        router.handle_timeout(now);
    }
    assert_eq!(router.state(), Active);
}

#[test]
fn lateness_is_counted() {
    let (mut router, started) = router_in(Active, config());
    // The next advertisement is due after 100 ms.
    router.handle_timeout(started + Duration::from_millis(300));
    assert_eq!(router.lateness(), Lateness::default(), "two intervals late are none too many");
    let due = router.poll_timeout().unwrap();
    router.handle_timeout(due + Duration::from_millis(201));
    let longest = Duration::from_millis(201);
    assert_eq!(router.lateness(), Lateness { times: 1, longest });
}

#[test]
fn the_lease_that_ran_out_in_our_sleep_was_not_taken_by_somebody_else() {
    let (mut router, started) = router_in(Active, config().with_preempt(false));
    let now = started + Duration::from_secs(3);
    router.handle(now, Event::AddressLost);
    router.handle_timeout(now);
    assert_eq!(drain(&mut router), [], "listens");
    let (_, actions) = fire(&mut router);
    assert_eq!(actions, [Send(150), Add]);
}
