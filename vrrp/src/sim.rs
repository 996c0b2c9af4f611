//! A segment in memory: virtual routers, a virtual clock, and a wire that loses, duplicates,
//! delays and cuts. The same seed gives the same run.
//!
//! Advertisements cross the wire as bytes, so the codec takes part. Addresses are a flag per node;
//! what ARP does with them is for the tests in network namespaces.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    checksum::ChecksumForm,
    config::RouterConfig,
    event::{Action, Event, Opinion, State, Transition},
    packet::{Advertisement, Datagram, Format, GROUP, TTL},
    router::VirtualRouter,
};

/// How the wire treats frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions {
    /// Of a thousand deliveries, how many are lost.
    pub loss_permille: u32,
    /// Of a thousand deliveries, how many arrive twice.
    pub duplicate_permille: u32,
    /// Longest delay; each delivery draws its own, so frames overtake each other.
    pub delay: Duration,
}

/// A host on the segment.
#[derive(Debug)]
struct Node {
    router: VirtualRouter,
    source: IpAddr,
    group: u32,
    running: bool,
    paused: bool,
    holds_addresses: bool,
    announcements: u64,
    /// What arrives while paused, as in a socket buffer.
    inbox: Vec<Frame>,
    transitions: Vec<(Instant, Transition)>,
}

#[derive(Clone, Debug)]
struct Frame {
    source: IpAddr,
    message: Vec<u8>,
}

/// The segment and its clock.
#[derive(Debug)]
pub struct Segment {
    now: Instant,
    random: u64,
    conditions: Conditions,
    nodes: Vec<Node>,
    /// Frames on the wire by arrival; the counter keeps equal arrivals in order of sending.
    wire: BTreeMap<(Instant, u64), (usize, Frame)>,
    sent: u64,
}

impl Segment {
    /// An empty segment. `start` only anchors the virtual clock.
    pub fn new(seed: u64, start: Instant) -> Self {
        Self {
            now: start,
            random: seed,
            conditions: Conditions::default(),
            nodes: Vec::new(),
            wire: BTreeMap::new(),
            sent: 0,
        }
    }

    /// Adds a host that is switched off and returns its number.
    pub fn add(&mut self, config: RouterConfig, source: IpAddr) -> usize {
        self.nodes.push(Node {
            router: VirtualRouter::new(config),
            source,
            group: 0,
            running: false,
            paused: false,
            holds_addresses: false,
            announcements: 0,
            inbox: Vec::new(),
            transitions: Vec::new(),
        });
        self.nodes.len() - 1
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

    /// Moves a host to a part of the segment; frames reach only hosts of the same part.
    pub fn set_group(&mut self, node: usize, group: u32) {
        self.nodes[node].group = group;
    }

    /// Switches a host on.
    pub fn start(&mut self, node: usize) {
        let source = self.nodes[node].source;
        self.nodes[node].running = true;
        self.feed(node, Event::Startup { source });
    }

    /// Stops a host in order.
    pub fn stop(&mut self, node: usize) {
        self.feed(node, Event::Shutdown);
        self.nodes[node].running = false;
    }

    /// Cuts the power of a host.
    pub fn crash(&mut self, node: usize) {
        let host = &mut self.nodes[node];
        host.router.handle(self.now, Event::LinkDown);
        while host.router.poll_action().is_some() {}
        host.running = false;
        host.holds_addresses = false;
        host.inbox.clear();
    }

    /// Suspends a host. Its addresses stay for the neighbours, but the lease of the kernel ends.
    pub fn pause(&mut self, node: usize) {
        self.nodes[node].paused = true;
        self.nodes[node].holds_addresses = false;
    }

    /// Lets a suspended host go on: first what its socket holds, then its timers.
    pub fn resume(&mut self, node: usize) {
        self.nodes[node].paused = false;
        for frame in std::mem::take(&mut self.nodes[node].inbox) {
            self.receive(node, &frame);
        }
    }

    /// Feeds an event such as a change of priority.
    pub fn feed(&mut self, node: usize, event: Event) {
        self.nodes[node].router.handle(self.now, event);
        self.carry_out(node);
    }

    /// Goes to the next thing that happens, or to `until` if nothing happens before. False: it is
    /// `until` now.
    pub fn step(&mut self, until: Instant) -> bool {
        let arrival = self.wire.first_key_value().map(|(key, _)| key.0);
        let timeout = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].running && !self.nodes[*node].paused)
            .filter_map(|node| Some((self.nodes[node].router.poll_timeout()?, node)))
            .min();
        match (arrival, timeout) {
            // Arrivals before timers of the same instant, as the speaker drains its socket first.
            (Some(at), timeout)
                if at <= until && timeout.is_none_or(|(deadline, _)| at <= deadline) =>
            {
                self.now = self.now.max(at);
                if let Some((_, (node, frame))) = self.wire.pop_first() {
                    self.receive(node, &frame);
                }
                true
            }
            (_, Some((deadline, node))) if deadline <= until => {
                self.now = self.now.max(deadline);
                self.nodes[node].router.handle_timeout(self.now);
                self.carry_out(node);
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

    /// The hosts that hold the addresses.
    pub fn holders(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].holds_addresses).collect()
    }

