//! The loop of the VRRP thread: wait, read, feed the virtual routers, carry their actions out.
//!
//! It decides nothing about VRRP. What it does decide is the order of its work: everything
//! received is read before any timer may fire, because a thread that was late must not act on
//! silence while the proof of life waits in its socket.

use std::{
    io::{self, Read},
    net::Ipv4Addr,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use crate::{
    addresses::{AddressTable, choose_source},
    announce::gratuitous_arp,
    checksum::ChecksumForm,
    config::{Priority, RouterConfig},
    error::{PacketError, PacketErrors},
    event::{Action, Event, Reason, State, Transition},
    interface::{Interface, Watch},
    link::Link,
    packet::{Advertisement, Datagram, GROUP},
    router::VirtualRouter,
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
    SetPriority(u8, Priority),
    SetPermission(u8, bool),
    Stop,
}

/// A virtual router and what is counted about it.
struct Seat {
    router: VirtualRouter,
    since: Instant,
    last_reason: Option<Reason>,
    adverts_in: u64,
    adverts_out: u64,
    send_errors: u64,
    address_errors: u64,
}

/// Everything the thread owns.
pub(crate) struct Engine {
    interface: Interface,
    link: Link,
    table: AddressTable,
    watch: Watch,
    seats: Vec<Seat>,
    addresses: Vec<Ipv4Addr>,
    /// Our primary address while the link is usable.
    source: Option<Ipv4Addr>,
    errors: PacketErrors,
    inbox: Receiver<Command>,
    wake: UnixStream,
    board: Board,
    published: bool,
    on_report: Box<dyn FnMut(Report) + Send>,
    stopped: bool,
}

impl Engine {
    pub(crate) fn new(
        (interface, link, table, watch): (Interface, Link, AddressTable, Watch),
        routers: Vec<RouterConfig>,
        (inbox, wake): (Receiver<Command>, UnixStream),
        board: Board,
        on_report: Box<dyn FnMut(Report) + Send>,
    ) -> Self {
        let since = Instant::now();
        let addresses = routers.iter().flat_map(|router| router.addresses().to_vec()).collect();
        let seats = routers
            .into_iter()
            .map(|config| Seat {
                router: VirtualRouter::new(config),
                since,
                last_reason: None,
                adverts_in: 0,
                adverts_out: 0,
                send_errors: 0,
                address_errors: 0,
            })
            .collect();
        let mut engine = Self {
            interface,
            link,
            table,
            watch,
            seats,
            addresses,
            source: None,
            errors: PacketErrors::default(),
            inbox,
            wake,
            board,
            published: false,
            on_report,
            stopped: false,
        };
        engine.publish();
        engine
    }

    /// Runs until [`Command::Stop`] arrives or the handle is gone.
    pub(crate) fn run(mut self, realtime_priority: Option<u8>) {
        if let Some(priority) = realtime_priority
            && let Err(error) = sys::schedule_round_robin(priority)
        {
            tracing::warn!(
                %error,
                priority,
                "vrrp runs without realtime scheduling; a busy host may lose its addresses for a \
                 moment (cap_sys_nice or LimitRTPRIO= allows it)"
            );
        }
        self.inspect_link();
        while !self.stopped {
            self.publish();
            if let Err(error) = self.wait() {
                tracing::error!(%error, "vrrp cannot wait for packets and stops");
                break;
            }
            self.receive();
            if self.watch.drain(self.interface.index, &self.addresses) {
                self.inspect_link();
            }
            self.obey();
            self.fire_timers();
        }
    }

    fn wait(&self) -> io::Result<()> {
        let now = Instant::now();
        let deadline = self.seats.iter().filter_map(|seat| seat.router.poll_timeout()).min();
        let mut timeout = deadline.map(|deadline| deadline.saturating_duration_since(now));
        if !self.published {
            timeout = Some(timeout.map_or(PUBLISH_AGAIN, |timeout| timeout.min(PUBLISH_AGAIN)));
        }
        sys::wait_readable(&[self.link.as_fd(), self.watch.as_fd(), self.wake.as_fd()], timeout)
    }

    fn receive(&mut self) {
        let mut buffer = [0; BUFFER];
        for _ in 0..RECEIVED_AT_ONCE {
            let packet = match self.link.receive(&mut buffer) {
                Ok(Some(packet)) => packet,
                Ok(None) => return,
                Err(error) => {
                    // ENETDOWN when the interface goes down; the watch tells the same.
                    tracing::debug!(%error, "receiving vrrp failed");
                    return;
                }
            };
            self.published = false;
            if let Err((source, error)) = self.take(packet) {
                self.refuse(source, error);
            }
        }
    }

    /// Hands a received packet to the virtual router it is meant for.
    fn take(&mut self, packet: &[u8]) -> Result<(), (Option<Ipv4Addr>, PacketError)> {
        let datagram = Datagram::parse(packet).map_err(|error| (None, error))?;
        let source = datagram.source;
        let (advertisement, form) =
            Advertisement::parse(&datagram).map_err(|error| (Some(source), error))?;
        tracing::trace!(%source, ?form, ?advertisement, "advertisement received");
        let vrid = advertisement.vrid;
        let index = self
            .seats
            .iter()
            .position(|seat| seat.router.vrid() == vrid)
            .ok_or((Some(source), PacketError::ForeignVrid(vrid.as_u8())))?;
        self.seats[index].adverts_in += 1;
        self.feed(index, Event::Advertisement { source, advertisement });
        Ok(())
    }

    /// Counts a refused packet. Strangers cause these, so the log gets the first of a kind and
    /// then ever fewer: the 2nd, 4th, 8th and so on.
    fn refuse(&mut self, source: Option<Ipv4Addr>, error: PacketError) {
        let count = self.errors.count(error);
        let source = source.unwrap_or(Ipv4Addr::UNSPECIFIED);
        if !count.is_power_of_two() {
            return;
        }
        let interface = self.interface.name.as_str();
        if matches!(error, PacketError::ForeignVrid(_)) {
            // Other virtual routers on a segment are nothing out of the ordinary.
            tracing::debug!(interface, %source, count, %error, "advertisement of a stranger");
        } else {
            tracing::warn!(interface, %source, count, %error, "vrrp packet refused");
        }
    }

    /// Looks at the interface and at what it holds, and tells the routers what changed.
    fn inspect_link(&mut self) {
        self.published = false;
        let mac = self.interface.mac;
        let read = self.interface.reread(self.table.route()).and_then(|()| self.table.list());
        let present = match read {
            Ok(present) => present,
            Err(error) => {
                // Believed to be as before; the next news or renewal tells.
                tracing::warn!(interface = self.interface.name, %error, "reading the interface failed");
                return;
            }
        };
        let source = choose_source(&present, &self.addresses)
            .filter(|_| self.interface.running)
            .filter(|source| self.may_send_from(*source));
        if source != self.source {
            self.source = source;
            let event = source.map_or(Event::LinkDown, |source| Event::Startup { source });
            self.feed_all(&event);
        }
        for index in 0..self.seats.len() {
            let router = &self.seats[index].router;
            let is_complete = router
                .addresses()
                .iter()
                .all(|address| present.iter().any(|found| found.address == *address));
            // A router that became Active a moment ago may have added them after the listing;
            // adding them once more does no harm.
            if router.state() == State::Active && (!is_complete || mac != self.interface.mac) {
                let vrid = router.vrid().as_u8();
                tracing::warn!(vrid, "a virtual address was removed by someone else; put back");
                self.feed(index, Event::AddressLost);
            }
        }
    }

    fn may_send_from(&self, source: Ipv4Addr) -> bool {
        match self.link.set_source(source) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%source, %error, "the primary address cannot be used as source");
                false
            }
        }
    }

    fn obey(&mut self) {
        let mut ignored = [0; 64];
        while matches!((&self.wake).read(&mut ignored), Ok(1..)) {}
        loop {
            use std::sync::mpsc::TryRecvError;
            let (vrid, event) = match self.inbox.try_recv() {
                Ok(Command::SetPriority(vrid, priority)) => (vrid, Event::SetPriority(priority)),
                Ok(Command::SetPermission(vrid, given)) => (vrid, Event::SetPermission(given)),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    self.stopped = true;
                    return;
                }
                Err(TryRecvError::Empty) => return,
            };
            self.published = false;
            let is_meant = |seat: &Seat| seat.router.vrid().as_u8() == vrid;
            if let Some(index) = self.seats.iter().position(is_meant) {
                self.feed(index, event);
            }
        }
    }

    fn fire_timers(&mut self) {
        let now = Instant::now();
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

    fn feed_all(&mut self, event: &Event) {
        for index in 0..self.seats.len() {
            self.feed(index, event.clone());
        }
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
                Action::Announce => self.announce(index),
                Action::Report(transition) => self.report(index, transition),
            }
        }
    }

    fn send(&mut self, index: usize, advertisement: &Advertisement) {
        let Some(source) = self.source else { return };
        let message = advertisement.emit(source, GROUP, ChecksumForm::PseudoHeader);
        match self.link.send(&message) {
            Ok(()) => self.seats[index].adverts_out += 1,
            Err(error) => self.note_send_error(index, &error),
        }
    }

    fn announce(&mut self, index: usize) {
        let mac = self.interface.mac;
        for address in self.seats[index].router.addresses().to_vec() {
            for frame in gratuitous_arp(mac, address) {
                if let Err(error) = self.link.send_frame(&frame) {
                    self.note_send_error(index, &error);
                }
            }
        }
    }

    fn note_send_error(&mut self, index: usize, error: &io::Error) {
        let seat = &mut self.seats[index];
        seat.send_errors += 1;
        if seat.send_errors.is_power_of_two() {
            let vrid = seat.router.vrid().as_u8();
            tracing::warn!(vrid, count = seat.send_errors, %error, "vrrp cannot send");
        }
    }

    /// Applies `change` to every address of a router; false: at least one was refused.
    fn change_addresses(
        &mut self,
        index: usize,
        change: fn(&mut AddressTable, Ipv4Addr) -> io::Result<()>,
    ) -> bool {
        let mut all_done = true;
        for address in self.seats[index].router.addresses().to_vec() {
            let Err(error) = change(&mut self.table, address) else { continue };
            all_done = false;
            let seat = &mut self.seats[index];
            seat.address_errors += 1;
            if seat.address_errors.is_power_of_two() {
                let vrid = seat.router.vrid().as_u8();
                let count = seat.address_errors;
                tracing::error!(vrid, %address, count, %error, "virtual address not changed");
            }
        }
        all_done
    }

    fn report(&mut self, index: usize, transition: Transition) {
        let at = Instant::now();
        let seat = &mut self.seats[index];
        seat.since = at;
        seat.last_reason = Some(transition.reason);
        let Transition { from, to, reason } = transition;
        let vrid = seat.router.vrid().as_u8();
        // The story is told by whoever takes the report, on a thread that may wait for a log.
        tracing::debug!(vrid, state.from = %from, state.to = %to, %reason, "state changed");
        let addresses = seat.router.addresses().to_vec();
        // A panic of the receiver must not meet a second one while addresses are given back.
        if !std::thread::panicking() {
            (self.on_report)(Report { vrid, from, to, reason, at, addresses });
        }
    }

    fn publish(&mut self) {
        if self.published {
            return;
        }
        let status: Vec<_> = self.seats.iter().map(|seat| seat.status(self.errors)).collect();
        self.published = self.board.try_publish(&status);
    }
}

/// The end of [`Engine::run`], whichever way it came, a panic included: the peers hear the goodbye
/// and the addresses go.
impl Drop for Engine {
    fn drop(&mut self) {
        self.feed_all(&Event::Shutdown);
        self.published = false;
        self.publish();
    }
}

impl Seat {
    fn status(&self, errors: PacketErrors) -> RouterStatus {
        RouterStatus {
            vrid: self.router.vrid().as_u8(),
            state: self.router.state(),
            since: self.since,
            priority: self.router.priority().as_u8(),
            permission: self.router.permission(),
            held: self.router.is_held(),
            peer: self.router.peer(),
            adverts_in: self.adverts_in,
            adverts_out: self.adverts_out,
            send_errors: self.send_errors,
            address_errors: self.address_errors,
            anomalies: self.router.anomalies(),
            errors,
            last_reason: self.last_reason,
        }
    }
}
