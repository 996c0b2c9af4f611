//! Two to five speakers on a segment in memory that loses, duplicates, reorders, delays and splits,
//! while they crash, restart, sleep, fail and change priority.
//!
//! A failing run prints its seed and what happened. `VRRP_SEED=1234` runs that one again, bit for
//! bit.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

#[path = "common/oracle.rs"]
mod oracle;

use vrrp::{
    Event, Priority, Reason, RouterConfig, State, active_down_interval,
    sim::{Conditions, Segment},
};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 100));
const SEEDS: u64 = 100;
const RUNS: u64 = 10_000;
/// CI has two cores.
const THREADS: usize = 2;

fn router(priority: u8) -> RouterConfig {
    RouterConfig::new("eth0", 51, vec![VIP]).unwrap().with_priority(priority).unwrap()
}

fn host(number: usize) -> IpAddr {
    IpAddr::from([10, 99, 0, u8::try_from(number + 1).unwrap()])
}

/// Running hosts with the priorities 254, 253, ...
fn segment(seed: u64, count: u8) -> Segment {
    let mut segment = Segment::new(seed, Instant::now());
    for number in 0..count {
        let node = segment.add(router(254 - number), host(usize::from(number)));
        segment.start(node);
    }
    segment
}

/// After this long on a sound wire exactly one router is Active: the last of them may have to wait
/// out a whole Active_Down_Interval, and its advertisement takes the wire's longest delay.
fn bound(delay: Duration) -> Duration {
    let slowest = router(1);
    active_down_interval(1, slowest.interval()) + 2 * delay + Duration::from_millis(1)
}

/// Runs on and returns the longest time with no holder and the longest with more than one.
fn longest_faults(segment: &mut Segment, duration: Duration) -> (Duration, Duration) {
    let until = segment.now() + duration;
    let (mut nobody, mut several) = (Duration::ZERO, Duration::ZERO);
    let mut since = (segment.now(), segment.holders().len());
    loop {
        let more = segment.step(until);
        let span = segment.now() - since.0;
        match since.1 {
            0 => nobody = nobody.max(span),
            1 => {}
            _ => several = several.max(span),
        }
        let holders = segment.holders().len();
        if holders.min(2) != since.1.min(2) {
            since = (segment.now(), holders);
        }
        if !more {
            return (nobody, several);
        }
    }
}

#[test]
fn ten_thousand_runs_keep_every_invariant() {
    if let Ok(seed) = std::env::var("VRRP_SEED") {
        let seed = seed.parse().expect("VRRP_SEED is a number");
        oracle::run(seed).unwrap_or_else(|violation| panic!("{violation}"));
        return;
    }
    let first_violation = |thread: usize| {
        (0..RUNS).skip(thread).step_by(THREADS).find_map(|seed| oracle::run(seed).err())
    };
    let violations: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || first_violation(thread))).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..50 {
        assert_eq!(oracle::run(seed), oracle::run(seed), "seed {seed}");
    }
}

#[test]
fn after_any_trouble_the_highest_running_priority_is_the_only_active() {
    for seed in 0..SEEDS {
        let delay = Duration::from_millis(seed % 30);
        let count = u8::try_from(2 + seed % 4).unwrap();
        let mut segment = segment(seed, count);
        // A minute of trouble, then peace.
        for _ in 0..30 {
            let loss_permille = [0, 100, 500, 1_000][usize::try_from(segment.draw(4)).unwrap()];
            let duplicate_permille = segment.draw(300);
            segment.set_conditions(Conditions { loss_permille, duplicate_permille, delay });
            let node = usize::try_from(segment.draw(u32::from(count))).unwrap();
            match segment.draw(6) {
                0 if segment.running().contains(&node) => segment.crash(node),
                1 if segment.running().contains(&node) => segment.stop(node),
                2 | 3 if !segment.running().contains(&node) => segment.start(node),
                4 => {
                    let group = segment.draw(2);
                    segment.set_group(node, group);
                }
                _ => {}
            }
            let span = Duration::from_millis(u64::from(segment.draw(4_000)));
            segment.run_for(span);
        }
        for node in 0..usize::from(count) {
            segment.set_group(node, 0);
            if !segment.running().contains(&node) && segment.draw(2) == 0 {
                segment.start(node);
            }
        }
        segment.set_conditions(Conditions { delay, ..Conditions::default() });
        let bound = bound(delay);
        segment.run_for(2 * bound);
        let expected: Vec<_> = segment.running().into_iter().take(1).collect();
        assert_eq!(segment.holders(), expected, "seed {seed}");
        let quiet = longest_faults(&mut segment, Duration::from_secs(60));
        let fault = if expected.is_empty() { quiet.1 } else { quiet.0.max(quiet.1) };
        assert_eq!(fault, Duration::ZERO, "seed {seed}: a takeover without reason");
    }
}

