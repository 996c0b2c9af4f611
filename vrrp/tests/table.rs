//! RFC 9568 section 6.4, row by row: given a state, when something happens, then these actions in
//! this order, this state and this timer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use vrrp::{
    Action, Advertisement, Event, Interval, Opinion, Priority, Reason, RouterConfig, State,
    VirtualRouter, active_down_interval, skew_time,
};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 100));
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 127));
/// Greater than ours only if octets are compared without sign.
const GREATER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 128));
const SMALLER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 126));
const OWN_PRIORITY: u8 = 150;
/// 30 cs, to be told from our own 10 cs.
const THEIR_INTERVAL: u16 = 30;

/// What the shell is told to do, short enough for a table.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Do {
    Send(u8),
    Add,
    Renew,
    Remove,
    Announce,
    Consult,
    Report(State, State),
}
use Do::{Add, Announce, Consult, Remove, Renew, Report, Send};
use State::{Active, Backup, Initialize};

fn config() -> RouterConfig {
    RouterConfig::new("eth0", 51, vec![VIP]).unwrap().with_priority(OWN_PRIORITY).unwrap()
}

fn interval(centiseconds: u16) -> Interval {
    Interval::from_centiseconds(centiseconds).unwrap()
}

fn heard(priority: u8, source: IpAddr) -> Event {
    let advertisement = Advertisement {
        vrid: config().vrid(),
        priority,
        interval: interval(THEIR_INTERVAL),
        addresses: [VIP].as_slice().into(),
    };
    Event::Advertisement { source, advertisement }
}

fn drain(router: &mut VirtualRouter) -> Vec<Do> {
    std::iter::from_fn(|| router.poll_action())
        .map(|action| match action {
            Action::Send(advertisement) => {
                assert_eq!(advertisement.interval, interval(10), "always our own interval");
                assert_eq!(advertisement.addresses.as_slice(), [VIP]);
                Send(advertisement.priority)
            }
            Action::AddAddresses => Add,
            Action::RenewAddresses => Renew,
            Action::RemoveAddresses => Remove,
            Action::Announce => Announce,
            Action::Consult => Consult,
            Action::Report(transition) => Report(transition.from, transition.to),
        })
        .collect()
}

/// A router in `state` whose last timer was started at the returned instant.
fn router_in(state: State, config: RouterConfig) -> (VirtualRouter, Instant) {
    let mut now = Instant::now();
    let mut router = VirtualRouter::new(config);
    if state != Initialize {
        router.handle(now, Event::Startup { source: OWN });
    }
    if state == Active {
        now = router.poll_timeout().unwrap();
        router.handle_timeout(now);
    }
    assert_eq!(router.state(), state);
    drain(&mut router);
    (router, now)
}

/// Which timer must run afterwards, counted from the event.
#[derive(Debug)]
enum Timer {
    None,
    /// Runs on from where it was started before the event.
    Untouched,
    /// Active_Down_Interval from an interval in centiseconds.
    Down(u16),
    /// Skew_Time from an interval in centiseconds.
    Skew(u16),
    /// Advertisement_Interval.
    Adver,
    /// A minute, to leave the address to others.
    Penalty,
}

