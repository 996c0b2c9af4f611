//! The sockets of a speaker on one interface: one per family that receives, one per virtual router
//! that sends, one for frames, and those that watch for others who claim a virtual address.
//!
//! All are opened at start: opening and above all closing an AF_PACKET socket waits for a grace
//! period of the kernel (some 20 ms), which has no place in a takeover. There are no options here
//! to decide about: what is set is what RFC 9568 sections 5.1.1 and 5.1.2 ask for.

mod claims;
pub(crate) mod filter;
mod ipv4;
mod ipv6;

use std::{
    io::{self, Read},
    net::{IpAddr, SocketAddr, SocketAddrV6},
    os::fd::{AsFd, BorrowedFd},
};

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

pub(crate) use claims::{Claim, Claims};

use self::filter::{DROP_ALL, Instruction, PASS_ALL, Wanted};
use crate::{
    checksum::PROTOCOL, config::Family, error::PacketError, interface::Interface, packet::Datagram,
    sys,
};

/// DSCP CS6, network control, as every Linux speaker sets it.
const TRAFFIC_CLASS: u32 = 0xc0;
/// Some thousand packets: what arrives in a storm while this thread is not scheduled for a moment.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Receives what is sent to the group of a family, and by unicast to this host.
#[derive(Debug)]
pub(crate) struct Receiver {
    socket: Socket,
    family: Family,
    interface: u32,
}

impl Receiver {
    /// Opens the socket in the network namespace of the calling thread and joins the group.
    pub(crate) fn open(interface: &Interface, family: Family) -> io::Result<Self> {
        let socket = raw(interface, family)?;
        // Beyond the limit for everybody, which takes CAP_NET_ADMIN; else as much as is allowed.
        if set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
        }
        match family {
            Family::V4 => ipv4::prepare_receiver(&socket, interface.index)?,
            Family::V6 => ipv6::prepare_receiver(&socket, interface.index)?,
        }
        Ok(Self { socket, family, interface: interface.index })
    }

    /// The next received packet; `None`: there is none.
    pub(crate) fn receive<'a>(
        &self,
        buffer: &'a mut [u8],
    ) -> io::Result<Option<Result<Datagram<'a>, PacketError>>> {
        let received = match self.family {
            Family::V4 => (&self.socket).read(buffer).map(|length| {
                buffer.get(..length).ok_or(PacketError::IpHeader).and_then(Datagram::parse)
            }),
            Family::V6 => ipv6::receive(&self.socket, buffer),
        };
        match received {
            Ok(datagram) => Ok(Some(datagram)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells snooping switches once more that this host wants the group. Those of 224.0.0.0/24
    /// are never pruned (RFC 4541 section 2.1.2), those of IPv6 are.
    pub(crate) fn rejoin(&self) -> io::Result<()> {
        match self.family {
            Family::V4 => Ok(()),
            Family::V6 => ipv6::rejoin(&self.socket, self.interface),
        }
    }

    /// Lets the kernel drop what is not wanted; `None`: lets everything through.
    pub(crate) fn narrow(&self, wanted: Option<&Wanted>) -> io::Result<()> {
        match (wanted, self.family) {
            (None, _) => attach(&self.socket, &PASS_ALL),
            (Some(wanted), Family::V4) => attach(&self.socket, &filter::wanted_over_ipv4(wanted)),
            (Some(wanted), Family::V6) => attach(&self.socket, &filter::wanted_over_ipv6(wanted)),
        }
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends the advertisements of one virtual router.
#[derive(Debug)]
pub(crate) struct Sender {
    socket: Socket,
    interface: u32,
}

impl Sender {
    /// Opens the socket in the network namespace of the calling thread.
    pub(crate) fn open(interface: &Interface, family: Family) -> io::Result<Self> {
        let socket = raw(interface, family)?;
        // The kernel gives every raw socket of a protocol its own copy of each packet; nobody would
        // ever read this one's.
        attach(&socket, &DROP_ALL)?;
        match family {
            Family::V4 => ipv4::prepare_sender(&socket)?,
            Family::V6 => ipv6::prepare_sender(&socket, interface.index)?,
        }
        Ok(Self { socket, interface: interface.index })
    }

    /// Sends from `source` from now on. Fails unless it is a usable address of this host.
    pub(crate) fn set_source(&self, source: IpAddr) -> io::Result<()> {
        self.socket.bind(&self.scoped(source).into())
    }

    /// Sends a VRRP message to the group or to a peer.
    pub(crate) fn send(&self, message: &[u8], destination: IpAddr) -> io::Result<()> {
        self.socket.send_to(message, &self.scoped(destination).into()).map(drop)
    }

    /// Link-local addresses mean something only together with an interface.
    fn scoped(&self, address: IpAddr) -> SocketAddr {
        match address {
            IpAddr::V4(_) => SocketAddr::new(address, 0),
            IpAddr::V6(address) => {
                let is_local = address.is_unicast_link_local() || address.is_multicast();
                let scope = if is_local { self.interface } else { 0 };
                SocketAddrV6::new(address, 0, 0, scope).into()
            }
        }
    }
}

/// Sends as [`Sender::send`] does.
impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends frames: gratuitous ARP, neighbour advertisements, probes.
#[derive(Debug)]
pub(crate) struct Frames(Socket);

impl Frames {
    /// Opens the socket in the network namespace of the calling thread. It receives nothing.
    pub(crate) fn open(interface: &Interface) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        socket.bind(&sys::packet_address(interface.index, 0)?)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// Sends a whole Ethernet frame.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame).map(drop)
    }
}

fn raw(interface: &Interface, family: Family) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(PROTOCOL))))?;
    socket.bind_device(Some(interface.name.as_bytes()))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn attach(socket: &Socket, program: &[Instruction]) -> io::Result<()> {
    let program: Vec<_> = program
        .iter()
        .map(|&Instruction { code, if_true, if_false, operand }| {
            SockFilter::new(code, if_true, if_false, operand)
        })
        .collect();
    socket.attach_filter(&program)
}
