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
/// in order. From now on SIGTERM, SIGINT, SIGHUP and SIGABRT are ignored: the guardian leaves after the
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

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::guardian::{
        lifeline::{Told, pair},
        will::Farewell,
    };

    fn will(message: &[u8], to: &UdpSocket) -> Will {
        let to = to.local_addr().unwrap().ip();
        let farewells = vec![Farewell { to, scope: 0, message: message.into() }];
        Will { router: "web".into(), active: true, farewells, holdings: vec![] }
    }

    fn next(theirs: &impl AsFd) -> Option<Letter> {
        receive(theirs.as_fd(), &mut vec![0; BUFFER]).unwrap()
    }

    #[test]
    fn a_will_comes_with_a_hand_on_the_socket_and_the_end_of_the_worker_is_seen_after_it() {
        let (lifeline, observer, theirs) = pair().unwrap();
        let ear = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mouth = UdpSocket::bind("127.0.0.1:0").unwrap();
        mouth.connect(ear.local_addr().unwrap()).unwrap();
        let left = will(b"goodbye", &ear);
        assert!(matches!(lifeline.tell(&left, mouth.as_fd()), Told::Done));
        drop((lifeline, observer, mouth));

        let Some(Letter::Will(found, socket)) = next(&theirs) else { panic!("no will") };
        assert_eq!(found, left);
        assert!(next(&theirs).is_none(), "the worker is gone");
        socket.send(&found.farewells[0].message).unwrap();
        let mut heard = [0; 16];
        ear.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let length = ear.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"goodbye");
    }

    #[test]
    fn a_guardian_that_does_not_read_is_told_later_and_one_that_is_gone_never() {
        let (lifeline, observer, theirs) = pair().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let will = will(&[0; 1000], &socket);
        let mut told = 0;
        while let Told::Done = lifeline.tell(&will, socket.as_fd()) {
            told += 1;
            assert!(told < 100_000, "a full queue is noticed");
        }
        assert!(matches!(lifeline.tell(&will, socket.as_fd()), Told::Later));
        assert!(next(&theirs).is_some());
        assert!(matches!(lifeline.tell(&will, socket.as_fd()), Told::Done), "room again");
        drop(theirs);
        assert!(matches!(lifeline.tell(&will, socket.as_fd()), Told::Gone(_)));
        observer.wait_end().unwrap();
    }

    #[test]
    fn a_guardian_that_ends_before_it_is_ready_is_noticed() {
        let (_lifeline, observer, theirs) = pair().unwrap();
        drop(theirs);
        assert!(!observer.wait_ready().unwrap());
        let (_lifeline, observer, theirs) = pair().unwrap();
        send(&theirs, READY, SendFlags::NOSIGNAL).unwrap();
        assert!(observer.wait_ready().unwrap());
    }

    #[test]
    fn what_is_no_will_is_passed_over() {
        let (lifeline, _observer, theirs) = pair().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let whole = will(&[7; 100], &socket);
        lifeline.tell(&whole, socket.as_fd());
        // A buffer too small for it stands for a letter cut short.
        let cut = receive(theirs.as_fd(), &mut [0; 20]).unwrap();
        assert!(matches!(cut, Some(Letter::Unreadable)));
        lifeline.tell(&whole, socket.as_fd());
        assert!(matches!(next(&theirs), Some(Letter::Will(..))));
    }
}