#[test]
fn on_a_connected_segment_faults_never_last_longer_than_the_bound() {
    for seed in 0..SEEDS {
        let delay = Duration::from_millis(seed % 20);
        let count = u8::try_from(2 + seed % 4).unwrap();
        let mut segment = segment(seed, count);
        segment.set_conditions(Conditions { delay, duplicate_permille: 200, loss_permille: 0 });
        let bound = bound(delay);
        segment.run_for(2 * bound);
        for _ in 0..20 {
            let node = usize::try_from(segment.draw(u32::from(count))).unwrap();
            match (segment.running().contains(&node), segment.draw(2)) {
                (true, _) if segment.running().len() == 1 => {}
                (true, 0) => segment.crash(node),
                (true, _) => segment.stop(node),
                (false, _) => segment.start(node),
            }
            let (nobody, several) = longest_faults(&mut segment, Duration::from_secs(3));
            assert!(nobody <= bound, "seed {seed}: nobody for {nobody:?}, bound {bound:?}");
            assert!(several <= bound, "seed {seed}: several for {several:?}, bound {bound:?}");
        }
    }
}

#[test]
fn each_side_of_a_split_has_one_active_and_the_healed_segment_too() {
    for seed in 0..SEEDS {
        let mut segment = segment(seed, 4);
        segment.run_for(Duration::from_secs(2));
        assert_eq!(segment.holders(), [0], "seed {seed}");
        segment.set_group(2, 1);
        segment.set_group(3, 1);
        segment.run_for(Duration::from_secs(2));
        assert_eq!(segment.holders(), [0, 2], "seed {seed}");
        let announced = segment.announcements(0);
        segment.set_group(2, 0);
        segment.set_group(3, 0);
        // One interval: the next advertisement of either side settles it.
        segment.run_for(Duration::from_millis(101));
        assert_eq!(segment.holders(), [0], "seed {seed}");
        assert!(segment.announcements(0) > announced, "seed {seed}: neighbours are not told");
    }
}

#[test]
fn a_farewell_hands_over_within_the_skew_time() {
    let mut segment = segment(1, 2);
    segment.run_for(Duration::from_secs(2));
    assert_eq!(segment.holders(), [0]);
    segment.stop(0);
    // (256 - 253) / 256 of 100 ms.
    segment.run_for(Duration::from_micros(1_172));
    assert_eq!(segment.holders(), [1]);
}

#[test]
fn without_permission_a_router_waits_and_takes_over_the_moment_it_is_given() {
    let mut segment = segment(1, 2);
    segment.run_for(Duration::from_secs(2));
    segment.feed(1, Event::SetPermission(false));
    segment.crash(0);
    segment.run_for(Duration::from_secs(10));
    assert!(segment.holders().is_empty());
    segment.feed(1, Event::SetPermission(true));
    assert_eq!(segment.holders(), [1]);
}

#[test]
fn lowering_the_priority_of_the_active_moves_the_addresses() {
    let mut segment = segment(1, 3);
    segment.run_for(Duration::from_secs(2));
    segment.feed(0, Event::SetPriority(Priority::new(10).unwrap()));
    let (nobody, _) = longest_faults(&mut segment, Duration::from_secs(2));
    assert_eq!(segment.holders(), [1]);
    assert_eq!(nobody, Duration::ZERO, "the old Active holds on until the new one speaks");
}

#[test]
fn a_router_that_does_not_preempt_leaves_a_working_active_alone() {
    let mut segment = Segment::new(1, Instant::now());
    let strong = segment.add(router(254).with_preempt(false), host(0));
    let weak = segment.add(router(100), host(1));
    segment.start(weak);
    segment.run_for(Duration::from_secs(2));
    segment.start(strong);
    segment.run_for(Duration::from_secs(60));
    assert_eq!(segment.holders(), [weak]);
}

#[test]
fn a_suspended_active_that_does_not_preempt_gives_way_when_it_wakes() {
    let mut segment = Segment::new(1, Instant::now());
    let strong = segment.add(router(254).with_preempt(false), host(0));
    let weak = segment.add(router(100), host(1));
    segment.start(strong);
    segment.start(weak);
    segment.run_for(Duration::from_secs(2));
    segment.pause(strong);
    segment.run_for(Duration::from_secs(5));
    segment.resume(strong);
    let (nobody, several) = longest_faults(&mut segment, Duration::from_secs(5));
    assert_eq!(segment.holders(), [weak]);
    assert_eq!((nobody, several), (Duration::ZERO, Duration::ZERO));
    assert_eq!(segment.state(strong), State::Backup);
    let (_, last) = segment.transitions(strong).last().unwrap();
    assert_eq!(last.reason, Reason::Overslept);
}

