//! Starting, steering and stopping a speaker: one OS thread for all interfaces, see `engine.rs`.
//!
//! It is a thread and not a task of an async runtime: with the ordinary scheduling of a busy host
//! an advertisement is late often enough to make a backup take over for no reason.

use std::{
    collections::BTreeSet,
    io::Write,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
    time::Instant,
};

use crate::{
    config::{Priority, RouterConfig},
    engine::{Command, Ears, Engine},
    error::{ConfigError, Error, system},
    event::{Event, Opinion},
    guardian::Lifeline,
    port::Port,
    status::{Board, Report, RouterStatus},
    tracking::Tracked,
    watch::Watch,
};

/// Whether a router whose Active fell silent may succeed it: asked with its name and the time, on
/// the thread of the speaker. It answers from memory and never waits.
pub type Counsel = Box<dyn FnMut(&str, Instant) -> Opinion + Send>;

/// As which virtual routers to speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeakerConfig {
    routers: Vec<RouterConfig>,
    lease: u32,
    realtime_priority: Option<u8>,
}

impl SpeakerConfig {
    /// A speaker with the defaults: a lease of 2 s, SCHED_RR at priority 50. There must be only
    /// one speaker in a network namespace, as each removes what another seems to have left behind.
    ///
    /// # Errors
    /// No router, two with the same name, with the same VRID on one interface and in one family,
    /// or with a virtual address in common; one virtual MAC address on two interfaces; an interval
    /// that version 2 cannot express.
    pub fn new(routers: Vec<RouterConfig>) -> Result<Self, ConfigError> {
        if routers.is_empty() {
            return Err(ConfigError::NoRouter);
        }
        let (mut names, mut vrids) = (BTreeSet::new(), BTreeSet::new());
        let (mut addresses, mut virtual_macs) = (BTreeSet::new(), BTreeSet::new());
        for router in &routers {
            if !names.insert(router.name()) {
                return Err(ConfigError::DuplicateName(Arc::clone(router.name())));
            }
            if !vrids.insert((router.interface(), router.family(), router.vrid())) {
                return Err(ConfigError::DuplicateVrid(router.vrid().as_u8()));
            }
            for held in router.held() {
                if !addresses.insert(held.address()) {
                    return Err(ConfigError::DuplicateAddress(held.address()));
                }
            }
            if router.virtual_mac() && !virtual_macs.insert((router.family(), router.vrid())) {
                return Err(ConfigError::DuplicateVirtualMac(router.vrid().as_u8()));
            }
            router.check()?;
        }
        Ok(Self { routers, lease: 2, realtime_priority: Some(50) })
    }

    /// Sets after how many seconds without renewal the kernel drops a virtual address: 2 to 3600.
    /// Renewals come every 0.5 s.
    pub fn with_lease(mut self, seconds: u32) -> Result<Self, ConfigError> {
        if !(2..=3600).contains(&seconds) {
            return Err(ConfigError::Lease(seconds));
        }
        self.lease = seconds;
        Ok(self)
    }

    /// Sets the SCHED_RR priority of the thread, 1 to 99; `None` leaves it under the ordinary
    /// scheduler. Where it is not allowed the speaker works without and says so once.
    pub fn with_realtime_priority(mut self, priority: Option<u8>) -> Self {
        self.realtime_priority = priority;
        self
    }

    /// The virtual routers.
    pub fn routers(&self) -> &[RouterConfig] {
        &self.routers
    }
}

/// Starts speakers.
#[derive(Debug)]
pub struct Speaker;