#[test]
fn every_row_of_section_6_4() {
    let preempting = config();
    let patient = config().with_preempt(false);
    let startup = || Event::Startup { source: OWN };
    #[rustfmt::skip]
    let rows = [
        // (row, configuration, state, event, actions, next state, timer)
        ("6.4.1 (110) startup, not the owner", &preempting, Initialize, startup(),
            vec![Report(Initialize, Backup)], Backup, Timer::Down(10)),
        ("6.4.1 shutdown is nothing new", &preempting, Initialize, Event::Shutdown,
            vec![], Initialize, Timer::None),
        ("6.4.1 advertisements are ignored", &preempting, Initialize, heard(1, SMALLER),
            vec![], Initialize, Timer::None),

        ("6.4.2 shutdown", &preempting, Backup, Event::Shutdown,
            vec![Report(Backup, Initialize)], Initialize, Timer::None),
        ("6.4.2 priority zero", &preempting, Backup, heard(0, GREATER),
            vec![], Backup, Timer::Skew(10)),
        ("6.4.2 higher priority", &preempting, Backup, heard(151, SMALLER),
            vec![], Backup, Timer::Down(THEIR_INTERVAL)),
        ("6.4.2 owner", &preempting, Backup, heard(255, SMALLER),
            vec![], Backup, Timer::Down(THEIR_INTERVAL)),
        ("6.4.2 equal priority, greater address", &preempting, Backup, heard(150, GREATER),
            vec![], Backup, Timer::Down(THEIR_INTERVAL)),
        ("6.4.2 equal priority, smaller address", &preempting, Backup, heard(150, SMALLER),
            vec![], Backup, Timer::Down(THEIR_INTERVAL)),
        ("6.4.2 lower priority, preempting", &preempting, Backup, heard(149, GREATER),
            vec![], Backup, Timer::Untouched),
        ("6.4.2 lower priority, not preempting", &patient, Backup, heard(1, SMALLER),
            vec![], Backup, Timer::Down(THEIR_INTERVAL)),
        ("own advertisement", &preempting, Backup, heard(150, OWN),
            vec![], Backup, Timer::Untouched),
        ("link down", &preempting, Backup, Event::LinkDown,
            vec![Report(Backup, Initialize)], Initialize, Timer::None),
        ("a lost address is not ours", &preempting, Backup, Event::AddressLost,
            vec![], Backup, Timer::Untouched),

        ("6.4.3 shutdown", &preempting, Active, Event::Shutdown,
            vec![Send(0), Remove, Report(Active, Initialize)], Initialize, Timer::None),
        ("6.4.3 priority zero", &preempting, Active, heard(0, GREATER),
            vec![Send(150), Announce], Active, Timer::Adver),
        ("6.4.3 higher priority", &preempting, Active, heard(151, SMALLER),
            vec![Remove, Send(150), Report(Active, Backup)], Backup, Timer::Down(THEIR_INTERVAL)),
        ("6.4.3 equal priority, greater address", &preempting, Active, heard(150, GREATER),
            vec![Remove, Send(150), Report(Active, Backup)], Backup, Timer::Down(THEIR_INTERVAL)),
        ("6.4.3 equal priority, smaller address", &preempting, Active, heard(150, SMALLER),
            vec![Send(150), Announce], Active, Timer::Untouched),
        ("6.4.3 lower priority", &preempting, Active, heard(149, GREATER),
            vec![Send(150), Announce], Active, Timer::Untouched),
        ("6.4.3 lower priority, not preempting", &patient, Active, heard(149, GREATER),
            vec![Send(150), Announce], Active, Timer::Untouched),
        ("own advertisement", &preempting, Active, heard(150, OWN),
            vec![], Active, Timer::Untouched),
        ("own farewell", &preempting, Active, heard(0, OWN),
            vec![], Active, Timer::Untouched),
        ("link down", &preempting, Active, Event::LinkDown,
            vec![Remove, Report(Active, Initialize)], Initialize, Timer::None),
        ("an address was lost", &preempting, Active, Event::AddressLost,
            vec![Add, Announce], Active, Timer::Untouched),
        ("an address was refused", &preempting, Active, Event::AddressRefused,
            vec![Send(0), Remove, Report(Active, Backup)], Backup, Timer::Penalty),
        ("permission withdrawn", &preempting, Active, Event::SetPermission(false),
            vec![Send(0), Remove, Report(Active, Backup)], Backup, Timer::Down(10)),
    ];
    for (row, config, state, event, actions, next, timer) in rows {
        let (mut router, started) = router_in(state, config.clone());
        // Late enough that announcements are not held back, early enough that no timer is due.
        let now = started + Duration::from_millis(60);
        router.handle(now, event);
        assert_eq!(drain(&mut router), actions, "{row}");
        assert_eq!(router.state(), next, "{row}");
        let own = Duration::from_millis(100);
        let expected = match timer {
            Timer::None => None,
            Timer::Untouched if next == Active => Some(started + own),
            Timer::Untouched => Some(started + active_down_interval(OWN_PRIORITY, interval(10))),
            Timer::Down(theirs) => Some(now + active_down_interval(OWN_PRIORITY, interval(theirs))),
            Timer::Skew(theirs) => Some(now + skew_time(OWN_PRIORITY, interval(theirs))),
            Timer::Adver => Some(now + own),
            Timer::Penalty => Some(now + Duration::from_secs(60)),
        };
        assert_eq!(router.poll_timeout(), expected, "{row}");
    }
}

#[test]
fn active_down_timer_advertises_adds_and_announces_before_it_reports() {
    let (mut router, _) = router_in(Backup, config());
    let due = router.poll_timeout().unwrap();
    router.handle_timeout(due - Duration::from_micros(1));
    assert_eq!(drain(&mut router), []);
    router.handle_timeout(due);
    assert_eq!(drain(&mut router), [Send(150), Add, Announce, Report(Backup, Active)]);
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
    router.handle(now, heard(200, GREATER));
    let due = router.poll_timeout().unwrap();
    assert_eq!(due, now + active_down_interval(OWN_PRIORITY, interval(THEIR_INTERVAL)));
    router.handle_timeout(due);
    router.handle(due, Event::SetPermission(false));
    assert_eq!(router.poll_timeout(), Some(due + active_down_interval(OWN_PRIORITY, interval(10))));
}

