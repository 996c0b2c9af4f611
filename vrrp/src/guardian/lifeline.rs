//! The worker's end of the socket pair: tells the guardian without ever waiting for it.
//!
//! The kernel closes what a dying process had open one by one, the highest descriptor first
//! (deferred closing works from the last to the first; nothing depends on it but time). The
//! lifeline therefore sits above all connections: the guardian acts before the clients of the
//! dead worker are told anything, and no client comes back while the dead node still answers.
//! Right below it is the *fence*, a packet socket whose closing waits for a grace period of the
//! kernel, some 20 ms: the connections are closed after that, when their address is gone and
//! their last segments lead nowhere. A client that sees its connection end before the successor
//! is there would lose a second to its SYN timer.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        SocketFlags, SocketType, recv, sendmsg, socketpair,
    },
    process::{Resource, getrlimit},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::will::Will;

/// Where the lifeline goes at most: the kernel keeps a table up to the highest descriptor, eight
/// bytes for each.
const HIGHEST: u64 = 65_535;

/// What the guardian says once it can act.
pub(super) const READY: &[u8] = b"ready";

/// The VRRP thread's hand on the worker's end.
#[derive(Debug)]
pub struct Lifeline(OwnedFd);

/// The hand of whoever keeps the guardian alive. Not to be dropped on the VRRP thread: closing the
/// fence takes its time.
#[derive(Debug)]
pub struct Observer {
    socket: OwnedFd,
    /// Never used, only closed.
    _fence: Option<Socket>,
}

/// What became of a will.
#[derive(Debug)]
pub(crate) enum Told {
    /// The guardian has it.
    Done,
    /// The guardian does not read, or the kernel has no room; to be told again later.
    Later,
    /// There is no guardian any more.
    Gone(io::Error),
}

/// Makes both ends: two hands on the worker's, and the one that becomes standard input of the
/// guardian. The worker's closes when the process is gone and both hands with it.
///
/// # Errors
/// No more file descriptors.
pub fn pair() -> io::Result<(Lifeline, Observer, OwnedFd)> {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let socket = raise(ours.try_clone()?, 1);
    // Without CAP_NET_RAW there is no fence, and no speaker either.
    let fence = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).ok();
    let fence = fence.map(|fence| Socket::from(raise(fence.into(), 2)));
    Ok((Lifeline(ours), Observer { socket, _fence: fence }, theirs))
}

/// The same file under the highest descriptor that is free, or where it was.
fn raise(fd: OwnedFd, places: u64) -> OwnedFd {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(HIGHEST).min(HIGHEST);
    let floor = i32::try_from(limit.saturating_sub(places)).unwrap_or(0);
    // A descriptor of a predecessor may still be there; some places below do as well.
    let lower = [0, 8, 64].into_iter().map(|less| floor.saturating_sub(less).max(0));
    let mut lower = lower.filter_map(|floor| rustix::io::fcntl_dupfd_cloexec(&fd, floor).ok());
    lower.next().unwrap_or(fd)
}

impl Lifeline {
    /// Leaves a will, with a hand on the socket that farewells are sent from.
    pub(crate) fn tell(&self, will: &Will, sender: BorrowedFd<'_>) -> Told {
        let message = will.encode();
        let hands = [sender];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&hands));
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(&self.0, &[IoSlice::new(&message)], &mut control, flags) {
            Ok(_) => Told::Done,
            Err(error @ (Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN)) => {
                Told::Gone(error.into())
            }
            Err(_) => Told::Later,
        }
    }
}

impl Observer {
    /// Waits until the guardian can act; false: it ended before that.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait_ready(&self) -> io::Result<bool> {
        let mut word = [0; READY.len() + 1];
        let (length, _) = retry(|| recv(&self.socket, &mut word, RecvFlags::empty()))?;
        Ok(word.get(..length) == Some(READY))
    }

    /// Waits until the guardian is gone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait_end(&self) -> io::Result<()> {
        let mut word = [0; 16];
        loop {
            match retry(|| recv(&self.socket, &mut word, RecvFlags::empty())) {
                Ok((0, _)) => return Ok(()),
                Ok(_) => {}
                // It died with something unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    Ok(rustix::io::retry_on_intr(&mut call)?)
}
