//! Virtual addresses on an interface, by netlink.
//!
//! They are added as /32 or /128, so that deleting another address of the host never takes them along,
//! and with a lease: unless it is renewed, the kernel itself drops the address. A process that was
//! killed or hangs therefore cannot keep an address from its successor. A protocol tag tells our
//! addresses from everybody else's.

use std::{io, net::IpAddr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo},
};

use crate::{
    error::{Error, system},
    interface::{Interface, local_address},
    netlink::Route,
};

/// IFA_PROTO of our addresses: the protocol number of VRRP. Kernels before 5.18 ignore it.
const TAG: AddressProtocol = AddressProtocol::Other(112);

/// An address found on the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
    /// Added by a speaker, this one or one before.
    pub(crate) is_tagged: bool,
    is_secondary: bool,
}

impl Found {
    /// Whether it has the prefix that a speaker adds addresses with.
    fn is_host_route(&self) -> bool {
        self.prefix == host_prefix(self.address)
    }
}

fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The addresses of one interface.
#[derive(Debug)]
pub(crate) struct AddressTable {
    route: Route,
    interface: u32,
    lease: u32,
}

impl AddressTable {
    /// A table whose additions live for `lease` seconds.
    pub(crate) fn new(route: Route, interface: u32, lease: u32) -> Self {
        Self { route, interface, lease }
    }

    /// Adds an address, or renews its lease.
    pub(crate) fn add(&mut self, address: IpAddr) -> io::Result<()> {
        let mut message = self.message(address);
        let mut cache = CacheInfo::default();
        cache.ifa_preferred = self.lease;
        cache.ifa_valid = self.lease;
        message.attributes.push(AddressAttribute::CacheInfo(cache));
        message.attributes.push(AddressAttribute::Protocol(TAG));
        let request = RouteNetlinkMessage::NewAddress(message);
        self.route.request(request, NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }

    /// Removes an address and says whether it was there.
    pub(crate) fn remove(&mut self, address: IpAddr) -> io::Result<bool> {
        let request = RouteNetlinkMessage::DelAddress(self.message(address));
        match self.route.request(request, 0) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Everything IPv4 on the interface, in the kernel's order.
    pub(crate) fn list(&mut self) -> io::Result<Vec<Found>> {
        let mut request = AddressMessage::default();
        request.header.family = AddressFamily::Inet;
        request.header.index = self.interface;
        let answers = self.route.dump(RouteNetlinkMessage::GetAddress(request))?;
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(message)
                    if message.header.index == self.interface =>
                {
                    found(message)
                }
                _ => None,
            })
            .collect())
    }

    /// Takes off what an earlier process left behind: the addresses `ours` and everything with
    /// our tag. Returns how many there were.
    ///
    /// # Errors
    /// An address of ours with another prefix than /32 or /128 was not put there by a speaker; two hosts
    /// would own it from now on.
    pub(crate) fn remove_leftovers(
        &mut self,
        interface: &Interface,
        ours: &[IpAddr],
    ) -> Result<usize, Error> {
        let present = self.list().map_err(system("listing the addresses of the interface"))?;
        if let Some(found) =
            present.iter().find(|found| ours.contains(&found.address) && !found.is_host_route())
        {
            return Err(Error::StaticAddress {
                interface: interface.name.clone(),
                address: found.address,
                prefix: found.prefix,
            });
        }
        let mut removed = 0;
        for found in present.iter().filter(|found| found.is_host_route()) {
            if found.is_tagged || ours.contains(&found.address) {
                let was_there =
                    self.remove(found.address).map_err(system("removing a leftover address"))?;
                removed += usize::from(was_there);
            }
        }
        Ok(removed)
    }

    /// The socket for questions about the interface itself.
    pub(crate) fn route(&mut self) -> &mut Route {
        &mut self.route
    }

    fn message(&self, address: IpAddr) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = host_prefix(address);
        message.header.index = self.interface;
        message.attributes.push(AddressAttribute::Local(address));
        message.attributes.push(AddressAttribute::Address(address));
        message
    }
}

/// The address that advertisements are sent from: the first of the host's own, never a virtual
/// one. A virtual address as source once made a split brain of a keepalived pair after a reload.
pub(crate) fn choose_source(present: &[Found], ours: &[IpAddr]) -> Option<IpAddr> {
    let mut own = present.iter().filter(|found| !found.is_tagged && !ours.contains(&found.address));
    let first = own.clone().next();
    own.find(|found| !found.is_secondary).or(first).map(|found| found.address)
}

/// Removes virtual addresses that a speaker left on `interface`, and returns how many there were.
///
/// For use after a speaker that could not clean up, such as a killed process (`ExecStopPost=`). It
/// touches only /32 and /128 addresses, the form in which a speaker adds them.
///
/// # Errors
/// The interface does not exist, or CAP_NET_ADMIN is missing.
pub fn release(interface: &str, addresses: &[IpAddr]) -> Result<usize, Error> {
    let mut route = Route::open().map_err(system("opening netlink"))?;
    let interface = Interface::find(&mut route, interface)?;
    let mut table = AddressTable::new(route, interface.index, 0);
    let mut removed = 0;
    for address in addresses {
        let was_there = table.remove(*address).map_err(system("removing a virtual address"))?;
        removed += usize::from(was_there);
    }
    Ok(removed)
}

fn found(message: &AddressMessage) -> Option<Found> {
    Some(Found {
        address: local_address(message)?,
        prefix: message.header.prefix_len,
        is_tagged: message.attributes.contains(&AddressAttribute::Protocol(TAG)),
        is_secondary: message.header.flags.contains(AddressHeaderFlags::Secondary),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(last: u8, is_tagged: bool, is_secondary: bool) -> Found {
        let address = IpAddr::from([10, 99, 0, last]);
        Found { address, prefix: 24, is_tagged, is_secondary }
    }

    #[test]
    fn the_source_is_never_a_virtual_address() {
        let ours = [IpAddr::from([10, 99, 0, 100])];
        let source = |present: &[Found]| {
            choose_source(present, &ours).map(|address| match address {
                IpAddr::V4(address) => address.octets()[3],
                IpAddr::V6(_) => 0,
            })
        };
        assert_eq!(source(&[]), None);
        assert_eq!(source(&[found(100, true, false)]), None);
        assert_eq!(source(&[found(100, false, false)]), None, "however it came there");
        assert_eq!(source(&[found(99, true, false), found(1, false, false)]), Some(1));
        assert_eq!(source(&[found(2, false, true), found(1, false, false)]), Some(1));
        assert_eq!(source(&[found(2, false, true)]), Some(2), "better than nothing");
    }
}
