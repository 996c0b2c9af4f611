//! Starting, steering and stopping a speaker: one OS thread per interface, see `engine.rs`.
//!
//! It is a thread and not a task of an async runtime: with the ordinary scheduling of a busy host
//! an advertisement is late often enough to make a backup take over for no reason.

use std::{
    collections::BTreeSet,
    io::Write,
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    sync::mpsc::{Sender, channel},
    thread::JoinHandle,
};

use crate::{
    addresses::AddressTable,
    config::{Priority, RouterConfig},
    engine::{Command, Engine},
    error::{ConfigError, Error, system},
    interface::{Interface, Watch},
    link::Link,
    netlink::Route,
    status::{Board, Report, RouterStatus},
};

/// Where to speak, and as which virtual routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeakerConfig {
    interface: String,
    routers: Vec<RouterConfig>,
    lease: u32,
    realtime_priority: Option<u8>,
}

impl SpeakerConfig {
    /// A speaker with the defaults: a lease of 2 s, SCHED_RR at priority 50. There must be only
    /// one speaker per interface, as each removes what another seems to have left behind.
    ///
    /// # Errors
    /// No router, or two with the same VRID or with a virtual address in common.
    pub fn new(
        interface: impl Into<String>,
        routers: Vec<RouterConfig>,
    ) -> Result<Self, ConfigError> {
        if routers.is_empty() {
            return Err(ConfigError::NoRouter);
        }
        let (mut vrids, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for router in &routers {
            if !vrids.insert(router.vrid()) {
                return Err(ConfigError::DuplicateVrid(router.vrid().as_u8()));
            }
            for address in router.addresses() {
                if !addresses.insert(*address) {
                    return Err(ConfigError::DuplicateAddress(*address));
                }
            }
        }
        Ok(Self { interface: interface.into(), routers, lease: 2, realtime_priority: Some(50) })
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

    /// The name of the interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// All virtual addresses of all routers.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.routers.iter().flat_map(|router| router.addresses().iter().copied())
    }
}

/// Starts speakers.
#[derive(Debug)]
pub struct Speaker;

impl Speaker {
    /// Takes leftover virtual addresses off the interface, opens all sockets, and starts the
    /// thread. Every virtual router begins as Backup, or waits for the link to come up.
    ///
    /// `on_report` is called on the thread of the speaker, between two advertisements: it must
    /// neither block nor do more than hand the report on, for instance through a channel. It is
    /// called after advertisement, addresses and announcement of the change are out.
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
    ) -> Result<SpeakerHandle, Error> {
        let mut route = Route::open().map_err(system("opening netlink"))?;
        let interface = Interface::find(&mut route, &config.interface)?;
        let addresses: Vec<_> = config.addresses().collect();
        let mut table = AddressTable::new(route, interface.index, config.lease);
        let leftovers = table.remove_leftovers(&interface, &addresses)?;
        if leftovers > 0 {
            tracing::warn!(
                interface = interface.name,
                addresses = leftovers,
                "removed virtual addresses that an earlier process left behind"
            );
        }
        // Before the state of the link is looked at, so that no change goes unnoticed.
        let watch = Watch::open()?;
        let link = Link::open(&interface)?;
        let (commands, inbox) = channel();
        let (bell, wake) = UnixStream::pair().map_err(system("opening a socket pair"))?;
        for end in [&bell, &wake] {
            end.set_nonblocking(true).map_err(system("opening a socket pair"))?;
        }
        let vrids = config.routers.iter().map(|router| router.vrid().as_u8()).collect();
        let board = Board::default();
        let engine = Engine::new(
            (interface, link, table, watch),
            config.routers,
            (inbox, wake),
            board.clone(),
            on_report,
        );
        let realtime_priority = config.realtime_priority;
        let thread = std::thread::Builder::new()
            .name("vrrp".to_owned())
            .spawn(move || engine.run(realtime_priority))
            .map_err(system("starting the vrrp thread"))?;
        Ok(SpeakerHandle { vrids, commands, bell, board, thread: Some(thread) })
    }
}

/// A running speaker. Dropping it stops the speaker as [`SpeakerHandle::stop`] does.
#[derive(Debug)]
pub struct SpeakerHandle {
    vrids: Vec<u8>,
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
    /// A priority out of range, an unknown VRID, or a thread that has ended.
    pub fn set_priority(&self, vrid: u8, priority: u8) -> Result<(), Error> {
        self.send(vrid, Command::SetPriority(vrid, Priority::new(priority)?))
    }

    /// Says whether a virtual router may become Active; an Active that may not yields at once,
    /// with an advertisement of priority 0. Does not wait.
    ///
    /// # Errors
    /// An unknown VRID, or a thread that has ended.
    pub fn set_permission(&self, vrid: u8, permission: bool) -> Result<(), Error> {
        self.send(vrid, Command::SetPermission(vrid, permission))
    }

    /// How every virtual router stands. Does not wait for the thread.
    pub fn states(&self) -> Vec<RouterStatus> {
        self.board.read()
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

    fn send(&self, vrid: u8, command: Command) -> Result<(), Error> {
        if !self.vrids.contains(&vrid) {
            return Err(Error::UnknownVrid(vrid));
        }
        self.commands.send(command).map_err(|_| Error::Stopped)?;
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

    fn router(vrid: u8, last: u8) -> RouterConfig {
        RouterConfig::new(vrid, vec![Ipv4Addr::new(10, 99, 0, last)]).unwrap()
    }

    #[test]
    fn routers_of_one_speaker_must_differ() {
        let speaker = |routers| SpeakerConfig::new("eth0", routers).map(drop);
        assert_eq!(speaker(vec![]), Err(ConfigError::NoRouter));
        assert_eq!(speaker(vec![router(7, 1), router(7, 2)]), Err(ConfigError::DuplicateVrid(7)));
        assert_eq!(
            speaker(vec![router(7, 1), router(8, 1)]),
            Err(ConfigError::DuplicateAddress(Ipv4Addr::new(10, 99, 0, 1)))
        );
        assert_eq!(speaker(vec![router(7, 1), router(8, 2)]), Ok(()));
    }

    #[test]
    fn a_lease_must_outlive_a_few_renewals() {
        let config = SpeakerConfig::new("eth0", vec![router(7, 1)]).unwrap();
        for (seconds, fits) in [(0, false), (1, false), (2, true), (3600, true), (3601, false)] {
            assert_eq!(config.clone().with_lease(seconds).is_ok(), fits, "{seconds}");
        }
    }

    #[test]
    fn a_missing_interface_is_named() {
        let config = SpeakerConfig::new("no-such-if", vec![router(7, 1)]).unwrap();
        let error = Speaker::spawn(config, Box::new(|_| {})).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "interface no-such-if does not exist");
    }
}
