//! The loop of the VRRP thread: wait, read, feed the virtual routers, carry their actions out.
//!
//! It decides nothing about VRRP. What it does decide is the order of its work: everything
//! received is read before any timer may fire, because a thread that was late must not act on
//! silence while the proof of life waits in its socket.

use std::{
    io::{self, Read},
    net::IpAddr,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use crate::{
    addresses::AddressTable,
    announce::gratuitous_arp,
    checksum::ChecksumForm,
    config::{Family, RouterConfig},
    error::{PacketError, PacketErrors},
    event::{Action, Event, Opinion, Reason, State, Transition},
    guardian::{Lifeline, Notary},
    interface::Watch,
    packet::{Advertisement, Datagram, GROUP},
    port::Port,
    realtime,
    router::VirtualRouter,
    speaker::Counsel,
    status::{Board, Report, RouterStatus},
    sys,
};

/// More than a receive buffer of the default size can hold, so one pass empties it, and still a
/// bound: a flood must not keep the timers from firing.
const RECEIVED_AT_ONCE: usize = 512;
/// An advertisement of 255 addresses with a trailer and all IP options is 1116 bytes long.
const BUFFER: usize = 2048;
/// When to try again to publish a status that somebody was just reading.
const PUBLISH_AGAIN: Duration = Duration::from_millis(1);

/// What the handle asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// A guardian to leave wills with.
    Appoint(Lifeline),
    /// To be told to the virtual router in this seat.
    Feed(usize, Event),
    Stop,
}

/// Whom the thread calls.
pub(crate) struct Ears {
    pub(crate) on_report: Box<dyn FnMut(Report) + Send>,
    pub(crate) counsel: Option<Counsel>,
}

/// A virtual router and what is counted about it.
struct Seat {
    router: VirtualRouter,
    /// Its interface among the ports.
    port: usize,
    interface: Arc<str>,
    since: Instant,
    last_reason: Option<Reason>,
    adverts_in: u64,
    adverts_out: u64,
    send_errors: u64,
    address_errors: u64,
}

/// Everything the thread owns.
pub(crate) struct Engine {
    ports: Vec<Port>,
    watch: Watch,
    seats: Vec<Seat>,
    addresses: Vec<IpAddr>,
    inbox: Receiver<Command>,
    wake: UnixStream,
    board: Board,
    published: bool,
    ears: Ears,
    notary: Notary,
    stopped: bool,
}

impl Engine {
    /// `ports` holds the interface of every router.
    pub(crate) fn new(
        ports: Vec<Port>,
        watch: Watch,
        routers: Vec<RouterConfig>,
        (inbox, wake): (Receiver<Command>, UnixStream),
        board: Board,
        ears: Ears,
    ) -> Self {
        let since = Instant::now();
        let addresses = routers.iter().flat_map(|router| router.addresses().to_vec()).collect();
        let seats = routers.into_iter().filter_map(|config| {
            Some(Seat {
                port: ports.iter().position(|port| port.name() == &**config.interface())?,
                interface: Arc::clone(config.interface()),
                router: VirtualRouter::new(config),
                since,
                last_reason: None,
                adverts_in: 0,
                adverts_out: 0,
                send_errors: 0,
                address_errors: 0,
            })
        });
        let seats = seats.collect();
        let mut engine = Self {
            ports,
            watch,
            seats,
            addresses,
            inbox,
            wake,
            board,
            published: false,
            ears,
            notary: Notary::default(),
            stopped: false,
        };
        engine.publish();
        engine
    }

    /// Runs until [`Command::Stop`] arrives or the handle is gone.
    pub(crate) fn run(mut self, realtime_priority: Option<u8>) {
        realtime::enter(realtime_priority);
        self.inspect_links();
        while !self.stopped {
            self.publish();
            if let Err(error) = self.wait() {
                tracing::error!(%error, "vrrp cannot wait for packets and stops");
                break;
            }
            let now = Instant::now();
            for port in 0..self.ports.len() {
                self.receive(port);
            }
            let indices: Vec<_> = self.ports.iter().map(Port::index).collect();
            if self.watch.drain(&indices, &self.addresses) {
                self.inspect_links();
            }
            self.obey();
            self.fire_timers(now);
            self.leave_wills();
        }
    }

    fn wait(&self) -> io::Result<()> {
        let now = Instant::now();
        let deadline = self.seats.iter().filter_map(|seat| seat.router.poll_timeout()).min();
        let mut timeout = deadline.map(|deadline| deadline.saturating_duration_since(now));
        if !self.published {
            timeout = Some(timeout.map_or(PUBLISH_AGAIN, |timeout| timeout.min(PUBLISH_AGAIN)));
        }
        let mut sources = vec![self.watch.as_fd(), self.wake.as_fd()];
        sources.extend(self.ports.iter().map(|port| port.link.as_fd()));
        sys::wait_readable(&sources, timeout)
    }

