//! Segments in memory: hosts with virtual routers, a virtual clock, and wires that lose, duplicate,
//! delay and cut. The same seed gives the same run, bit for bit.
//!
//! Advertisements cross the wire as bytes, so the codec takes part. Addresses are a lease per
//! virtual router; what ARP does with them is for the tests in network namespaces. The first
//! virtual router of every host lives on wire 0, the second on wire 1, and so on; hosts are known
//! by number.

mod host;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use self::host::{Host, Seat};
use crate::{
    checksum::ChecksumForm,
    config::RouterConfig,
    event::{Action, Event, Opinion, State, Transition},
    group::{Group, ROUNDS, orders},
    packet::{Advertisement, Authentication, Datagram, Format, GROUP, GROUP_V6, TTL, Version},
};

/// For how long the kernel keeps an address that is not renewed.
pub const LEASE: Duration = Duration::from_secs(2);

/// How the wires treat frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions {
    /// Of a thousand deliveries, how many are lost.
    pub loss_permille: u32,
    /// Of a thousand deliveries, how many arrive twice.
    pub duplicate_permille: u32,
    /// Longest delay; each delivery draws its own, so frames overtake each other.
    pub delay: Duration,
}

/// Something that happened, for whoever checks it.
#[derive(Clone, Debug)]
pub enum Note {
    /// A host sent an advertisement.
    Sent {
        /// Who.
        host: usize,
        /// Of which priority.
        priority: u8,
    },
    /// An advertisement reached a host, or waits in its socket.
    Arrived {
        /// Who sent it.
        from: usize,
        /// Who receives it.
        to: usize,
    },
    /// An advertisement did not reach a host of the same part of the segment.
    Lost {
        /// Who sent it.
        from: usize,
        /// Who would have received it.
        to: usize,
    },
    /// A router changed its state.
    Changed {
        /// Whose.
        host: usize,
        /// How and why.
        transition: Transition,
    },
}

#[derive(Clone, Debug)]
struct Frame {
    from: usize,
    wire: usize,
    source: IpAddr,
    message: Arc<[u8]>,
}

/// All wires, all hosts, and their clock.
#[derive(Debug)]
pub struct Segment {
    now: Instant,
    random: u64,
    conditions: Conditions,
    hosts: Vec<Host>,
    /// Frames on the wires by arrival; the counter keeps equal arrivals in order of sending.
    flying: BTreeMap<(Instant, u64), (usize, Frame)>,
    sent: u64,
    notes: Option<Vec<Note>>,
}

impl Segment {
    /// An empty segment. `start` only anchors the virtual clock.
    pub fn new(seed: u64, start: Instant) -> Self {
        Self {
            now: start,
            random: seed,
            conditions: Conditions::default(),
            hosts: Vec::new(),
            flying: BTreeMap::new(),
            sent: 0,
            notes: None,
        }
    }

    /// Adds a host that is switched off, with a virtual router on wire 0, and returns its number.
    pub fn add(&mut self, config: RouterConfig, source: IpAddr) -> usize {
        self.hosts.push(Host::default());
        let host = self.hosts.len() - 1;
        self.add_router(host, config, source);
        host
    }

    /// Adds a virtual router on the next wire.
    pub fn add_router(&mut self, host: usize, config: RouterConfig, source: IpAddr) {
        let host = &mut self.hosts[host];
        host.seats.push(Seat::new(config, source));
        host.groups = Group::all(host.seats.iter().map(|seat| seat.router.sync_group()));
    }

    /// Takes notes from now on.
    pub fn take_notes(&mut self) {
        self.notes = Some(Vec::new());
    }

