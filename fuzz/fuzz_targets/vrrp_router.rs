//! A virtual router under any order of events. It never claims an address without permission,
//! balances every addition with a removal, and deals with every deadline it names.

#![no_main]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use vrrp::{
    Action, Advertisement, Event, Interval, Priority, RouterConfig, State, Tracked, Tracker,
    VirtualRouter, Vrid,
};

#[derive(Arbitrary, Debug)]
struct Input {
    priority: u8,
    interval: u16,
    preempt: bool,
    permission: bool,
    preempt_delay: u8,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Startup(u8),
    Shutdown,
    LinkDown,
    Heard {
        source: u8,
        priority: u8,
        interval: u16,
        addresses: u8,
    },
    SetPriority(u8),
    SetPermission(bool),
    SetFault {
        other: bool,
        present: bool,
    },
    Track(i32),
    AddressLost,
    AddressRefused,
    /// Goes to the next deadline.
    Due,
    /// Lets time pass, deadlines or not.
    Pass(u32),
}

fuzz_target!(|input: Input| {
    let config = RouterConfig::new("eth0", 51, vec![[10, 99, 0, 100].into()])
        .and_then(|config| config.with_priority(input.priority.clamp(1, 254)))
        .and_then(|config| {
            config.with_interval(Duration::from_millis(10 * u64::from(input.interval % 4095 + 1)))
        })
        .expect("values are in range")
        .with_preempt(input.preempt)
        .with_permission(input.permission)
        .with_preempt_delay(Duration::from_secs(u64::from(input.preempt_delay) * 3))
        .and_then(|config| config.with_trackers(vec![Tracker::new("file", 1)?]))
        .expect("values are in range");
    let mut router = VirtualRouter::new(config);
    let mut shell = Shell { state: State::Initialize, holds: false };
    let mut now = Instant::now();
    for step in input.steps {
        match step {
            Step::Due => {
                let Some(due) = router.poll_timeout() else { continue };
                now = now.max(due);
                router.handle_timeout(now);
                let next = router.poll_timeout();
                assert!(next.is_none_or(|next| next > now), "a deadline that stays makes us spin");
            }
            Step::Pass(micros) => now += Duration::from_micros(micros.into()),
            other => router.handle(now, event(&other)),
        }
        shell.carry_out(&mut router);
    }
});

/// Does what it is told, and checks that it makes sense.
struct Shell {
    state: State,
    holds: bool,
}

impl Shell {
    fn carry_out(&mut self, router: &mut VirtualRouter) {
        let mut actions = 0;
        while let Some(action) = router.poll_action() {
            actions += 1;
            match action {
                Action::AddAddresses => self.holds = true,
                Action::RemoveAddresses => {
                    assert!(self.holds, "removes what was never added");
                    self.holds = false;
                }
                Action::Consult => panic!("nobody asked for a second opinion"),
                Action::RenewAddresses | Action::Announce => {
                    assert!(self.holds, "speaks for an address it does not hold");
                }
                Action::Report(transition) => {
                    assert_eq!(transition.from, self.state, "no state is skipped in the reports");
                    assert_ne!(transition.from, transition.to);
                    self.state = transition.to;
                }
                Action::Send(advertisement) => {
                    assert!(advertisement.priority < 255, "never the owner");
                    assert_eq!(advertisement.vrid, router.vrid());
                }
            }
        }
        assert!(actions <= 6, "one event causes a handful of actions");
        assert_eq!(self.state, router.state(), "every transition is reported");
        assert_eq!(self.holds, router.state() == State::Active, "only an Active holds addresses");
        assert!(router.state() != State::Active || router.permission());
        assert!(router.state() == State::Initialize || router.faults().is_empty());
        assert!(router.peer().is_none() || router.state() == State::Backup);
        assert!(!router.is_held() || !router.permission());
        assert_eq!(
            router.poll_timeout().is_none(),
            router.state() == State::Initialize || router.is_held()
        );
    }
}

fn event(step: &Step) -> Event {
    let host = |last: u8| IpAddr::from([10, 99, 0, last]);
    match *step {
        Step::Startup(source) => Event::Startup { source: host(source) },
        Step::Shutdown => Event::Shutdown,
        Step::LinkDown => Event::LinkDown,
        Step::Heard { source, priority, interval, addresses } => Event::Advertisement {
            source: host(source),
            advertisement: Advertisement {
                vrid: Vrid::new(51).expect("in range"),
                priority,
                interval: Interval::from_centiseconds(interval % 4095 + 1).expect("in range"),
                addresses: (0..addresses.max(1)).map(|n| host(100_u8.wrapping_add(n))).collect(),
            },
        },
        Step::SetPriority(priority) => {
            Event::SetPriority(Priority::new(priority.clamp(1, 254)).expect("in range"))
        }
        Step::SetPermission(permission) => Event::SetPermission(permission),
        Step::SetFault { other, present } => {
            Event::SetFault { cause: if other { "drained" } else { "isolated" }, present }
        }
        Step::Track(value) => Event::Track { tracker: "file".into(), seen: Tracked::Value(value) },
        Step::AddressLost => Event::AddressLost,
        Step::AddressRefused | Step::Due | Step::Pass(_) => Event::AddressRefused,
    }
}