impl Speaker {
    /// Takes leftover virtual addresses off the interfaces, opens all sockets, and starts the
    /// thread. Every virtual router begins as Backup, or waits for the link to come up.
    ///
    /// `on_report` is called on the thread of the speaker, between two advertisements: it must
    /// neither block nor do more than hand the report on, for instance through a channel. It is
    /// called after advertisement, addresses and announcement of the change are out. `counsel` is
    /// asked on the same thread before a silent Active is succeeded; without one nothing speaks
    /// against it.
    ///
    /// The calling thread decides the network namespace and needs CAP_NET_RAW and CAP_NET_ADMIN;
    /// the new thread keeps them, the caller may drop its own afterwards.
    ///
    /// # Errors
    /// The interface is missing or no Ethernet, a virtual address is configured by other means,
    /// or a system call is refused.
    pub fn spawn(
        config: SpeakerConfig,
        on_report: Box<dyn FnMut(Report) + Send>,
        counsel: Option<Counsel>,
    ) -> Result<SpeakerHandle, Error> {
        // Before the state of any link is looked at, so that no change goes unnoticed.
        let watch = Watch::open()?;
        let mut ports: Vec<Port> = Vec::new();
        for router in &config.routers {
            if ports.iter().any(|port| port.name() == &**router.interface()) {
                continue;
            }
            let of_interface = |other: &&RouterConfig| other.interface() == router.interface();
            let routers: Vec<_> = config.routers.iter().filter(of_interface).collect();
            ports.push(Port::open(&routers, config.lease)?);
        }
        let (commands, inbox) = channel();
        let (bell, wake) = UnixStream::pair().map_err(system("opening a socket pair"))?;
        for end in [&bell, &wake] {
            end.set_nonblocking(true).map_err(system("opening a socket pair"))?;
        }
        let names = config.routers.iter().map(|router| Arc::clone(router.name())).collect();
        let with_counsel = counsel.is_some();
        let routers = config.routers.into_iter();
        let routers = routers.map(|router| router.with_second_opinion(with_counsel)).collect();
        let board = Board::default();
        let engine = Engine::new(
            ports,
            watch,
            routers,
            (inbox, wake),
            board.clone(),
            Ears { on_report, counsel },
        );
        let realtime_priority = config.realtime_priority;
        let thread = std::thread::Builder::new()
            .name("vrrp".to_owned())
            .spawn(move || engine.run(realtime_priority))
            .map_err(system("starting the vrrp thread"))?;
        Ok(SpeakerHandle { names, commands, bell, board, thread: Some(thread) })
    }
}

/// A running speaker. Dropping it stops the speaker as [`SpeakerHandle::stop`] does.
#[derive(Debug)]
pub struct SpeakerHandle {
    names: Vec<Arc<str>>,
    commands: Sender<Command>,
    /// Writing wakes the thread.
    bell: UnixStream,
    board: Board,
    thread: Option<JoinHandle<()>>,
}

impl SpeakerHandle {
    /// Changes the priority of a virtual router, 1 to 254. Does not wait.
    ///
    /// # Errors
    /// A priority out of range, an unknown name, or a thread that has ended.
    pub fn set_priority(&self, name: &str, priority: u8) -> Result<(), Error> {
        self.tell(name, Event::SetPriority(Priority::new(priority)?))
    }

    /// Says whether a virtual router may become Active; an Active that may not yields at once,
    /// with an advertisement of priority 0. Does not wait.
    ///
    /// # Errors
    /// An unknown name, or a thread that has ended.
    pub fn set_permission(&self, name: &str, permission: bool) -> Result<(), Error> {
        self.tell(name, Event::SetPermission(permission))
    }

    /// Makes the guardian at the other end the one that wills are left with. Does not wait.
    ///
    /// # Errors
    /// A thread that has ended.
    pub fn appoint(&self, guardian: Lifeline) -> Result<(), Error> {
        self.commands.send(Command::Appoint(guardian)).map_err(|_| Error::Stopped)?;
        self.ring();
        Ok(())
    }

    /// Says whether a virtual router has a fault. One with any takes no part: an Active says goodbye,
    /// and all go through Backup when the last fault is gone. Each cause is known by its words. Does
    /// not wait.
    ///
    /// # Errors
    /// An unknown name, or a thread that has ended.
    pub fn set_fault(&self, name: &str, cause: &'static str, present: bool) -> Result<(), Error> {
        self.tell(name, Event::SetFault { cause, present })
    }

    /// Says how something is that a virtual router tracks; a tracker it does not have changes
    /// nothing. Does not wait.
    ///
    /// # Errors
    /// An unknown name, or a thread that has ended.
    pub fn set_tracker(&self, name: &str, tracker: &str, seen: Tracked) -> Result<(), Error> {
        self.tell(name, Event::Track { tracker: tracker.into(), seen })
    }