    fn receive(&mut self, port: usize) {
        let mut buffer = [0; BUFFER];
        for _ in 0..RECEIVED_AT_ONCE {
            let packet = match self.ports[port].link.receive(&mut buffer) {
                Ok(Some(packet)) => packet,
                Ok(None) => return,
                Err(error) => {
                    // ENETDOWN when the interface goes down; the watch tells the same.
                    tracing::debug!(%error, "receiving vrrp failed");
                    return;
                }
            };
            self.published = false;
            if let Err((source, error)) = self.take(port, packet) {
                self.ports[port].refuse(source, error);
            }
        }
    }

    /// Hands a received packet to the virtual router it is meant for.
    fn take(&mut self, port: usize, packet: &[u8]) -> Result<(), (Option<IpAddr>, PacketError)> {
        let datagram = Datagram::parse(packet).map_err(|error| (None, error))?;
        let source = datagram.source;
        let (advertisement, form) =
            Advertisement::parse(&datagram).map_err(|error| (Some(source), error))?;
        tracing::trace!(%source, ?form, ?advertisement, "advertisement received");
        let vrid = advertisement.vrid;
        let is_meant = |seat: &Seat| {
            seat.port == port
                && seat.router.vrid() == vrid
                && seat.router.family() == Family::of(&source)
        };
        let index = self
            .seats
            .iter()
            .position(is_meant)
            .ok_or((Some(source), PacketError::ForeignVrid(vrid.as_u8())))?;
        self.seats[index].adverts_in += 1;
        self.feed(index, Event::Advertisement { source, advertisement });
        Ok(())
    }

    /// Looks at the interfaces and at what they hold, and tells the routers what changed.
    fn inspect_links(&mut self) {
        self.published = false;
        for port in 0..self.ports.len() {
            self.inspect_link(port);
        }
    }

    fn inspect_link(&mut self, port: usize) {
        let look = match self.ports[port].look() {
            Ok(look) => look,
            Err(error) => {
                // Believed to be as before; the next news or renewal tells.
                let interface = self.ports[port].name();
                tracing::warn!(interface, %error, "reading the interface failed");
                return;
            }
        };
        let source = self.ports[port].source;
        for index in 0..self.seats.len() {
            if self.seats[index].port != port {
                continue;
            }
            if look.new_source {
                let event = source.map_or(Event::LinkDown, |source| Event::Startup { source });
                self.feed(index, event);
            }
            let router = &self.seats[index].router;
            let is_complete = router
                .addresses()
                .iter()
                .all(|address| look.present.iter().any(|found| found.address == *address));
            // A router that became Active a moment ago may have added them after the listing;
            // adding them once more does no harm.
            if router.state() == State::Active && (!is_complete || look.new_mac) {
                let router = &**router.name();
                tracing::warn!(router, "a virtual address was removed by someone else; put back");
                self.feed(index, Event::AddressLost);
            }
        }
    }

    fn obey(&mut self) {
        let mut ignored = [0; 64];
        while matches!((&self.wake).read(&mut ignored), Ok(1..)) {}
        loop {
            use std::sync::mpsc::TryRecvError;
            let (index, event) = match self.inbox.try_recv() {
                Ok(Command::Feed(index, event)) => (index, event),
                Ok(Command::Appoint(lifeline)) => {
                    self.notary.appoint(lifeline);
                    continue;
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    self.stopped = true;
                    return;
                }
                Err(TryRecvError::Empty) => return,
            };
            self.published = false;
            if index < self.seats.len() {
                self.feed(index, event);
            }
        }
    }

    /// Fires what was due at `now`, before everything received was read. A thread that is stopped
    /// between reading and firing must read again first.
    fn fire_timers(&mut self, now: Instant) {
        for index in 0..self.seats.len() {
            let router = &mut self.seats[index].router;
            if router.poll_timeout().is_some_and(|deadline| deadline <= now) {
                router.handle_timeout(now);
                self.carry_out(index);
                self.published = false;
            }
        }
    }

    fn feed(&mut self, index: usize, event: Event) {
        self.seats[index].router.handle(Instant::now(), event);
        self.carry_out(index);
    }

    fn carry_out(&mut self, index: usize) {
        while let Some(action) = self.seats[index].router.poll_action() {
            match action {
                Action::Send(advertisement) => self.send(index, &advertisement),
                Action::AddAddresses => {
                    if !self.change_addresses(index, AddressTable::add) {
                        self.seats[index].router.handle(Instant::now(), Event::AddressRefused);
                    }
                }
                Action::RenewAddresses => {
                    self.change_addresses(index, AddressTable::add);
                }
                Action::RemoveAddresses => {
                    self.change_addresses(index, |table, address| table.remove(address).map(drop));
                }
                Action::Consult => {
                    let opinion = self.consult(index);
                    self.seats[index].router.handle(Instant::now(), Event::Opinion(opinion));
                }
                Action::Announce => self.announce(index),
                Action::Report(transition) => self.report(index, transition),
            }
        }
    }

