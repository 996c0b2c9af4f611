//! The guardian process: waits on its end of the socket pair and, when the worker is dead, carries
//! the wills out.

use std::{
    collections::BTreeMap,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{
    mm::{MlockAllFlags, mlockall},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
    },
    thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities},
};
use socket2::Socket;

use super::{
    lifeline::READY,
    will::{Will, Wills},
};
use crate::{addresses::AddressTable, netlink::Route, sys};

/// More than the will of a router with 255 addresses and a dozen peers.
const BUFFER: usize = 64 * 1024;
/// As the VRRP thread has by default.
const REALTIME_PRIORITY: u8 = 50;

/// Whether the worker left anything to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Routers that were Active when the worker died.
    pub routers: usize,
}

/// Watches over the worker at the other end of `lifeline` and returns when it is gone and ended
/// in order. From now on SIGTERM, SIGINT and SIGHUP are ignored: the guardian leaves after the
/// worker, whoever else is told to stop.
///
/// # Errors
/// The socket pair cannot be read.
pub fn keep_watch(lifeline: impl AsFd) -> io::Result<Ending> {
    let lifeline = lifeline.as_fd();
    sys::ignore_stop_signals()?;
    let mut executor = Executor { tables: BTreeMap::new() };
    let mut wills = Wills::default();
    let mut buffer = vec![0; BUFFER];
    secure();
    let _ = send(lifeline, READY, SendFlags::NOSIGNAL);

    while let Some(letter) = receive(lifeline, &mut buffer)? {
        match letter {
            Letter::Will(will, socket) => {
                for holding in &will.holdings {
                    // Opened before they are needed.
                    let _ = executor.table(holding.interface);
                }
                wills.note(will, socket);
            }
            Letter::Unreadable => tracing::warn!("the guardian was told something unreadable"),
        }
    }
    let open: Vec<_> = wills.open().collect();
    for (will, socket) in &open {
        executor.carry_out(will, socket);
    }
    // Only now: a log may make its writer wait.
    for (will, _) in &open {
        let addresses: Vec<_> = will.holdings.iter().map(|holding| holding.address).collect();
        tracing::warn!(
            router = will.router,
            ?addresses,
            "the worker died as Active; said goodbye for it and removed its addresses"
        );
    }
    Ok(Ending { routers: open.len() })
}

/// Makes sure that what comes is done at once: nothing to be read back from disk, nobody to be
/// waited for. What is not allowed is done without; the VRRP thread says so for both.
fn secure() {
    let _ = sys::schedule_round_robin(REALTIME_PRIORITY);
    // Not what comes later: where RLIMIT_MEMLOCK counts, it would fail.
    let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT);
    // Removing an address needs CAP_NET_ADMIN, and a locked stack may only grow with
    // CAP_IPC_LOCK. The socket to send from was opened by the worker.
    if let Ok(held) = capabilities(None) {
        let keep = held.permitted & (CapabilitySet::NET_ADMIN | CapabilitySet::IPC_LOCK);
        let sets = CapabilitySets {
            effective: keep,
            permitted: keep,
            inheritable: CapabilitySet::empty(),
        };
        let _ = set_capabilities(None, sets);
    }
}

enum Letter {
    Will(Will, Socket),
    Unreadable,
}

/// The next letter; `None`: the worker's end is closed.
fn receive(lifeline: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<Letter>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::io::retry_on_intr(|| {
        let parts = &mut [IoSliceMut::new(buffer)];
        recvmsg(lifeline, parts, &mut control, RecvFlags::CMSG_CLOEXEC)
    });
    let message = match message {
        Ok(message) if message.bytes == 0 => return Ok(None),
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        Ok(message) => message,
        Err(error) => return Err(error.into()),
    };
    let hand = control.drain().find_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut hands) => hands.next(),
        _ => None,
    });
    let whole = !message.flags.contains(ReturnFlags::TRUNC);
    let will = buffer.get(..message.bytes).filter(|_| whole).and_then(Will::decode);
    Ok(Some(match (will, hand) {
        (Some(will), Some(hand)) => Letter::Will(will, Socket::from(hand)),
        _ => Letter::Unreadable,
    }))
}

/// Carries wills out.
struct Executor {
    /// By index of the interface.
    tables: BTreeMap<u32, AddressTable>,
}

impl Executor {
    fn table(&mut self, interface: u32) -> io::Result<&mut AddressTable> {
        use std::collections::btree_map::Entry;
        match self.tables.entry(interface) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                Ok(entry.insert(AddressTable::new(Route::open()?, interface, 0)))
            }
        }
    }

    /// First the goodbye, then the addresses, as an Active that leaves.
    fn carry_out(&mut self, will: &Will, socket: &Socket) {
        for farewell in &will.farewells {
            let to = farewell.destination();
            if let Err(error) = socket.send_to(&farewell.message, &to.into()) {
                tracing::warn!(router = will.router, %to, %error, "no goodbye");
            }
        }
        for holding in &will.holdings {
            let table = self.table(holding.interface);
            let removed = table.and_then(|table| table.delete(holding.address, holding.prefix));
            if let Err(error) = removed {
                let address = holding.address;
                tracing::error!(router = will.router, %address, %error, "address not removed");
            }
        }
    }
}
