//! The rows of RFC 9568 section 6.4, state by state and event by event, and what we add to them.
//!
//! They are run for version 3 over IPv4 and IPv6 and for version 2 (RFC 3768 section 6.4, which
//! differs in the timers), each on its own clock.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use vrrp::{
    Action, Advertisement, Dialect, Event, Interval, Opinion, Priority, RouterConfig, State,
    Tracked, Tracker, VirtualRouter,
};

pub(crate) const OWN_PRIORITY: u8 = 150;

/// What the shell is told to do, short enough for a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Do {
    Send(u8),
    Add,
    Renew,
    Remove,
    Announce,
    Consult,
    Report(State, State),
}
use Do::{Add, Announce, Consult, Remove, Report, Send};
use State::{Active, Backup, Initialize};

/// Which timer must run afterwards, counted from the event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Timer {
    None,
    /// Runs on from where it was started before the event.
    Untouched,
    /// Active_Down_Interval of an interval.
    Down(Interval),
    /// Skew_Time.
    Skew,
    /// Advertisement_Interval.
    Adver,
    /// Two intervals and Skew_Time, to hear who is there.
    Listening,
    /// A minute, to leave the address to others.
    Penalty,
}

/// What happens to the router.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Event(Event),
    /// Its timer fires.
    Timeout,
    /// It was asleep for five intervals, and finds this in its socket.
    Overslept(Option<Event>),
}

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) config: RouterConfig,
    pub(crate) state: State,
    pub(crate) what: What,
    pub(crate) actions: Vec<Do>,
    pub(crate) next: State,
    pub(crate) timer: Timer,
}

/// A version and a family, with hosts to speak.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    is_version_2: bool,
    pub(crate) vip: IpAddr,
    pub(crate) own: IpAddr,
    /// Greater than ours only if octets are compared without sign.
    pub(crate) greater: IpAddr,
    pub(crate) smaller: IpAddr,
    pub(crate) interval: Interval,
    /// Another one than ours, where there can be.
    pub(crate) theirs: Interval,
}

pub(crate) fn setups() -> [Setup; 3] {
    let v4 = |last| IpAddr::V4(Ipv4Addr::new(10, 99, 0, last));
    let v6 = |last| IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last));
    let interval = |centiseconds| Interval::from_centiseconds(centiseconds).unwrap();
    let ipv4 = Setup {
        name: "version 3, ipv4",
        is_version_2: false,
        vip: v4(100),
        own: v4(127),
        greater: v4(128),
        smaller: v4(126),
        interval: interval(10),
        theirs: interval(30),
    };
    let ipv6 = Setup {
        name: "version 3, ipv6",
        vip: v6(100),
        own: v6(0x7fff),
        greater: v6(0x8000),
        smaller: v6(0x7ffe),
        ..ipv4
    };
    let version_2 = Setup {
        name: "version 2",
        is_version_2: true,
        interval: interval(300),
        theirs: interval(300),
        ..ipv4
    };
    [ipv4, ipv6, version_2]
}

impl Setup {
    pub(crate) fn config(&self) -> RouterConfig {
        let config = RouterConfig::new("eth0", 51, vec![self.vip]).unwrap();
        let config = config.with_priority(OWN_PRIORITY).unwrap();
        let config = config.with_interval(self.interval.as_duration()).unwrap();
        if self.is_version_2 {
            return config.with_dialect(Dialect::version_2(None)).unwrap();
        }
        config
    }

    pub(crate) fn heard(&self, priority: u8, source: IpAddr) -> Event {
        let advertisement = Advertisement {
            vrid: self.config().vrid(),
            priority,
            interval: self.theirs,
            addresses: [self.vip].as_slice().into(),
        };
        Event::Advertisement { source, advertisement }
    }

