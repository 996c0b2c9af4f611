//! The sockets of a speaker, all opened at start.
//!
//! Opening and above all closing an AF_PACKET socket waits for a grace period of the kernel (some
//! 20 ms), which has no place in a takeover. There are no options here to decide about: what is
//! set is what RFC 9568 section 5.1.1 asks for.

use std::{
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsFd, BorrowedFd},
};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockFilter, Socket, Type};

use crate::{
    announce::ArpFrame,
    checksum::PROTOCOL,
    error::{Error, system},
    interface::Interface,
    packet::TTL,
    sys,
};

/// DSCP CS6, network control, as every Linux speaker sets it.
const TOS: u32 = 0xc0;
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// `return 0` in classic BPF: drop whatever arrives.
const DROP_ALL: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// Sends and receives on one interface.
#[derive(Debug)]
pub(crate) struct Link {
    receiver: Socket,
    sender: Socket,
    packet: Socket,
}

impl Link {
    /// Opens the sockets in the network namespace of the calling thread.
    ///
    /// # Errors
    /// CAP_NET_RAW is missing, or the interface is gone.
    pub(crate) fn open(interface: &Interface) -> Result<Self, Error> {
        Ok(Self {
            receiver: receiver(interface).map_err(system("opening the receiving raw socket"))?,
            sender: sender(interface).map_err(system("opening the sending raw socket"))?,
            packet: packet(interface).map_err(system("opening the packet socket"))?,
        })
    }

    /// Sends from `source` from now on. Fails unless it is an address of this host.
    pub(crate) fn set_source(&self, source: IpAddr) -> io::Result<()> {
        self.sender.bind(&SocketAddr::new(source, 0).into())
    }

    /// Sends a VRRP message to the group.
    pub(crate) fn send(&self, message: &[u8]) -> io::Result<()> {
        let group: SockAddr = SocketAddrV4::new(GROUP, 0).into();
        self.sender.send_to(message, &group).map(drop)
    }

    /// The socket [`Self::send`] uses.
    pub(crate) fn sender(&self) -> BorrowedFd<'_> {
        self.sender.as_fd()
    }

    /// Sends an ARP frame.
    pub(crate) fn send_frame(&self, frame: &ArpFrame) -> io::Result<()> {
        self.packet.send(frame).map(drop)
    }

    /// The next received packet with its IP header; `None`: there is none.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match (&self.receiver).read(buffer) {
            Ok(length) => Ok(buffer.get(..length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Readable when [`Link::receive`] has something.
impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

fn raw(interface: &Interface) -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(PROTOCOL));
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol))?;
    socket.bind_device(Some(interface.name.as_bytes()))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn receiver(interface: &Interface) -> io::Result<Socket> {
    let socket = raw(interface)?;
    // Only what was joined by this socket, and only what was sent to the group.
    socket.set_multicast_all_v4(false)?;
    socket.join_multicast_v4_n(&GROUP, &InterfaceIndexOrAddress::Index(interface.index))?;
    socket.bind(&SocketAddrV4::new(GROUP, 0).into())?;
    Ok(socket)
}

fn sender(interface: &Interface) -> io::Result<Socket> {
    let socket = raw(interface)?;
    // The kernel gives every raw socket of a protocol its own copy of each packet; nobody would
    // ever read this one's.
    socket.attach_filter(&DROP_ALL)?;
    socket.set_multicast_ttl_v4(u32::from(TTL))?;
    socket.set_multicast_loop_v4(false)?;
    socket.set_tos_v4(TOS)?;
    Ok(socket)
}

fn packet(interface: &Interface) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    socket.bind(&sys::packet_address(interface.index)?)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
