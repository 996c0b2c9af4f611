//! Runs a seeded scenario on a segment in memory and checks after every step what must always hold.
//!
//! Everything that may cause a change is a *disturbance*: what the scenario does, and two
//! advertisements in a row that did not reach somebody (one is made up for by the next). The bounds
//! count from the last of them:
//!
//! - two Actives that can hear each other are one after the next advertisement of the winner;
//! - one of the hosts that could be Active is, after Active_Down_Interval and a time to listen;
//! - nobody changes his state later than that, and then no preempting host has a higher priority
//!   than the Active.
//!
//! Where nothing is lost there is more to ask: an Active that can be heard is not taken to be
//! silent, a goodbye hands over within Skew_Time, and nobody takes back in his sleep what he would
//! not preempt.

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use vrrp::{
    Event, Interval, Priority, Reason, RouterConfig, State, Timing, Transition,
    sim::{Conditions, Note, Segment},
};

const ACTS: u32 = 16;
const FAULT: &str = "scenario";

/// A host of the scenario.
struct Host {
    interval: Interval,
    preempt: bool,
    patience: Duration,
    source: IpAddr,
    part: u32,
    running: bool,
    paused: bool,
    woken: Option<Instant>,
    suspended: Instant,
    /// Who was Active in its place when it woke, an Active that had slept for too long.
    successor: Option<usize>,
    /// When something was done to it.
    touched: Instant,
    /// When it last became Backup.
    backup: Instant,
    announcements: u64,
    /// Since when it has been Active, and when it sent last.
    active: Option<Instant>,
    sent: Option<Instant>,
    farewells: u64,
}

/// For how long what may last, counted from the last disturbance.
struct Bounds {
    /// The longest interval.
    longest: Duration,
    /// No Active: the last advertisement arrives late, the lowest priority waits out its timer, and
    /// may have to listen as it slept.
    vacant: Duration,
    /// Two Actives: one advertisement of the winner may be lost.
    crowded: Duration,
    /// That much longer if one of them slept and listens before it speaks.
    listening: Duration,
    /// Changes of state.
    settled: Duration,
}

impl Bounds {
    fn of(hosts: &[Host], delay: Duration) -> Self {
        let slowest = hosts.iter().map(|host| host.interval).max().expect("there are hosts");
        let interval = slowest.as_duration();
        let timing = Timing::version_3(1, slowest);
        let slack = Duration::from_millis(1);
        let listening = 2 * interval + timing.skew_time();
        let vacant = delay + timing.active_down_interval() + listening + slack;
        let crowded = 2 * interval + delay + slack;
        let patience = hosts.iter().map(|host| host.patience).max().unwrap_or_default();
        let preempting = if patience.is_zero() { patience } else { patience + vacant };
        Self {
            longest: interval,
            vacant,
            crowded,
            listening,
            settled: vacant + listening + 2 * crowded + preempting,
        }
    }
}

/// Two advertisements in a row from one to the other did not arrive.
type Silences = BTreeMap<(usize, usize), u32>;

struct Scenario {
    segment: Segment,
    hosts: Vec<Host>,
    silences: Silences,
    disturbed: Instant,
    delay: Duration,
    bounds: Bounds,
    /// All hosts have the same interval.
    is_even: bool,
    /// Since when the wire loses nothing.
    sound: Option<Instant>,
    /// There had been peace for long when the scenario did something last.
    was_calm: bool,
    /// After a goodbye in this part somebody must be Active by then.
    succession: Option<(u32, Instant)>,
    /// Since when a part has no Active, or several.
    vacant: BTreeMap<u32, Instant>,
    crowded: BTreeMap<u32, Instant>,
    story: String,
    start: Instant,
}

/// Runs the scenario of a seed and returns its story; the error says what was violated, when, and
/// after what.
pub(crate) fn run(seed: u64) -> Result<String, String> {
    let mut scenario = Scenario::new(seed);
    match scenario.play() {
        Ok(()) => Ok(scenario.story),
        Err(violation) => {
            Err(format!("seed {seed}: {violation}\nwhat happened:\n{}", scenario.story))
        }
    }
}