    /// The hosts that are switched on and not suspended.
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|node| self.nodes[*node].running && !self.nodes[*node].paused)
            .collect()
    }

    /// The state of a host.
    pub fn state(&self, node: usize) -> State {
        self.nodes[node].router.state()
    }

    /// What a host reported, oldest first.
    pub fn transitions(&self, node: usize) -> &[(Instant, Transition)] {
        &self.nodes[node].transitions
    }

    /// How often a host announced its addresses.
    pub fn announcements(&self, node: usize) -> u64 {
        self.nodes[node].announcements
    }

    fn receive(&mut self, node: usize, frame: &Frame) {
        let host = &mut self.nodes[node];
        if !host.running {
            return;
        }
        if host.paused {
            host.inbox.push(frame.clone());
            return;
        }
        let datagram = Datagram {
            source: frame.source,
            destination: GROUP,
            ttl: TTL,
            message: &frame.message,
        };
        let Ok((advertisement, _)) = Advertisement::parse(&datagram) else { return };
        if advertisement.vrid == host.router.vrid() {
            self.feed(node, Event::Advertisement { source: frame.source, advertisement });
        }
    }

    fn carry_out(&mut self, node: usize) {
        while let Some(action) = self.nodes[node].router.poll_action() {
            match action {
                Action::Send(advertisement) => self.send(node, &advertisement),
                Action::AddAddresses | Action::RenewAddresses => {
                    self.nodes[node].holds_addresses = true;
                }
                Action::RemoveAddresses => self.nodes[node].holds_addresses = false,
                Action::Consult => {
                    let now = self.now;
                    let opinion = Event::Opinion(Opinion::Claim);
                    self.nodes[node].router.handle(now, opinion);
                }
                Action::Announce => self.nodes[node].announcements += 1,
                Action::Report(transition) => {
                    let now = self.now;
                    self.nodes[node].transitions.push((now, transition));
                }
            }
        }
    }

    fn send(&mut self, sender: usize, advertisement: &Advertisement) {
        let source = self.nodes[sender].source;
        let message = advertisement.emit(source, GROUP, Format::V3(ChecksumForm::PseudoHeader));
        for receiver in 0..self.nodes.len() {
            if receiver == sender || self.nodes[receiver].group != self.nodes[sender].group {
                continue;
            }
            if self.draw(1_000) < self.conditions.loss_permille {
                continue;
            }
            let copies = 1 + u32::from(self.draw(1_000) < self.conditions.duplicate_permille);
            for _ in 0..copies {
                let longest = u32::try_from(self.conditions.delay.as_micros()).unwrap_or(u32::MAX);
                let delay = Duration::from_micros(u64::from(self.draw(longest.max(1))));
                self.sent += 1;
                let frame = Frame { source, message: message.clone() };
                self.wire.insert((self.now + delay, self.sent), (receiver, frame));
            }
        }
    }
}