    /// The notes since the last call.
    pub fn notes(&mut self) -> Vec<Note> {
        self.notes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A number below `bound`, from the seeded sequence.
    pub fn draw(&mut self, bound: u32) -> u32 {
        // SplitMix64; its upper half is good enough for a simulation.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let scaled = ((mixed >> 32) * u64::from(bound)) >> 32;
        u32::try_from(scaled).unwrap_or(0)
    }

    /// Changes the treatment of frames sent from now on.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Moves a host to a part of all segments; frames reach only hosts of the same part.
    pub fn set_group(&mut self, host: usize, part: u32) {
        for seat in &mut self.hosts[host].seats {
            seat.part = part;
        }
    }

    /// Moves a host to a part of one segment.
    pub fn set_part(&mut self, host: usize, wire: usize, part: u32) {
        self.hosts[host].seats[wire].part = part;
    }

    /// Switches a host on.
    pub fn start(&mut self, host: usize) {
        self.hosts[host].running = true;
        for wire in 0..self.hosts[host].seats.len() {
            let source = self.hosts[host].seats[wire].source;
            self.feed_wire(host, wire, Event::Startup { source });
        }
    }

    /// Stops a host in order.
    pub fn stop(&mut self, host: usize) {
        self.feed(host, Event::Shutdown);
        self.hosts[host].running = false;
    }

    /// Cuts the power of a host: it forgets everything.
    pub fn crash(&mut self, host: usize) {
        self.hosts[host].crash();
    }

    /// Suspends a host. Its addresses stay for the neighbours until their lease ends.
    pub fn pause(&mut self, host: usize) {
        self.hosts[host].paused = true;
    }

    /// Lets a suspended host go on: first what its socket holds, then its timers.
    pub fn resume(&mut self, host: usize) {
        self.hosts[host].paused = false;
        for frame in std::mem::take(&mut self.hosts[host].inbox) {
            self.receive(host, &frame);
        }
    }

    /// Lets a suspended host go on whose socket lost everything that arrived.
    pub fn resume_deaf(&mut self, host: usize) {
        self.hosts[host].inbox.clear();
        self.resume(host);
    }

    /// Feeds an event such as a change of priority to all virtual routers of a host.
    pub fn feed(&mut self, host: usize, event: Event) {
        for wire in 0..self.hosts[host].seats.len() {
            self.feed_wire(host, wire, event.clone());
        }
    }

    /// Feeds an event to one virtual router of a host.
    pub fn feed_wire(&mut self, host: usize, wire: usize, event: Event) {
        self.hosts[host].seats[wire].router.handle(self.now, event);
        self.carry_out(host, wire);
        self.coordinate(host);
    }

    /// Goes to the next thing that happens, or to `until` if nothing happens before. False: it is
    /// `until` now.
    pub fn step(&mut self, until: Instant) -> bool {
        let arrival = self.flying.first_key_value().map(|(key, _)| key.0);
        let timeouts = self.hosts.iter().enumerate().filter(|(_, host)| host.is_awake());
        let timeout = timeouts.filter_map(|(number, host)| Some((host.due()?, number))).min();
        match (arrival, timeout) {
            // Arrivals before timers of the same instant, as the speaker drains its socket first.
            (Some(at), timeout)
                if at <= until && timeout.is_none_or(|((deadline, _), _)| at <= deadline) =>
            {
                self.now = self.now.max(at);
                if let Some((_, (host, frame))) = self.flying.pop_first() {
                    self.receive(host, &frame);
                }
                true
            }
            (_, Some(((deadline, wire), host))) if deadline <= until => {
                self.now = self.now.max(deadline);
                self.hosts[host].seats[wire].router.handle_timeout(self.now);
                self.carry_out(host, wire);
                self.coordinate(host);
                true
            }
            _ => {
                self.now = until;
                false
            }
        }
    }

    /// Lets `duration` of virtual time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.step(until) {}
    }

    /// The hosts that hold the addresses of wire 0.
    pub fn holders(&self) -> Vec<usize> {
        self.holders_on(0)
    }

    /// The hosts that hold the addresses of a wire, suspended ones with a running lease included.
    pub fn holders_on(&self, wire: usize) -> Vec<usize> {
        let holds = |host: &usize| self.holds(*host, wire);
        (0..self.hosts.len()).filter(holds).collect()
    }

    fn holds(&self, host: usize, wire: usize) -> bool {
        let host = &self.hosts[host];
        host.running && host.seats[wire].lease.is_some_and(|end| end > self.now)
    }