    /// The names of the virtual routers.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// How every virtual router stands. Does not wait for the thread.
    pub fn states(&self) -> Vec<RouterStatus> {
        self.board.read()
    }

    /// Wakes the thread, and tells how many turns it has made so far. Does not wait: if the next call
    /// tells the same number, the thread hangs, or has ended.
    pub fn nudge(&self) -> u64 {
        let turns = self.board.turns();
        self.ring();
        turns
    }

    /// Whether the thread lives. One that panicked has said goodbye and removed its addresses.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Leaves in order: returns when the advertisements of priority 0 are out and the virtual
    /// addresses are off the interface. Those two take about a millisecond; closing the sockets
    /// makes it some 20 ms.
    pub fn stop(mut self) {
        self.finish();
    }

    fn tell(&self, name: &str, event: Event) -> Result<(), Error> {
        let mut seats = self.names.iter();
        let Some(seat) = seats.position(|known| &**known == name) else {
            return Err(Error::UnknownRouter(name.to_owned()));
        };
        self.commands.send(Command::Feed(seat, event)).map_err(|_| Error::Stopped)?;
        self.ring();
        Ok(())
    }

    fn ring(&self) {
        // A full socket has woken the thread already; a closed one has no thread to wake.
        let _ = (&self.bell).write(&[0]);
    }

    fn finish(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let _ = self.commands.send(Command::Stop);
        self.ring();
        if thread.join().is_err() {
            tracing::error!("the vrrp thread had panicked");
        }
    }
}

impl Drop for SpeakerHandle {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(interface: &str, vrid: u8, address: &str) -> RouterConfig {
        RouterConfig::new(interface, vrid, vec![address.parse().unwrap()]).unwrap()
    }

    #[test]
    fn routers_of_one_speaker_must_differ() {
        let speaker = |routers| SpeakerConfig::new(routers).map(drop);
        let first = || router("eth0", 7, "10.99.0.1");
        assert_eq!(speaker(vec![]), Err(ConfigError::NoRouter));
        let same_vrid = router("eth0", 7, "10.99.0.2").with_name("other");
        assert_eq!(speaker(vec![first(), same_vrid]), Err(ConfigError::DuplicateVrid(7)));
        let same_name = router("eth1", 8, "10.99.0.2").with_name("eth0-7");
        assert_eq!(
            speaker(vec![first(), same_name]),
            Err(ConfigError::DuplicateName("eth0-7".into()))
        );
        let same_address = router("eth0", 8, "10.99.0.1");
        assert_eq!(
            speaker(vec![first(), same_address]),
            Err(ConfigError::DuplicateAddress("10.99.0.1".parse().unwrap()))
        );
        let own_mac = |interface, address| router(interface, 7, address).with_virtual_mac(true);
        let same_mac = vec![own_mac("eth0", "10.99.0.1"), own_mac("eth1", "10.99.0.2")];
        assert_eq!(speaker(same_mac), Err(ConfigError::DuplicateVirtualMac(7)));
        for fits in [
            router("eth0", 8, "10.99.0.2"),
            router("eth1", 7, "10.99.0.2"),
            router("eth0", 7, "2001:db8::2"),
        ] {
            assert_eq!(speaker(vec![first(), fits]), Ok(()));
        }
    }

    #[test]
    fn a_lease_must_outlive_a_few_renewals() {
        let config = SpeakerConfig::new(vec![router("eth0", 7, "10.99.0.1")]).unwrap();
        for (seconds, fits) in [(0, false), (1, false), (2, true), (3600, true), (3601, false)] {
            assert_eq!(config.clone().with_lease(seconds).is_ok(), fits, "{seconds}");
        }
    }

    #[test]
    fn a_missing_interface_is_named() {
        let config = SpeakerConfig::new(vec![router("no-such-if", 7, "10.99.0.1")]).unwrap();
        let error = Speaker::spawn(config, Box::new(|_| {}), None).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "interface no-such-if does not exist");
    }
}