impl Scenario {
    fn new(seed: u64) -> Self {
        let start = Instant::now();
        let mut segment = Segment::new(seed, start);
        segment.take_notes();
        let count = 2 + segment.draw(4);
        let is_v6 = segment.draw(3) == 0;
        let unit = [1, 10, 10, 30][draw(&mut segment, 4)];
        let mixed = segment.draw(3) == 0;
        let equal = segment.draw(4) == 0;
        let delay =
            Duration::from_micros(u64::from(segment.draw(4)) * u64::from(unit) * 10_000 / 10);
        let mut hosts = Vec::new();
        for number in 0..count {
            let factor = if mixed { [1, 2, 3][draw(&mut segment, 3)] } else { 1 };
            let interval = Interval::from_centiseconds(unit * factor).expect("in range");
            let high = if equal { 200 } else { 254 - number };
            let low = 1 + segment.draw(100);
            let priority = if segment.draw(3) == 0 && !equal { low } else { high };
            let preempt = segment.draw(4) > 0;
            let patience =
                if segment.draw(8) == 0 { 10 * interval.as_duration() } else { Duration::ZERO };
            let last = u8::try_from(number + 126).expect("few hosts");
            let (source, address): (IpAddr, IpAddr) = if is_v6 {
                let host = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last.into());
                (host.into(), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, 0).into())
            } else {
                (Ipv4Addr::new(10, 99, 0, last).into(), Ipv4Addr::new(10, 99, 0, 100).into())
            };
            let config = RouterConfig::new("eth0", 51, vec![address])
                .and_then(|config| config.with_priority(u8::try_from(priority).unwrap_or(1)))
                .and_then(|config| config.with_interval(interval.as_duration()))
                .and_then(|config| config.with_preempt(preempt).with_preempt_delay(patience))
                .expect("in range");
            segment.add(config, source);
            hosts.push(Host {
                interval,
                preempt,
                patience,
                source,
                part: 0,
                running: false,
                paused: false,
                woken: None,
                suspended: start,
                successor: None,
                touched: start,
                backup: start,
                announcements: 0,
                active: None,
                sent: None,
                farewells: 0,
            });
        }
        let bounds = Bounds::of(&hosts, delay);
        let mut scenario = Self {
            segment,
            hosts,
            silences: Silences::new(),
            disturbed: start,
            delay,
            bounds,
            is_even: !mixed,
            sound: None,
            was_calm: false,
            succession: None,
            vacant: BTreeMap::new(),
            crowded: BTreeMap::new(),
            story: String::new(),
            start,
        };
        scenario.set_conditions(0, 0);
        scenario
    }

    fn play(&mut self) -> Result<(), String> {
        for host in 0..self.hosts.len() {
            self.start(host);
        }
        self.check()?;
        self.pass(self.bounds.settled)?;
        for _ in 0..ACTS {
            self.act();
            self.check()?;
            let longest = u32::try_from(self.bounds.settled.as_millis()).unwrap_or(u32::MAX);
            // Often before things have settled, sometimes long after.
            let scale = [1, 4, 8][draw(&mut self.segment, 3)];
            let span = self.segment.draw(longest * scale / 4);
            self.pass(Duration::from_millis(span.into()))?;
        }
        self.heal();
        self.check()?;
        self.pass(2 * self.bounds.settled)?;
        // So few losses that no two follow each other: nothing may move.
        self.set_conditions(20, 100);
        self.pass(4 * self.bounds.settled)
    }

    /// Does one thing to the hosts or to the wire.
    fn act(&mut self) {
        let host = draw(&mut self.segment, self.hosts.len());
        let Host { running, paused, .. } = self.hosts[host];
        match self.segment.draw(14) {
            0 | 1 if running => self.crash(host),
            2 | 3 if running && !paused => self.stop(host),
            0..=3 if !running => self.start(host),
            4 | 5 if running && !paused => {
                self.tell(host, "suspended");
                self.segment.pause(host);
                self.hosts[host].suspended = self.segment.now();
                self.hosts[host].paused = true;
            }
            4..=6 if paused => self.wake(host),
            7 => {
                let part = self.segment.draw(2);
                self.tell(host, if part == 0 { "in part 0" } else { "in part 1" });
                self.segment.set_group(host, part);
                self.hosts[host].part = part;
            }
            8 if running && !paused => {
                let priority = u8::try_from(1 + self.segment.draw(254)).unwrap_or(1);
                self.tell(host, "new priority");
                let _ = writeln!(self.story, "    {priority}");
                let priority = Priority::new(priority).expect("in range");
                self.segment.feed(host, Event::SetPriority(priority));
            }
            9 | 10 if running && !paused => {
                let present = self.segment.is_well(host);
                self.tell(host, if present { "in fault" } else { "without fault" });
                self.segment.feed(host, Event::SetFault { cause: FAULT, present });
            }
            11 => self.heal(),
            _ => {
                let loss = [0, 0, 50, 300, 1_000][draw(&mut self.segment, 5)];
                let duplicates = [0, 300][draw(&mut self.segment, 2)];
                self.set_conditions(loss, duplicates);
            }
        }
    }

    /// One segment, a sound wire, everybody awake.
    fn heal(&mut self) {
        self.set_conditions(0, 0);
        for host in 0..self.hosts.len() {
            self.segment.set_group(host, 0);
            self.hosts[host].part = 0;
            if self.hosts[host].paused {
                self.wake(host);
            }
        }
    }

    fn set_conditions(&mut self, loss_permille: u32, duplicate_permille: u32) {
        let delay = self.delay;
        self.was_calm = self.is_calm();
        self.disturb();
        self.sound = (loss_permille == 0).then_some(self.segment.now());
        let at = self.segment.now() - self.start;
        let _ = writeln!(
            self.story,
            "  {at:?}: loses {loss_permille}, doubles {duplicate_permille} of 1000"
        );
        self.segment.set_conditions(Conditions { loss_permille, duplicate_permille, delay });
    }

    fn start(&mut self, host: usize) {
        self.tell(host, "started");
        self.segment.start(host);
        self.hosts[host].running = true;
    }

    fn stop(&mut self, host: usize) {
        self.tell(host, "stopped");
        self.segment.stop(host);
        self.hosts[host].running = false;
    }

    fn crash(&mut self, host: usize) {
        self.tell(host, "crashed");
        self.segment.crash(host);
        self.hosts[host].running = false;
        self.hosts[host].paused = false;
        self.hosts[host].active = None;
    }

    fn wake(&mut self, host: usize) {
        let is_deaf = self.segment.draw(2) == 0;
        self.tell(host, if is_deaf { "woken, its socket empty" } else { "woken" });
        self.hosts[host].paused = false;
        self.hosts[host].woken = Some(self.segment.now());
        let part = self.hosts[host].part;
        let in_its_place = |other: &usize| {
            *other != host && self.is_able(*other, part) && self.hosts[*other].active.is_some()
        };
        let slept = self.segment.now() - self.hosts[host].suspended;
        let overslept = self.hosts[host].active.is_some()
            && slept > 4 * self.hosts[host].interval.as_duration();
        let successor = (0..self.hosts.len()).find(in_its_place).filter(|_| overslept);
        self.hosts[host].successor = successor;
        if is_deaf {
            self.segment.resume_deaf(host);
        } else {
            self.segment.resume(host);
        }
    }

    fn tell(&mut self, host: usize, what: &str) {
        self.was_calm = self.is_calm();
        self.disturb();
        self.hosts[host].touched = self.segment.now();
        let at = self.segment.now() - self.start;
        let _ = writeln!(self.story, "  {at:?}: host {host} {what}");
    }

    fn is_calm(&self) -> bool {
        self.segment.now() - self.disturbed > self.bounds.settled
    }

    fn disturb(&mut self) {
        self.disturbed = self.segment.now();
        self.succession = None;
    }

    fn pass(&mut self, span: Duration) -> Result<(), String> {
        let until = self.segment.now() + span;
        loop {
            let more = self.segment.step(until);
            self.check()?;
            if !more {
                return Ok(());
            }
        }
    }

    fn check(&mut self) -> Result<(), String> {
        self.read_notes()?;
        let now = self.segment.now();
        for host in 0..self.hosts.len() {
            self.check_host(now, host)?;
        }
        for part in 0..2 {
            self.check_part(now, part)?;
        }
        Ok(())
    }

    fn read_notes(&mut self) -> Result<(), String> {
        let now = self.segment.now();
        for note in self.segment.notes() {
            match note {
                Note::Sent { host, priority } => {
                    self.hosts[host].sent = Some(now);
                    self.hosts[host].farewells += u64::from(priority == 0);
                    if priority == 0
                        && self.was_calm
                        && self.delay.is_zero()
                        && self.sound.is_some()
                    {
                        let by = now + self.bounds.longest + Duration::from_millis(1);
                        self.succession = Some((self.hosts[host].part, by));
                    }
                }
                Note::Arrived { from, to } => drop(self.silences.remove(&(from, to))),
                Note::Lost { from, to } => {
                    let missed = self.silences.entry((from, to)).or_default();
                    *missed += 1;
                    if *missed >= 2 {
                        self.disturb();
                    }
                }
                Note::Changed { host, transition } => self.check_change(now, host, &transition)?,
            }
        }
        Ok(())
    }

    fn check_change(
        &mut self,
        now: Instant,
        host: usize,
        transition: &Transition,
    ) -> Result<(), String> {
        let at = now - self.start;
        let Transition { from, to, reason } = transition;
        let _ = writeln!(self.story, "  {at:?}: host {host} {from} -> {to}: {reason}");
        let quiet = now - self.disturbed;
        if quiet > self.bounds.settled {
            return Err(format!("host {host} moves after {quiet:?} without a cause"));
        }
        let own = (self.segment.priority(host), self.hosts[host].source);
        if let Reason::BetterAdvertisement { source, priority } = *reason
            && (priority, source) <= own
        {
            return Err(format!("host {host} {own:?} gives way to {priority} {source}"));
        }
        if let Reason::Preempting { priority, .. } = *reason
            && priority >= own.0
        {
            return Err(format!("host {host} {own:?} takes over from priority {priority}"));
        }
        if matches!(reason, Reason::Preempting { .. }) {
            let Host { preempt, patience, backup, .. } = self.hosts[host];
            if !preempt || now < backup + patience {
                return Err(format!("host {host} preempts after {:?}", now - backup));
            }
        }
        if *reason == Reason::ActiveSilent
            && let Some(heard) = self.living_active(now, host)
        {
            return Err(format!("host {host} takes host {heard} to be silent"));
        }
        if let Reason::BetterAdvertisement { source, .. } = *reason {
            self.check_return(now, host, source)?;
        }
        let announcements = self.segment.announcements(host);
        if *to == State::Active && announcements == self.hosts[host].announcements {
            return Err(format!("host {host} does not announce itself"));
        }
        self.hosts[host].announcements = announcements;
        if *to == State::Backup {
            self.hosts[host].backup = now;
        }
        let farewells = std::mem::take(&mut self.hosts[host].farewells);
        let of_own_accord = !matches!(reason, Reason::BetterAdvertisement { .. });
        if *from == State::Active && of_own_accord && farewells == 0 {
            return Err(format!("host {host} leaves without a goodbye"));
        }
        self.hosts[host].active = (*to == State::Active).then_some(now);
        Ok(())
    }

    /// An Active that `host` would not preempt, and must have heard by now.
    fn living_active(&self, now: Instant, host: usize) -> Option<usize> {
        let Host { part, preempt, .. } = self.hosts[host];
        let own = self.segment.priority(host);
        (0..self.hosts.len()).find(|other| {
            let Host { active, touched, interval, .. } = self.hosts[*other];
            let (Some(active), Some(sound)) = (active, self.sound) else { return false };
            // Whether it slept does not matter, only where it was.
            let here = match self.hosts[host].woken {
                Some(woken) if woken == self.hosts[host].touched => sound,
                _ => self.hosts[host].touched,
            };
            let audible = active.max(touched).max(sound).max(here);
            *other != host
                && self.is_even
                && self.is_able(*other, part)
                && (!preempt || self.segment.priority(*other) >= own)
                // It may have had to listen itself before it spoke.
                && now > audible + 3 * interval.as_duration() + self.delay
        })
    }

    /// `host` gives way to `source`: not if that one slept, found it Active in its place, and does
    /// not preempt at once.
    fn check_return(&self, now: Instant, host: usize, source: IpAddr) -> Result<(), String> {
        let is_source = |other: &&Host| other.source == source;
        let Some(other) = self.hosts.iter().find(is_source) else { return Ok(()) };
        let Some(woken) = other.woken else { return Ok(()) };
        let is_undisturbed = self.disturbed == woken && self.sound.is_some_and(|it| it < woken);
        let preempts = other.preempt && now >= woken + other.patience;
        let was_there = self.hosts[host].active.is_some_and(|since| since < woken);
        let is_recent = now < woken + self.bounds.settled;
        if other.successor == Some(host)
            && self.is_even
            && is_undisturbed
            && was_there
            && is_recent
            && !preempts
            && now > woken
        {
            return Err(format!("{source} takes its place back from host {host} after sleeping"));
        }
        Ok(())
    }

    fn is_able(&self, number: usize, part: u32) -> bool {
        let host = &self.hosts[number];
        host.running && !host.paused && host.part == part && self.segment.is_well(number)
    }

    /// What every host that is awake owes its neighbours.
    fn check_host(&self, now: Instant, number: usize) -> Result<(), String> {
        let host = &self.hosts[number];
        if !host.running || host.paused {
            return Ok(());
        }
        let holds = self.segment.holders().contains(&number);
        let Some(active) = host.active else {
            return if holds {
                Err(format!("host {number} holds on to the addresses"))
            } else {
                Ok(())
            };
        };
        let timing = Timing::version_3(1, host.interval);
        let awake = host.woken.map_or(active, |woken| woken.max(active));
        let listening = 2 * host.interval.as_duration() + timing.skew_time();
        if !holds && now > awake + listening {
            return Err(format!("host {number} is active without addresses"));
        }
        let sent = host.sent.map_or(awake, |sent| sent.max(awake));
        let allowance = if sent == awake { listening } else { host.interval.as_duration() };
        if now > sent + allowance + Duration::from_micros(1) {
            return Err(format!("host {number} has been silent for {:?}", now - sent));
        }
        Ok(())
    }

    fn check_part(&mut self, now: Instant, part: u32) -> Result<(), String> {
        let able: Vec<_> =
            (0..self.hosts.len()).filter(|number| self.is_able(*number, part)).collect();
        let is_active = |host: &&usize| self.segment.state(**host) == State::Active;
        let actives: Vec<_> = able.iter().filter(is_active).copied().collect();
        let is_vacant = actives.is_empty() && !able.is_empty();
        let slept = |host: &usize| {
            self.hosts[*host].woken.is_some_and(|woken| now < woken + self.bounds.settled)
        };
        let slack = if actives.iter().any(slept) { self.bounds.listening } else { Duration::ZERO };
        let crowded = self.bounds.crowded + slack;
        for (book, applies, bound, what) in [
            (&mut self.vacant, is_vacant, self.bounds.vacant, "nobody is active"),
            (&mut self.crowded, actives.len() > 1, crowded, "several are active"),
        ] {
            if !applies {
                book.remove(&part);
                continue;
            }
            let since = *book.entry(part).or_insert(now);
            let counted = now - since.max(self.disturbed);
            if counted > bound {
                return Err(format!(
                    "{what} in part {part} for {counted:?}, {actives:?} of {able:?}"
                ));
            }
        }
        if let Some((place, by)) = self.succession
            && place == part
            && is_vacant
            && now > by
        {
            return Err(format!("a goodbye in part {part} is not followed within the skew"));
        }
        let quiet = now - self.disturbed;
        if let [active] = actives[..]
            && quiet > self.bounds.settled
        {
            let own = self.segment.priority(active);
            let better =
                |host: &&usize| self.hosts[**host].preempt && self.segment.priority(**host) > own;
            if let Some(better) = able.iter().find(better) {
                return Err(format!("host {active} keeps host {better} from being active"));
            }
        }
        Ok(())
    }
}

fn draw(segment: &mut Segment, bound: usize) -> usize {
    segment.draw(u32::try_from(bound).unwrap_or(1)) as usize
}
