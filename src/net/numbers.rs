//! How far a TCP connection has come: the sequence numbers at its start, and what has moved since.
//! All `unsafe` of this room.
//!
//! The numbers themselves are told only in repair mode, in which the kernel fails reads and holds
//! back what is sent; so they are asked for once, by the owner of a socket on which nothing moves
//! yet. From then on `TCP_INFO`, which disturbs nothing, tells how many bytes have moved.

#![expect(unsafe_code, reason = "two socket options without a safe wrapper, each argued below")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_void, socklen_t};
use socket2::SockRef;

/// Values of `TCP_REPAIR`: off without a probe of the window, and on.
const LEAVE: c_int = -1;
const ENTER: c_int = 1;

/// Values of `TCP_REPAIR_QUEUE`.
const RECEIVE_QUEUE: c_int = 1;
const SEND_QUEUE: c_int = 2;

/// How often a client may interrupt by sending something.
const ATTEMPTS: usize = 4;

/// The next number of each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// The next our end sends.
    pub send: u32,
    /// The next our end expects.
    pub receive: u32,
}

/// The numbers before the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start(Numbers);

impl Start {
    /// Asks the kernel; `CAP_NET_ADMIN`. Only for a socket on which this end has not sent
    /// anything and nobody else reads meanwhile.
    pub(super) fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        for _attempt in 0..ATTEMPTS {
            let before = Moved::of(socket)?;
            let Numbers { send, receive } = repair(socket)?;
            let after = Moved::of(socket)?;
            if before == after && after.is_still() {
                let back = |number: u32, moved: u64| number.wrapping_sub(wrapped(moved));
                return Ok(Self(Numbers {
                    send: back(send, after.acknowledged),
                    receive: back(receive, after.received),
                }));
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// The numbers now; `None` while something this end has sent is under way.
    pub(super) fn now(self, socket: BorrowedFd<'_>) -> io::Result<Option<Numbers>> {
        let moved = Moved::of(socket)?;
        let Self(Numbers { send, receive }) = self;
        Ok(moved.is_still().then(|| Numbers {
            send: send.wrapping_add(wrapped(moved.acknowledged)),
            receive: receive.wrapping_add(wrapped(moved.received)),
        }))
    }
}

/// Sequence numbers begin again after 2^32.
fn wrapped(bytes: u64) -> u32 {
    let low = bytes & u64::from(u32::MAX);
    u32::try_from(low).unwrap_or_default()
}

/// Reads both numbers in repair mode, and leaves it whatever happens.
fn repair(socket: BorrowedFd<'_>) -> io::Result<Numbers> {
    set(socket, libc::TCP_REPAIR, ENTER)?;
    let numbers = read(socket, SEND_QUEUE)
        .and_then(|send| Ok(Numbers { send, receive: read(socket, RECEIVE_QUEUE)? }));
    set(socket, libc::TCP_REPAIR, LEAVE)?;
    // Leaving clears SO_REUSEADDR too, and a connection in TIME_WAIT without it would keep a
    // restarted node from its own port.
    SockRef::from(&socket).set_reuse_address(true)?;
    numbers
}

fn read(socket: BorrowedFd<'_>, queue: c_int) -> io::Result<u32> {
    set(socket, libc::TCP_REPAIR_QUEUE, queue)?;
    let mut number = [0; 4];
    get(socket, libc::TCP_QUEUE_SEQ, &mut number)?;
    Ok(u32::from_ne_bytes(number))
}

/// What has moved since the start, from `struct tcp_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moved {
    /// Bytes this end has sent and the other has acknowledged.
    acknowledged: u64,
    /// Bytes that came from the other end.
    received: u64,
    /// Segments this end has sent and the other has not acknowledged.
    under_way: u32,
    /// Bytes this end has not sent yet.
    unsent: u32,
}

impl Moved {
    fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        // As far as Linux 4.6 fills it in; the layout is ABI.
        let mut info = [0; 148];
        get(socket, libc::TCP_INFO, &mut info)?;
        let long = |at: usize| {
            let bytes = info.get(at..).and_then(|rest| rest.first_chunk());
            u64::from_ne_bytes(*bytes.unwrap_or(&[0; 8]))
        };
        let word = |at: usize| {
            let bytes = info.get(at..).and_then(|rest| rest.first_chunk());
            u32::from_ne_bytes(*bytes.unwrap_or(&[0; 4]))
        };
        Ok(Self {
            acknowledged: long(120),
            received: long(128),
            under_way: word(24),
            unsent: word(144),
        })
    }

    fn is_still(&self) -> bool {
        self.under_way == 0 && self.unsent == 0
    }
}

fn set(socket: BorrowedFd<'_>, option: c_int, value: c_int) -> io::Result<()> {
    let length = socklen_t::try_from(size_of::<c_int>()).map_err(io::Error::other)?;
    let value: *const c_int = &raw const value;
    // SAFETY: the descriptor is open for as long as it is borrowed; `value` points to an int that
    // outlives the call, and `length` is its size.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            value.cast::<c_void>(),
            length,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Fills `value`; an answer of another length is an error.
fn get(socket: BorrowedFd<'_>, option: c_int, value: &mut [u8]) -> io::Result<()> {
    let wanted = socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    let mut length = wanted;
    // SAFETY: the descriptor is open for as long as it is borrowed; the kernel writes at most
    // `length` bytes, which is the size of `value`, and updates `length`; both outlive the call.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            value.as_mut_ptr().cast::<c_void>(),
            &raw mut length,
        )
    };
    match done {
        0 if length == wanted => Ok(()),
        0 => Err(io::ErrorKind::Unsupported.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn at_rest(start: Start, socket: &TcpStream) -> Numbers {
        loop {
            if let Some(numbers) = start.now(socket.as_fd()).unwrap() {
                return numbers;
            }
            sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn numbers_follow_what_is_sent_and_received() {
        let (mut client, mut server) = pair();
        // What a client has sent before it was accepted is counted too.
        client.write_all(b"early").unwrap();
        server.peek(&mut [0]).unwrap();
        let start = Start::of(server.as_fd()).unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        server.write_all(&[7; 70_000]).unwrap();
        client.read_exact(&mut [0; 70_000]).unwrap();
        client.write_all(&[8; 300]).unwrap();
        server.read_exact(&mut [0; 300]).unwrap();
        let told = at_rest(start, &server);
        assert_eq!(told, repair(server.as_fd()).unwrap(), "the kernel's own numbers");
        let theirs = repair(client.as_fd()).unwrap();
        assert_eq!((told.send, told.receive), (theirs.receive, theirs.send));
    }

    #[test]
    fn asking_leaves_the_connection_as_it_was() {
        let (mut client, mut server) = pair();
        SockRef::from(&server).set_reuse_address(true).unwrap();
        Start::of(server.as_fd()).unwrap();
        assert!(SockRef::from(&server).reuse_address().unwrap(), "else a restart cannot listen");
        for word in [b"ping", b"pong"] {
            client.write_all(word).unwrap();
            let mut read = [0; 4];
            server.read_exact(&mut read).unwrap();
            server.write_all(&read).unwrap();
            client.read_exact(&mut read).unwrap();
            assert_eq!(&read, word);
        }
    }
}
