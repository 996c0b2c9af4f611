//! The interface a speaker lives on: its index, MAC address and whether it can carry traffic, and
//! the stream of news about it.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::{
    announce::Mac,
    error::{Error, system},
    netlink::{Route, messages},
};

const GROUP_LINK: u32 = 1;
const GROUP_IPV4_ADDRESS: u32 = 5;

/// An interface as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) mac: Mac,
    /// Administratively up and with carrier.
    pub(crate) running: bool,
}

impl Interface {
    /// Finds an interface by name.
    pub(crate) fn find(route: &mut Route, name: &str) -> Result<Self, Error> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let answers = match route.request(RouteNetlinkMessage::GetLink(request), 0) {
            Ok(answers) => answers,
            Err(error) if is_no_device(&error) => {
                return Err(Error::NoInterface(name.to_owned()));
            }
            Err(source) => return Err(Error::System { what: "reading the interface", source }),
        };
        let Some(RouteNetlinkMessage::NewLink(link)) = answers.into_iter().next() else {
            return Err(Error::Netlink("a request for an interface"));
        };
        let mac = mac(&link).ok_or_else(|| Error::NotEthernet(name.to_owned()))?;
        let index = link.header.index;
        Ok(Self { name: name.to_owned(), index, mac, running: is_running(&link) })
    }

    /// Reads the interface again. One that is gone is not running.
    pub(crate) fn reread(&mut self, route: &mut Route) -> io::Result<()> {
        let mut request = LinkMessage::default();
        request.header.index = self.index;
        match route.request(RouteNetlinkMessage::GetLink(request), 0) {
            Ok(answers) => {
                if let Some(RouteNetlinkMessage::NewLink(link)) = answers.into_iter().next() {
                    self.running = is_running(&link);
                    self.mac = mac(&link).unwrap_or(self.mac);
                }
                Ok(())
            }
            Err(error) if is_no_device(&error) => {
                self.running = false;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
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
            socket.add_membership(GROUP_LINK)?;
            socket.add_membership(GROUP_IPV4_ADDRESS)?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let socket = open().map_err(system("subscribing to link changes"))?;
        Ok(Self { socket, buffer: Vec::with_capacity(32 * 1024) })
    }

    /// Reads all news and says whether any may matter to the interfaces `indices`, apart from
    /// renewals of the addresses `ours`.
    pub(crate) fn drain(&mut self, indices: &[u32], ours: &[IpAddr]) -> bool {
        let mut matters = false;
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {
                    matters |= messages(&self.buffer).any(|message| match message {
                        Ok(message) => is_news(&message.payload, indices, ours),
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

/// The address a message is about.
pub(crate) fn local_address(message: &AddressMessage) -> Option<IpAddr> {
    // IPv6 has a local attribute only on point-to-point links.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

fn is_news(
    payload: &NetlinkPayload<RouteNetlinkMessage>,
    indices: &[u32],
    ours: &[IpAddr],
) -> bool {
    let NetlinkPayload::InnerMessage(message) = payload else { return false };
    match message {
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            indices.contains(&link.header.index)
        }
        RouteNetlinkMessage::DelAddress(address) => indices.contains(&address.header.index),
        RouteNetlinkMessage::NewAddress(address) => {
            indices.contains(&address.header.index)
                && local_address(address).is_none_or(|local| !ours.contains(&local))
        }
        _ => false,
    }
}

fn is_running(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up | LinkFlags::Running)
}

fn mac(link: &LinkMessage) -> Option<Mac> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => Mac::try_from(bytes.as_slice()).ok(),
        _ => None,
    })
}

fn is_no_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENODEV)
}
