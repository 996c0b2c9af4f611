//! The stream of news about links and addresses of the whole network namespace.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::{RouteNetlinkMessage, link::LinkAttribute};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::{
    addresses::is_tagged,
    error::{Error, system},
    interface::local_address,
    netlink::messages,
};

const GROUP_LINK: u32 = 1;
const GROUP_IPV4_ADDRESS: u32 = 5;
const GROUP_IPV6_ADDRESS: u32 = 9;

/// What the news must be about to matter.
#[derive(Debug)]
pub(crate) struct Interest<'a> {
    /// The indices of our interfaces.
    pub(crate) indices: Vec<u32>,
    /// The names of those that are missing.
    pub(crate) missing: Vec<&'a str>,
    /// Our virtual addresses, whose renewals are no news.
    pub(crate) ours: &'a [IpAddr],
    /// Addresses of this host that matter wherever they are: configured sources.
    pub(crate) sources: &'a [IpAddr],
}

/// News about links and addresses of the whole namespace.
#[derive(Debug)]
pub(crate) struct Watch {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Watch {
    /// Subscribes; news from now on are kept until [`Self::drain`].
    pub(crate) fn open() -> Result<Self, Error> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            for group in [GROUP_LINK, GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS] {
                socket.add_membership(group)?;
            }
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let socket = open().map_err(system("subscribing to link changes"))?;
        Ok(Self { socket, buffer: Vec::with_capacity(32 * 1024) })
    }

    /// Reads all news and says whether any may matter.
    pub(crate) fn drain(&mut self, interest: &Interest<'_>) -> bool {
        let mut matters = false;
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {
                    matters |= messages(&self.buffer).any(|message| match message {
                        Ok(message) => interest.matters(&message.payload),
                        Err(_) => true,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return matters,
                // Most likely an overrun: something was missed.
                Err(_) => return true,
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Interest<'_> {
    fn matters(&self, payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
        let NetlinkPayload::InnerMessage(message) = payload else { return false };
        match message {
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
                let is_missing = |attribute: &LinkAttribute| match attribute {
                    LinkAttribute::IfName(name) => self.missing.contains(&name.as_str()),
                    _ => false,
                };
                self.indices.contains(&link.header.index) || link.attributes.iter().any(is_missing)
            }
            RouteNetlinkMessage::DelAddress(address) => {
                self.indices.contains(&address.header.index)
                    || local_address(address).is_some_and(|local| self.sources.contains(&local))
            }
            RouteNetlinkMessage::NewAddress(address) => match local_address(address) {
                Some(local) if self.sources.contains(&local) => true,
                // Renewed by us, unless it is somebody else who adds it.
                Some(local) if self.ours.contains(&local) => !is_tagged(address),
                _ => self.indices.contains(&address.header.index),
            },
            _ => false,
        }
    }
}