    fn consult(&mut self, index: usize) -> Opinion {
        let Some(counsel) = &mut self.ears.counsel else { return Opinion::Claim };
        counsel(self.seats[index].router.name(), Instant::now())
    }

    fn send(&mut self, index: usize, advertisement: &Advertisement) {
        let port = &self.ports[self.seats[index].port];
        let Some(source) = port.source else { return };
        let message = advertisement.emit(source, GROUP, ChecksumForm::PseudoHeader);
        match port.link.send(&message) {
            Ok(()) => self.seats[index].adverts_out += 1,
            Err(error) => self.note_send_error(index, &error),
        }
    }

    fn announce(&mut self, index: usize) {
        let port = self.seats[index].port;
        let mac = self.ports[port].mac();
        for address in self.seats[index].router.addresses().to_vec() {
            let IpAddr::V4(address) = address else { continue };
            for frame in gratuitous_arp(mac, address) {
                if let Err(error) = self.ports[port].link.send_frame(&frame) {
                    self.note_send_error(index, &error);
                }
            }
        }
    }

    fn note_send_error(&mut self, index: usize, error: &io::Error) {
        let seat = &mut self.seats[index];
        seat.send_errors += 1;
        if seat.send_errors.is_power_of_two() {
            let router = &**seat.router.name();
            tracing::warn!(router, count = seat.send_errors, %error, "vrrp cannot send");
        }
    }

    /// Applies `change` to every address of a router; false: at least one was refused.
    fn change_addresses(
        &mut self,
        index: usize,
        change: fn(&mut AddressTable, IpAddr) -> io::Result<()>,
    ) -> bool {
        let mut all_done = true;
        for address in self.seats[index].router.addresses().to_vec() {
            let table = &mut self.ports[self.seats[index].port].table;
            let Err(error) = change(table, address) else { continue };
            all_done = false;
            let seat = &mut self.seats[index];
            seat.address_errors += 1;
            if seat.address_errors.is_power_of_two() {
                let router = &**seat.router.name();
                let count = seat.address_errors;
                tracing::error!(router, %address, count, %error, "virtual address not changed");
            }
        }
        all_done
    }

    fn report(&mut self, index: usize, transition: Transition) {
        let at = Instant::now();
        let seat = &mut self.seats[index];
        seat.since = at;
        let Transition { from, to, reason } = transition;
        seat.last_reason = Some(reason.clone());
        let name = Arc::clone(seat.router.name());
        let vrid = seat.router.vrid().as_u8();
        // The story is told by whoever takes the report, on a thread that may wait for a log.
        tracing::debug!(router = &*name, state.from = %from, state.to = %to, %reason, "state changed");
        let addresses = seat.router.addresses().to_vec();
        // A panic of the receiver must not meet a second one while addresses are given back.
        if !std::thread::panicking() {
            (self.ears.on_report)(Report { name, vrid, from, to, reason, at, addresses });
        }
    }

    fn leave_wills(&mut self) {
        for (index, seat) in self.seats.iter().enumerate() {
            self.notary.leave(index, &seat.router, &self.ports[seat.port]);
        }
    }

    fn publish(&mut self) {
        if self.published {
            return;
        }
        let seats = self.seats.iter();
        let status: Vec<_> = seats.map(|seat| seat.status(self.ports[seat.port].errors)).collect();
        self.published = self.board.try_publish(&status);
    }
}

/// The end of [`Engine::run`], whichever way it came, a panic included: the peers hear the goodbye
/// and the addresses go.
impl Drop for Engine {
    fn drop(&mut self) {
        for index in 0..self.seats.len() {
            self.feed(index, Event::Shutdown);
        }
        self.leave_wills();
        self.published = false;
        self.publish();
    }
}

impl Seat {
    fn status(&self, errors: PacketErrors) -> RouterStatus {
        RouterStatus {
            name: Arc::clone(self.router.name()),
            interface: Arc::clone(&self.interface),
            vrid: self.router.vrid().as_u8(),
            addresses: self.router.addresses().to_vec(),
            state: self.router.state(),
            since: self.since,
            priority: self.router.priority().as_u8(),
            base_priority: self.router.base_priority().as_u8(),
            adjustments: self.router.adjustments(),
            faults: self.router.faults(),
            sync_group: self.router.sync_group().map(Arc::clone),
            permission: self.router.permission(),
            held: self.router.is_held(),
            hold: self.router.hold(),
            peer: self.router.peer(),
            adverts_in: self.adverts_in,
            adverts_out: self.adverts_out,
            send_errors: self.send_errors,
            address_errors: self.address_errors,
            late: self.router.lateness(),
            anomalies: self.router.anomalies(),
            errors,
            last_reason: self.last_reason.clone(),
        }
    }
}
