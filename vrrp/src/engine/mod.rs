//! The loop of the VRRP thread: wait, read, feed the virtual routers, carry their actions out.
//!
//! It decides nothing about VRRP. What it does decide is the order of its work: everything
//! received is read before any timer may fire, because a thread that was late must not act on
//! silence while the proof of life waits in its socket.

mod actions;
mod links;
mod seat;
mod sync;

use std::{
    io::{self, Read},
    net::IpAddr,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use self::seat::Seat;
use crate::{
    config::{Family, RouterConfig},
    error::PacketError,
    event::{Event, State},
    group::Group,
    guardian::{Lifeline, Notary},
    packet::{Advertisement, Datagram},
    port::Port,
    realtime,
    speaker::Counsel,
    status::{Board, Report},
    sys,
    watch::{Interest, Watch},
};

/// So many packets of one channel are read before the timers of an Active have their turn: a flood
/// must not keep our own advertisements from going out. Some 0.5 ms of work.
const RECEIVED_AT_ONCE: usize = 512;
/// So many claims: they cost a log line a minute at most and can wait for the next turn.
const CLAIMS_AT_ONCE: usize = 16;
/// An advertisement of 255 IPv6 addresses with a trailer is 4,116 bytes long; one of IPv4 comes with
/// its IP header.
const BUFFER: usize = 4352;
/// For so long a Backup does not believe in silence while there are packets it has not read.
const BACKLOG: Duration = Duration::from_millis(50);
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

/// Everything the thread owns.
pub(crate) struct Engine {
    ports: Vec<Port>,
    watch: Watch,
    seats: Vec<Seat>,
    groups: Vec<Group>,
    /// Every virtual address of every router.
    addresses: Vec<IpAddr>,
    /// Addresses of this host that are configured as sources.
    sources: Vec<IpAddr>,
    inbox: Receiver<Command>,
    wake: UnixStream,
    board: Board,
    published: bool,
    ears: Ears,
    notary: Notary,
    stopped: bool,
    /// Since when there has been more to read than one turn allows.
    backlog: Option<Instant>,
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
        let now = Instant::now();
        let held = routers.iter().flat_map(|router| router.held());
        let addresses = held.map(|held| held.address()).collect();
        let unicast = routers.iter().filter_map(|router| router.dialect().unicast());
        let sources = unicast.filter_map(|unicast| unicast.source()).collect();
        let seats = routers.into_iter().filter_map(|config| {
            let port = ports.iter().position(|port| port.name() == &**config.interface())?;
            Some(Seat::new(config, port, now))
        });
        let seats: Vec<_> = seats.collect();
        let groups = Group::all(seats.iter().map(|seat: &Seat| seat.config().sync_group()));
        let mut engine = Self {
            ports,
            watch,
            seats,
            groups,
            addresses,
            sources,
            inbox,
            wake,
            board,
            published: false,
            ears,
            notary: Notary::default(),
            stopped: false,
            backlog: None,
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
            self.receive_all();
            if self.there_is_news() {
                self.inspect_links();
            }
            self.notice_claims();
            self.obey();
            self.fire_timers(now);
            self.leave_wills();
            self.board.count_turn();
            if self.backlog.is_some() {
                realtime::breathe();
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let now = Instant::now();
        let of_seats = self.seats.iter().filter_map(|seat| seat.router.poll_timeout());
        let channels = self.ports.iter().flat_map(|port| &port.channels);
        let deadline = of_seats.chain(channels.filter_map(|channel| channel.poll_timeout())).min();
        let mut timeout = deadline.map(|deadline| deadline.saturating_duration_since(now));
        if !self.published {
            timeout = Some(timeout.map_or(PUBLISH_AGAIN, |timeout| timeout.min(PUBLISH_AGAIN)));
        }
        let mut sources = vec![self.watch.as_fd(), self.wake.as_fd()];
        for port in &self.ports {
            port.wait_for(&mut sources);
        }
        sys::wait_readable(&sources, timeout)
    }

    fn receive_all(&mut self) {
        let mut all_read = true;
        for port in 0..self.ports.len() {
            for channel in 0..self.ports[port].channels.len() {
                all_read &= self.receive(port, channel);
            }
        }
        self.backlog = if all_read { None } else { self.backlog.or(Some(Instant::now())) };
    }

    /// Reads what has arrived; false: there is more.
    fn receive(&mut self, port: usize, channel: usize) -> bool {
        let mut buffer = [0; BUFFER];
        for _ in 0..RECEIVED_AT_ONCE {
            let datagram = match self.ports[port].channels[channel].receive(&mut buffer) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return true,
                Err(error) => {
                    // ENETDOWN when the interface goes down; the watch tells the same.
                    tracing::debug!(%error, "receiving vrrp failed");
                    return true;
                }
            };
            self.published = false;
            let source = datagram.as_ref().ok().map(|datagram| datagram.source);
            let now = Instant::now();
            let taken = datagram.and_then(|datagram| self.take(port, &datagram, now));
            if let Err(error) = taken {
                self.ports[port].refuse(channel, source, error, now);
            }
        }
        false
    }

    /// Hands a received packet to the virtual router it is meant for.
    fn take(
        &mut self,
        port: usize,
        datagram: &Datagram<'_>,
        now: Instant,
    ) -> Result<(), PacketError> {
        let (advertisement, format) = Advertisement::parse(datagram)?;
        let source = datagram.source;
        tracing::trace!(%source, ?format, ?advertisement, "advertisement received");
        let vrid = advertisement.vrid;
        let is_meant = |seat: &Seat| {
            seat.port == port
                && seat.router.vrid() == vrid
                && seat.router.family() == Family::of(&source)
        };
        let index =
            self.seats.iter().position(is_meant).ok_or(PacketError::ForeignVrid(vrid.as_u8()))?;
        let seat = &mut self.seats[index];
        // Our own that came back is the router's to judge, whoever the members are.
        if seat.source != Some(source) {
            seat.terms().check(datagram, &advertisement, format)?;
        }
        seat.note_heard(datagram, &advertisement, format, now);
        self.feed(index, Event::Advertisement { source, advertisement });
        Ok(())
    }

    fn notice_claims(&mut self) {
        let now = Instant::now();
        for port in 0..self.ports.len() {
            for channel in 0..self.ports[port].channels.len() {
                for _ in 0..CLAIMS_AT_ONCE {
                    let claim = self.ports[port].channels[channel].next_claim();
                    let Some((address, mac)) = claim else { break };
                    if mac == self.ports[port].mac() {
                        continue;
                    }
                    self.published = false;
                    let is_theirs = |held: &crate::VirtualAddress| held.address() == address;
                    let claimed = |seat: &&mut Seat| {
                        seat.port == port
                            && !seat.is_own(mac)
                            && seat.config().held().iter().any(is_theirs)
                    };
                    if let Some(seat) = self.seats.iter_mut().find(claimed) {
                        seat.note_claim(address, mac, now);
                    }
                }
            }
        }
    }

    fn there_is_news(&mut self) -> bool {
        let missing = self.ports.iter().filter(|port| !port.is_present());
        let own = self.seats.iter().filter_map(|seat| seat.virtual_mac.as_ref());
        let of_seats = own.map(|own| own.interface.index);
        let interest = Interest {
            indices: self.ports.iter().map(Port::index).chain(of_seats).collect(),
            missing: missing.map(Port::name).collect(),
            ours: &self.addresses,
            sources: &self.sources,
        };
        self.watch.drain(&interest)
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
        for channel in self.ports.iter_mut().flat_map(|port| &mut port.channels) {
            channel.attend(now);
        }
        // The proof that the Active lives may be among what is still to be read.
        let may_be_deaf = self.backlog.is_some_and(|since| now < since + BACKLOG);
        for index in 0..self.seats.len() {
            let router = &mut self.seats[index].router;
            if may_be_deaf && router.state() == State::Backup {
                continue;
            }
            if router.poll_timeout().is_some_and(|deadline| deadline <= now) {
                router.handle_timeout(now);
                self.carry_out(index);
                self.coordinate(index);
                self.published = false;
            }
        }
    }

    fn feed(&mut self, index: usize, event: Event) {
        self.seats[index].router.handle(Instant::now(), event);
        self.carry_out(index);
        self.coordinate(index);
    }

    fn leave_wills(&mut self) {
        for (index, seat) in self.seats.iter().enumerate() {
            if let Some(estate) = seat.estate(self.ports[seat.port].index()) {
                self.notary.leave(index, &estate);
            }
        }
    }

    fn publish(&mut self) {
        if self.published {
            return;
        }
        let seats = self.seats.iter();
        let status = seats.map(|seat| {
            let port = &self.ports[seat.port];
            seat.status(port.errors, port.storms())
        });
        let status: Vec<_> = status.collect();
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
