//! Watching for others who claim a virtual address: a host with the same address, or a second Active
//! that cannot hear us.
//!
//! The kernel lets only ARP packets and neighbour advertisements about our addresses through, and
//! never shows a packet socket of one protocol what this host sends itself.

use std::{
    io::{self, Read},
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{
    attach,
    filter::{Instruction, claims_by_arp, claims_by_neighbour},
};
use crate::{announce, announce::Mac, config::Family, interface::Interface, neighbour, sys};

/// An address and where somebody says it is.
pub(crate) type Claim = (IpAddr, Mac);

/// Enough for the headers that are read.
const BUFFER: usize = 256;

/// The watch over the addresses of one family on one interface.
#[derive(Debug)]
pub(crate) struct Claims {
    socket: Socket,
    family: Family,
}

impl Claims {
    /// Opens the socket in the network namespace of the calling thread.
    pub(crate) fn open(
        interface: &Interface,
        family: Family,
        addresses: &[IpAddr],
    ) -> io::Result<Self> {
        let (protocol, program): (i32, Vec<Instruction>) = match family {
            Family::V4 => (libc::ETH_P_ARP, claims_by_arp(addresses.iter().filter_map(v4))),
            Family::V6 => (libc::ETH_P_IPV6, claims_by_neighbour(addresses.iter().filter_map(v6))),
        };
        // Nothing arrives before the address is bound, and by then the filter stands.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        attach(&socket, &program)?;
        let protocol = u16::try_from(protocol).map_err(io::Error::other)?;
        socket.bind(&sys::packet_address(interface.index, protocol)?)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, family })
    }

    /// The next claim; `None`: there is none.
    pub(crate) fn next(&self) -> Option<Claim> {
        let mut buffer = [0; BUFFER];
        // An error is that of an interface that went down, which the watch over links tells.
        while let Ok(length) = (&self.socket).read(&mut buffer) {
            let frame = buffer.get(..length).unwrap_or_default();
            let claim = match self.family {
                Family::V4 => announce::read_claim(frame).map(|(at, mac)| (at.into(), mac)),
                Family::V6 => {
                    neighbour::read_advertisement(frame).map(|(at, mac)| (at.into(), mac))
                }
            };
            if claim.is_some() {
                return claim;
            }
        }
        None
    }
}

impl AsFd for Claims {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn v4(address: &IpAddr) -> Option<std::net::Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    }
}

fn v6(address: &IpAddr) -> Option<std::net::Ipv6Addr> {
    match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    }
}