#[test]
fn a_suspended_active_that_preempts_asserts_itself_when_it_wakes() {
    let mut segment = segment(1, 2);
    segment.run_for(Duration::from_secs(2));
    segment.pause(0);
    segment.run_for(Duration::from_secs(5));
    assert_eq!(segment.holders(), [1]);
    let announced = segment.announcements(0);
    segment.resume(0);
    segment.run_for(Duration::from_secs(1));
    assert_eq!(segment.holders(), [0]);
    assert_eq!(segment.transitions(0).len(), 2, "it never left active in its own eyes");
    assert!(segment.announcements(0) > announced);
}

/// Two hosts with a router on each of two segments, in a sync group, with these priorities.
fn pairs(priorities: [[u8; 2]; 2]) -> Segment {
    let mut segment = Segment::new(1, Instant::now());
    for (number, [first, second]) in priorities.into_iter().enumerate() {
        let node = segment.add(router(first).with_sync_group("pair"), host(number));
        let second = router(second).with_name("second").with_sync_group("pair");
        segment.add_router(node, second, host(number));
        segment.start(node);
    }
    segment
}

/// Who holds the addresses of both segments.
fn both(segment: &Segment) -> [Vec<usize>; 2] {
    [segment.holders_on(0), segment.holders_on(1)]
}

#[test]
fn a_sync_group_leaves_with_the_first_link_that_fails_and_comes_back_with_the_last() {
    let mut segment = pairs([[254, 254], [253, 253]]);
    segment.run_for(Duration::from_secs(2));
    assert_eq!(both(&segment), [[0], [0]]);
    segment.feed_wire(0, 1, Event::LinkDown);
    assert_eq!(segment.state_on(0, 0), State::Initialize, "the whole group is in fault");
    // The goodbye on the segment that works takes the other one along.
    segment.run_for(Duration::from_millis(200));
    assert_eq!(both(&segment), [[1], [1]]);
    segment.feed_wire(0, 1, Event::Startup { source: host(0) });
    segment.run_for(Duration::from_secs(1));
    assert_eq!(both(&segment), [[0], [0]]);
}

#[test]
fn a_sync_group_is_taken_over_as_fast_as_its_first_member() {
    let mut segment = pairs([[254, 254], [253, 253]]);
    segment.run_for(Duration::from_secs(2));
    segment.crash(0);
    segment.run_for(active_down_interval(253, router(253).interval()));
    assert_eq!(both(&segment), [[1], [1]]);
}

#[test]
fn a_cut_of_one_segment_does_not_pass_a_sync_group_to_and_fro() {
    let mut segment = pairs([[254, 254], [253, 253]]);
    segment.run_for(Duration::from_secs(2));
    let moved = segment.transitions(1).len();
    segment.set_part(1, 1, 1);
    segment.run_for(Duration::from_secs(60));
    assert_eq!(both(&segment), [[0], [0]]);
    assert_eq!(segment.transitions(1).len(), moved, "it never moved");
    assert!(segment.hold(1, 1).is_some(), "and says why");
}

#[test]
fn priorities_that_cross_within_sync_groups_make_no_ping_pong() {
    for priorities in [[[254, 100], [100, 254]], [[254, 200], [253, 253]], [[100, 100], [100, 100]]]
    {
        let mut segment = pairs(priorities);
        segment.run_for(Duration::from_secs(2));
        let holders = both(&segment);
        assert_eq!((holders[0].len(), &holders[0]), (1, &holders[1]), "{priorities:?}");
        let moved = [0, 1].map(|node| segment.transitions(node).len());
        segment.run_for(Duration::from_secs(60));
        assert_eq!(both(&segment), holders);
        assert_eq!([0, 1].map(|node| segment.transitions(node).len()), moved, "{priorities:?}");
    }
}

#[test]
fn a_split_that_heals_leaves_a_sync_group_on_one_host() {
    for loss_permille in [0, 100, 300] {
        let mut segment = pairs([[254, 254], [253, 253]]);
        segment.run_for(Duration::from_secs(2));
        segment.set_group(1, 1);
        segment.run_for(Duration::from_secs(2));
        assert_eq!(both(&segment), [[0, 1], [0, 1]]);
        segment.set_conditions(Conditions { loss_permille, ..Conditions::default() });
        segment.set_group(1, 0);
        segment.run_for(Duration::from_secs(2));
        segment.set_conditions(Conditions::default());
        segment.run_for(Duration::from_secs(2));
        assert_eq!(both(&segment), [[0], [0]], "{loss_permille}");
    }
}