    /// Skew_Time, worked out once more: what is tested must not say what is right.
    fn skew(&self, interval: Interval) -> Duration {
        let whole = if self.is_version_2 { 1_000_000 } else { interval.as_micros() };
        Duration::from_micros(whole * u64::from(256 - u16::from(OWN_PRIORITY)) / 256)
    }

    fn down(&self, interval: Interval) -> Duration {
        3 * interval.as_duration() + self.skew(interval)
    }

    /// A router in `state` whose last timer was started at the returned instant.
    pub(crate) fn router_in(&self, state: State, config: RouterConfig) -> (VirtualRouter, Instant) {
        let mut now = Instant::now();
        let mut router = VirtualRouter::new(config);
        if state != Initialize {
            router.handle(now, Event::Startup { source: self.own });
        }
        drain(&mut router);
        if state == Active {
            now = fire(&mut router).0;
        }
        drain(&mut router);
        (router, now)
    }

    /// Whether the router does what the row says.
    pub(crate) fn check(&self, row: &Row) -> Result<(), String> {
        let (mut router, started) = self.router_in(row.state, row.config.clone());
        let expect = |what: &str, found: String, expected: String| {
            if found == expected {
                return Ok(());
            }
            Err(format!("{}, {}: {what} {found}, expected {expected}", self.name, row.name))
        };
        expect("state before", router.state().to_string(), row.state.to_string())?;
        // Late enough that announcements are not held back, early enough that no timer is due.
        let mut now = started + Duration::from_millis(60);
        let mut actions = Vec::new();
        match &row.what {
            What::Event(event) => router.handle(now, event.clone()),
            What::Overslept(event) => {
                now = started + 5 * self.interval.as_duration();
                if let Some(event) = event {
                    router.handle(now, event.clone());
                }
                router.handle_timeout(now);
            }
            What::Timeout => {
                (now, actions) = fire(&mut router);
            }
        }
        actions.extend(drain(&mut router));
        expect("actions", format!("{actions:?}"), format!("{:?}", row.actions))?;
        expect("state", router.state().to_string(), row.next.to_string())?;
        let timer = match row.timer {
            Timer::None => None,
            Timer::Untouched if row.next == Active => Some(started + self.interval.as_duration()),
            Timer::Untouched => Some(started + self.down(self.interval)),
            Timer::Down(interval) => Some(now + self.down(interval)),
            Timer::Skew => Some(now + self.skew(self.interval)),
            Timer::Adver => Some(now + self.interval.as_duration()),
            Timer::Listening => {
                Some(now + 2 * self.interval.as_duration() + self.skew(self.interval))
            }
            Timer::Penalty => Some(now + Duration::from_secs(60)),
        };
        // An Active also wakes for its leases and announcements; its next advertisement is sent
        // when it is due.
        let due =
            if row.next == Active { Some(fire(&mut router).0) } else { router.active_down_timer() };
        let since = |instant: Option<Instant>| format!("{:?}", instant.map(|it| it - started));
        expect("timer", since(due), since(timer))
    }