    /// The hosts that are switched on and not suspended.
    pub fn running(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].is_awake()).collect()
    }

    /// The state of a host on wire 0.
    pub fn state(&self, host: usize) -> State {
        self.state_on(host, 0)
    }

    /// The state of a host on a wire.
    pub fn state_on(&self, host: usize, wire: usize) -> State {
        self.hosts[host].seats[wire].router.state()
    }

    /// Why a host on a wire does not claim what it would.
    pub fn hold(&self, host: usize, wire: usize) -> Option<&'static str> {
        self.hosts[host].seats[wire].router.hold()
    }

    /// The priority in force of a host on wire 0.
    pub fn priority(&self, host: usize) -> u8 {
        self.hosts[host].seats[0].router.priority().as_u8()
    }

    /// Whether a host on wire 0 has no fault.
    pub fn is_well(&self, host: usize) -> bool {
        self.hosts[host].seats[0].router.faults().is_empty()
    }

    /// What a host reported on wire 0, oldest first.
    pub fn transitions(&self, host: usize) -> &[(Instant, Transition)] {
        &self.hosts[host].seats[0].transitions
    }

    /// How often a host announced its addresses on wire 0.
    pub fn announcements(&self, host: usize) -> u64 {
        self.hosts[host].seats[0].announcements
    }

    fn note(&mut self, note: impl FnOnce() -> Note) {
        if let Some(notes) = &mut self.notes {
            notes.push(note());
        }
    }

    fn receive(&mut self, host: usize, frame: &Frame) {
        let receiver = &mut self.hosts[host];
        if !receiver.running {
            return;
        }
        let (from, to) = (frame.from, host);
        if receiver.paused {
            receiver.inbox.push(frame.clone());
            return;
        }
        let datagram = Datagram {
            source: frame.source,
            destination: group_of(frame.source),
            ttl: TTL,
            message: &frame.message,
        };
        let Ok((advertisement, _)) = Advertisement::parse(&datagram) else { return };
        if advertisement.vrid == receiver.seats[frame.wire].router.vrid() {
            self.note(|| Note::Arrived { from, to });
            self.feed_wire(
                host,
                frame.wire,
                Event::Advertisement { source: frame.source, advertisement },
            );
        }
    }

    fn coordinate(&mut self, host: usize) {
        for group in self.hosts[host].groups.clone() {
            for _ in 0..ROUNDS {
                let seats = &self.hosts[host].seats;
                let member = |wire: &usize| seats[*wire].router.member(self.now);
                let members: Vec<_> = group.members().iter().map(member).collect();
                let orders = orders(&members);
                if orders.is_empty() {
                    break;
                }
                for (index, order) in orders {
                    let wire = group.members()[index];
                    self.hosts[host].seats[wire].router.handle(self.now, Event::Group(order));
                    self.carry_out(host, wire);
                }
            }
        }
    }

    fn carry_out(&mut self, host: usize, wire: usize) {
        while let Some(action) = self.hosts[host].seats[wire].router.poll_action() {
            let now = self.now;
            let seat = &mut self.hosts[host].seats[wire];
            match action {
                Action::Send(advertisement) => self.send(host, wire, &advertisement),
                Action::AddAddresses | Action::RenewAddresses => seat.lease = Some(now + LEASE),
                Action::RemoveAddresses => seat.lease = None,
                Action::Consult => seat.router.handle(now, Event::Opinion(Opinion::Claim)),
                Action::Announce => seat.announcements += 1,
                Action::Report(transition) => {
                    seat.transitions.push((now, transition.clone()));
                    self.note(|| Note::Changed { host, transition });
                }
            }
        }
    }

    fn send(&mut self, from: usize, wire: usize, advertisement: &Advertisement) {
        let (source, part) = {
            let seat = &self.hosts[from].seats[wire];
            (seat.source, seat.part)
        };
        let priority = advertisement.priority;
        self.note(|| Note::Sent { host: from, priority });
        let format = match self.hosts[from].seats[wire].version() {
            Version::V2 => Format::V2(Authentication::None),
            Version::V3 => Format::V3(ChecksumForm::PseudoHeader),
        };
        let message = advertisement.emit(source, group_of(source), format).into();
        let frame = Frame { from, wire, source, message };
        for to in 0..self.hosts.len() {
            let reaches =
                |seat: &Seat| seat.part == part && seat.source.is_ipv4() == source.is_ipv4();
            if to == from || !self.hosts[to].seats.get(wire).is_some_and(reaches) {
                continue;
            }
            if self.draw(1_000) < self.conditions.loss_permille {
                self.note(|| Note::Lost { from, to });
                continue;
            }
            let copies = 1 + u32::from(self.draw(1_000) < self.conditions.duplicate_permille);
            for _ in 0..copies {
                let longest = u32::try_from(self.conditions.delay.as_micros()).unwrap_or(u32::MAX);
                let delay = Duration::from_micros(u64::from(self.draw(longest.max(1))));
                self.sent += 1;
                self.flying.insert((self.now + delay, self.sent), (to, frame.clone()));
            }
        }
    }
}

fn group_of(source: IpAddr) -> IpAddr {
    if source.is_ipv4() { GROUP } else { GROUP_V6 }
}