#[test]
fn without_permission_the_timer_is_held_until_permission_or_an_active_comes() {
    let (mut router, _) = router_in(Backup, config().with_permission(false));
    let due = router.poll_timeout().unwrap();
    router.handle_timeout(due);
    assert_eq!((router.state(), router.is_held(), router.poll_timeout()), (Backup, true, None));
    router.handle(due, heard(149, GREATER));
    assert!(router.is_held(), "a lower priority changes nothing");
    router.handle(due, heard(200, GREATER));
    assert!(!router.is_held(), "there is an Active again");
    let due = router.poll_timeout().unwrap();
    router.handle_timeout(due);
    assert_eq!(drain(&mut router), []);
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
    assert_eq!(router.poll_timeout(), Some(started + active_down_interval(254, interval(10))));
}

#[test]
fn a_flood_of_losing_advertisements_is_not_answered_one_by_one() {
    let (mut router, started) = router_in(Active, config());
    let mut sent = 0;
    for millis in 0..100_u64 {
        router.handle(started + Duration::from_millis(millis), heard(1, SMALLER));
        router.handle(started + Duration::from_millis(millis), heard(0, SMALLER));
        sent += drain(&mut router).iter().filter(|action| **action == Send(150)).count();
    }
    assert_eq!(sent, 10);
}

#[test]
fn oddities_are_counted_and_change_nothing() {
    let (mut router, now) = router_in(Backup, config());
    router.handle(now, heard(200, OWN));
    assert_eq!(router.anomalies().own_source, 1);
    router.handle(now, heard(200, GREATER));
    assert_eq!(router.anomalies().interval_mismatch, 1);
    assert_eq!(router.anomalies().address_mismatch, 0);
    let Event::Advertisement { source, mut advertisement } = heard(200, GREATER) else {
        unreachable!()
    };
    advertisement.addresses = [OWN].as_slice().into();
    router.handle(now, Event::Advertisement { source, advertisement });
    assert_eq!(router.anomalies().address_mismatch, 1);
    assert_eq!(router.peer().map(|peer| peer.source), Some(GREATER));
}

#[test]
fn reasons_tell_silence_from_farewell() {
    for (event, expected) in [(None, Reason::ActiveSilent), (Some(0), Reason::ActiveLeft)] {
        let (mut router, now) = router_in(Backup, config());
        if let Some(priority) = event {
            router.handle(now, heard(priority, GREATER));
        }
        let due = router.poll_timeout().unwrap();
        router.handle_timeout(due);
        let reason = std::iter::from_fn(|| router.poll_action()).find_map(|action| match action {
            Action::Report(transition) => Some(transition.reason),
            _ => None,
        });
        assert_eq!(reason, Some(expected));
    }
}

fn events() -> impl Strategy<Value = Event> {
    let source = prop_oneof![Just(OWN), Just(SMALLER), Just(GREATER)];
    prop_oneof![
        Just(Event::Startup { source: OWN }),
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
    let due = router.poll_timeout().unwrap();
    assert_eq!(due - started, active_down_interval(OWN_PRIORITY, interval(10)));
    router.handle_timeout(due);
    assert_eq!(drain(&mut router), [Consult]);
    let until = due + Duration::from_millis(150);
    router.handle(due, Event::Opinion(Opinion::Hold { until, why: "it is well" }));
    assert_eq!((drain(&mut router), router.state()), (vec![], Backup));
    assert_eq!((router.hold(), router.poll_timeout()), (Some("it is well"), Some(until)));
    router.handle_timeout(until);
    assert_eq!(drain(&mut router), [Consult]);
    router.handle(until, Event::Opinion(Opinion::Claim));
    assert_eq!(drain(&mut router), [Send(OWN_PRIORITY), Add, Announce, Report(Backup, Active)]);
    assert_eq!(router.hold(), None);
}

#[test]
fn an_advertisement_ends_the_delay_and_a_goodbye_needs_no_second_opinion() {
    let (mut router, _) = router_in(Backup, config().with_second_opinion(true));
    let due = router.poll_timeout().unwrap();
    router.handle_timeout(due);
    let until = due + Duration::from_millis(150);
    router.handle(due, Event::Opinion(Opinion::Hold { until, why: "it is well" }));
    drain(&mut router);
    router.handle(due, heard(200, GREATER));
    assert_eq!((router.hold(), router.state()), (None, Backup));
    // Too late to matter.
    router.handle(due, Event::Opinion(Opinion::Claim));
    assert_eq!(router.state(), Backup);
    router.handle(due, heard(0, GREATER));
    router.handle_timeout(router.poll_timeout().unwrap());
    assert_eq!(router.state(), Active);
}