    /// Every row: given a state, when something happens, then these actions in this order, this
    /// state and this timer.
    #[rustfmt::skip]
    pub(crate) fn rows(&self) -> Vec<Row> {
        use What::{Event as On, Overslept, Timeout};
        let preempting = self.config();
        let patient = self.config().with_preempt(false);
        let delayed = self.config().with_preempt_delay(Duration::from_secs(5)).unwrap();
        let advised = self.config().with_second_opinion(true);
        let barred = self.config().with_permission(false);
        let tracking = self.config().with_trackers(vec![Tracker::new("web", 0).unwrap()]).unwrap();
        let startup = || On(Event::Startup { source: self.own });
        let heard = |priority, source| On(self.heard(priority, source));
        let asleep = |priority, source| Some(self.heard(priority, source));
        let priority = |value| On(Event::SetPriority(Priority::new(value).unwrap()));
        let fault = || On(Event::SetFault { cause: "isolated", present: true });
        let down = || On(Event::Track { tracker: "web".into(), seen: Tracked::Down });
        let own = Timer::Down(self.interval);
        let theirs = Timer::Down(self.theirs);
        let (greater, smaller) = (self.greater, self.smaller);
        let row = |name, config: &RouterConfig, state, what, actions: &[Do], next, timer| Row {
            name, config: config.clone(), state, what, actions: actions.to_vec(), next, timer,
        };
        let claims = [Send(150), Add, Announce, Report(Backup, Active)];
        let steps_down = [Send(0), Remove, Report(Active, Backup)];
        let gives_way = [Remove, Send(150), Report(Active, Backup)];
        let asserts = [Send(150), Announce];
        vec![
            // 6.4.1 Initialize. Priority 255 cannot be configured, so there is no other start-up.
            row("6.4.1 Initialize: Startup, priority below 255", &preempting, Initialize, startup(),
                &[Report(Initialize, Backup)], Backup, own),
            row("6.4.1 Initialize: Shutdown", &preempting, Initialize, On(Event::Shutdown),
                &[], Initialize, Timer::None),
            row("6.4.1 Initialize: ADVERTISEMENT", &preempting, Initialize, heard(1, smaller),
                &[], Initialize, Timer::None),
            row("6.4.1 Initialize: ADVERTISEMENT, priority zero", &preempting, Initialize, heard(0, smaller),
                &[], Initialize, Timer::None),

            // 6.4.2 Backup.
            row("6.4.2 Backup: Startup (new source address)", &preempting, Backup, startup(),
                &[], Backup, Timer::Untouched),
            row("6.4.2 Backup: Shutdown", &preempting, Backup, On(Event::Shutdown),
                &[Report(Backup, Initialize)], Initialize, Timer::None),
            row("6.4.2 Backup: Active_Down_Timer fires", &preempting, Backup, Timeout,
                &claims, Active, Timer::Adver),
            row("6.4.2 Backup: ADVERTISEMENT, priority zero", &preempting, Backup, heard(0, greater),
                &[], Backup, Timer::Skew),
            row("6.4.2 Backup: ADVERTISEMENT, higher priority", &preempting, Backup, heard(151, smaller),
                &[], Backup, theirs),
            row("6.4.2 Backup: ADVERTISEMENT, owner", &preempting, Backup, heard(255, smaller),
                &[], Backup, theirs),
            row("6.4.2 Backup: ADVERTISEMENT, equal priority, greater address", &preempting, Backup, heard(150, greater),
                &[], Backup, theirs),
            row("6.4.2 Backup: ADVERTISEMENT, equal priority, smaller address", &preempting, Backup, heard(150, smaller),
                &[], Backup, theirs),
            row("6.4.2 Backup: ADVERTISEMENT, lower priority, Preempt_Mode true", &preempting, Backup, heard(149, greater),
                &[], Backup, Timer::Untouched),
            row("6.4.2 Backup: ADVERTISEMENT, lower priority, Preempt_Mode false", &patient, Backup, heard(1, smaller),
                &[], Backup, theirs),
            row("7.1 Backup: own ADVERTISEMENT", &preempting, Backup, heard(200, self.own),
                &[], Backup, Timer::Untouched),

            // 6.4.3 Active.
            row("6.4.3 Active: Startup (new source address)", &preempting, Active, startup(),
                &[], Active, Timer::Untouched),
            row("6.4.3 Active: Shutdown", &preempting, Active, On(Event::Shutdown),
                &[Send(0), Remove, Report(Active, Initialize)], Initialize, Timer::None),
            row("6.4.3 Active: ADVERTISEMENT, priority zero", &preempting, Active, heard(0, greater),
                &asserts, Active, Timer::Adver),
            row("6.4.3 Active: ADVERTISEMENT, higher priority", &preempting, Active, heard(151, smaller),
                &gives_way, Backup, theirs),
            row("6.4.3 Active: ADVERTISEMENT, owner", &patient, Active, heard(255, smaller),
                &gives_way, Backup, theirs),
            row("6.4.3 Active: ADVERTISEMENT, equal priority, greater address", &preempting, Active, heard(150, greater),
                &gives_way, Backup, theirs),
            row("6.4.3 Active: ADVERTISEMENT, equal priority, smaller address", &preempting, Active, heard(150, smaller),
                &asserts, Active, Timer::Untouched),
            row("6.4.3 Active: ADVERTISEMENT, lower priority", &preempting, Active, heard(149, greater),
                &asserts, Active, Timer::Untouched),
            row("6.4.3 Active: ADVERTISEMENT, lower priority, Preempt_Mode false", &patient, Active, heard(149, greater),
                &asserts, Active, Timer::Untouched),
            row("7.1 Active: own ADVERTISEMENT", &preempting, Active, heard(200, self.own),
                &[], Active, Timer::Untouched),
            row("7.1 Active: own ADVERTISEMENT, priority zero", &preempting, Active, heard(0, self.own),
                &[], Active, Timer::Untouched),

            row("6.4.3 Active: Adver_Timer fires", &preempting, Active, Timeout,
                &[Send(150)], Active, Timer::Adver),

            // Ours: the link, the addresses, permission, faults, second opinion, preempt delay.
            row("Initialize: link down", &preempting, Initialize, On(Event::LinkDown),
                &[], Initialize, Timer::None),
            row("Backup: link down", &preempting, Backup, On(Event::LinkDown),
                &[Report(Backup, Initialize)], Initialize, Timer::None),
            row("Active: link down, nothing to say goodbye through", &preempting, Active, On(Event::LinkDown),
                &[Remove, Report(Active, Initialize)], Initialize, Timer::None),
            row("Backup: an address that is not there is lost", &preempting, Backup, On(Event::AddressLost),
                &[], Backup, Timer::Untouched),
            row("Active: an address was lost", &preempting, Active, On(Event::AddressLost),
                &[Add, Announce], Active, Timer::Untouched),
            row("Active: an address was refused", &preempting, Active, On(Event::AddressRefused),
                &steps_down, Backup, Timer::Penalty),
            row("Active: permission withdrawn", &preempting, Active, On(Event::SetPermission(false)),
                &steps_down, Backup, own),
            row("Backup: Active_Down_Timer fires without permission", &barred, Backup, Timeout,
                &[], Backup, Timer::None),
            row("Backup: Active_Down_Timer fires, second opinion", &advised, Backup, Timeout,
                &[Consult], Backup, Timer::None),
            row("Backup: an opinion nobody asked for", &advised, Backup, On(Event::Opinion(Opinion::Claim)),
                &[], Backup, Timer::Untouched),
            row("Active: an opinion nobody asked for", &preempting, Active, On(Event::Opinion(Opinion::Claim)),
                &[], Active, Timer::Untouched),
            row("Initialize: a fault", &preempting, Initialize, fault(),
                &[], Initialize, Timer::None),
            row("Backup: a fault", &preempting, Backup, fault(),
                &[Report(Backup, Initialize)], Initialize, Timer::None),
            row("Active: a fault", &preempting, Active, fault(),
                &[Send(0), Remove, Report(Active, Initialize)], Initialize, Timer::None),
            row("Active: a tracker of weight 0 goes down", &tracking, Active, down(),
                &[Send(0), Remove, Report(Active, Initialize)], Initialize, Timer::None),
            row("Backup: ADVERTISEMENT, lower priority, preempt delay", &delayed, Backup, heard(149, smaller),
                &[], Backup, theirs),
            row("Initialize: an address is lost", &preempting, Initialize, On(Event::AddressLost),
                &[], Initialize, Timer::None),
            row("Initialize: an address was refused", &preempting, Initialize, On(Event::AddressRefused),
                &[], Initialize, Timer::None),
            row("Initialize: an opinion", &preempting, Initialize, On(Event::Opinion(Opinion::Claim)),
                &[], Initialize, Timer::None),
            row("Initialize: permission", &preempting, Initialize, On(Event::SetPermission(false)),
                &[], Initialize, Timer::None),
            row("Initialize: a tracker of weight 0 goes down", &tracking, Initialize, down(),
                &[], Initialize, Timer::None),
            row("Initialize: new priority", &preempting, Initialize, priority(150),
                &[], Initialize, Timer::None),
            row("Backup: an address was refused", &preempting, Backup, On(Event::AddressRefused),
                &[], Backup, Timer::Untouched),
            row("Backup: permission granted before it is needed", &barred, Backup, On(Event::SetPermission(true)),
                &[], Backup, Timer::Untouched),
            row("Backup: a tracker of weight 0 goes down", &tracking, Backup, down(),
                &[Report(Backup, Initialize)], Initialize, Timer::None),
            row("Active: new priority", &preempting, Active, priority(150),
                &[], Active, Timer::Untouched),
            row("Backup: asleep over Active_Down_Timer", &preempting, Backup, Overslept(None),
                &[], Backup, Timer::Listening),
            row("Backup: asleep over Active_Down_Timer, goodbye", &preempting, Backup, Overslept(asleep(0, greater)),
                &[], Backup, Timer::Skew),
            row("Active: asleep, nothing heard", &preempting, Active, Overslept(None),
                &[Send(150), Add, Announce], Active, Timer::Adver),
            row("Active: asleep, lower priority heard", &preempting, Active, Overslept(asleep(149, smaller)),
                &[Send(150), Add, Announce], Active, Timer::Adver),
            row("Active: asleep, nothing heard, Preempt_Mode false", &patient, Active, Overslept(None),
                &[], Active, Timer::Listening),
            row("Active: asleep, lower priority heard, Preempt_Mode false", &patient, Active, Overslept(asleep(149, smaller)),
                &steps_down, Backup, theirs),
            row("Active: asleep, lower priority heard, preempt delay", &delayed, Active, Overslept(asleep(149, smaller)),
                &steps_down, Backup, theirs),
            row("Active: asleep, equal priority heard", &preempting, Active, Overslept(asleep(150, smaller)),
                &steps_down, Backup, theirs),
            row("Active: asleep, higher priority heard", &preempting, Active, Overslept(asleep(151, smaller)),
                &gives_way, Backup, theirs),
            row("Backup: new priority", &preempting, Backup, priority(150),
                &[], Backup, Timer::Untouched),
        ]
    }
}

/// Lets Active_Down_Timer or Adver_Timer fire: when that is, and what is asked for then. A Backup
/// asks for nothing before; leases and announcements of an Active have tables of their own.
pub(crate) fn fire(router: &mut VirtualRouter) -> (Instant, Vec<Do>) {
    let down = router.active_down_timer();
    loop {
        let due = router.poll_timeout().unwrap();
        router.handle_timeout(due);
        let mut actions = drain(router);
        if down.is_some() {
            if down == Some(due) || !actions.is_empty() {
                return (due, actions);
            }
        } else if actions.contains(&Send(OWN_PRIORITY)) {
            actions.retain(|action| !matches!(action, Do::Renew | Announce));
            return (due, actions);
        }
    }
}

pub(crate) fn drain(router: &mut VirtualRouter) -> Vec<Do> {
    std::iter::from_fn(|| router.poll_action())
        .map(|action| match action {
            Action::Send(advertisement) => Send(advertisement.priority),
            Action::AddAddresses => Add,
            Action::RenewAddresses => Do::Renew,
            Action::RemoveAddresses => Remove,
            Action::Announce => Announce,
            Action::Consult => Consult,
            Action::Report(transition) => Report(transition.from, transition.to),
        })
        .collect()
}
