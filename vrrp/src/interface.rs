//! The interface a virtual router lives on: its index, MAC address and whether it can carry traffic.
//!
//! It is followed by its index, so that a rename changes nothing but what it is called. One that was
//! removed is found again by the name it was configured with.

use std::{io, net::IpAddr};

use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkMessage},
};

use crate::{announce::Mac, error::Error, netlink::Route};

/// An interface as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// What it is called now.
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) mac: Mac,
    /// Administratively up and with carrier.
    pub(crate) running: bool,
    /// It exists.
    pub(crate) present: bool,
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
        let running = is_running(&link);
        Ok(Self { name: name.to_owned(), index, mac, running, present: true })
    }

    /// Reads the interface again. One that is gone is not running.
    pub(crate) fn reread(&mut self, route: &mut Route) -> io::Result<()> {
        let mut request = LinkMessage::default();
        request.header.index = self.index;
        match route.request(RouteNetlinkMessage::GetLink(request), 0) {
            Ok(answers) => {
                if let Some(RouteNetlinkMessage::NewLink(link)) = answers.into_iter().next() {
                    self.present = true;
                    self.running = is_running(&link);
                    self.mac = mac(&link).unwrap_or(self.mac);
                    if let Some(name) = name(&link).filter(|name| *name != self.name) {
                        tracing::warn!(
                            interface = self.name,
                            new_name = name,
                            "the interface was renamed; vrrp stays on it"
                        );
                        name.clone_into(&mut self.name);
                    }
                }
                Ok(())
            }
            Err(error) if is_no_device(&error) => {
                self.running = false;
                self.present = false;
                Ok(())
            }
            Err(error) => Err(error),
        }
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

fn is_running(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up | LinkFlags::Running)
}

fn mac(link: &LinkMessage) -> Option<Mac> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => Mac::try_from(bytes.as_slice()).ok(),
        _ => None,
    })
}

fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn is_no_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENODEV)
}
