//! Sends tickles. What they are made of is in `segment`, whom they go to in `pace`.

use std::io;
use std::net::{IpAddr, SocketAddr};

use cluster::flows::Flow;
use socket2::{Domain, Protocol, Socket, Type};

use super::segment::segments;

/// Sends through raw sockets that were opened at start: opening one in the middle of a takeover
/// would cost more than the takeover.
#[derive(Debug)]
pub struct Tickler {
    ipv4: Socket,
    /// Not on a machine without IPv6.
    ipv6: Option<Socket>,
}

impl Tickler {
    /// Opens the raw sockets (`CAP_NET_RAW`).
    ///
    /// # Errors
    /// The kernel's, usually a missing capability.
    pub fn open() -> io::Result<Self> {
        Ok(Self { ipv4: raw(Domain::IPV4)?, ipv6: raw(Domain::IPV6).ok() })
    }

    /// Tickles the client of one connection. Never waits.
    ///
    /// # Errors
    /// The first segment the kernel would not send; later ones are not tried. See [`is_no_room`].
    pub fn tickle(&self, flow: &Flow) -> io::Result<()> {
        let ip = flow.client.ip().to_canonical();
        let socket = match ip {
            IpAddr::V4(_) => Some(&self.ipv4),
            IpAddr::V6(_) => self.ipv6.as_ref(),
        };
        let socket = socket.ok_or(io::ErrorKind::Unsupported)?;
        // IPv6 sockets of this kind refuse a port.
        let to = SocketAddr::new(ip, 0).into();
        for segment in segments(flow.server, flow.client, flow.sequence) {
            socket.send_to(segment.bytes(), &to)?;
        }
        Ok(())
    }
}

/// Whether the kernel could not take a segment now and will be able to soon: the socket's buffer
/// or the interface's queue is full.
pub fn is_no_room(error: &io::Error) -> bool {
    let full = [libc::ENOBUFS, libc::ENOMEM];
    error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error().is_some_and(|code| full.contains(&code))
}

fn raw(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
