//! Virtual addresses on an interface, by netlink.
//!
//! They are added as /32 or /128 unless configured otherwise, so that deleting another address of
//! the host never takes them along, and with a lease: unless it is renewed, the kernel itself drops
//! the address. A process that was killed or hangs therefore cannot keep an address from its
//! successor. A protocol tag tells our addresses from everybody else's.
//!
//! IPv6 addresses skip duplicate address detection, which would make them useless for two seconds
//! and for ever where both nodes had them for a moment, and are never chosen as the source of
//! connections that this host opens.

use std::{io, net::IpAddr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{
        AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
        CacheInfo,
    },
};

use crate::{
    config::Family,
    error::{Error, system},
    interface::{Interface, local_address},
    netlink::Route,
    virtual_address::{VirtualAddress, host_prefix},
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
    /// Duplicate address detection is not done or has failed: nothing can be sent from it.
    is_tentative: bool,
}

impl Found {
    /// Whether only a speaker can have added it, or an administrator in the form a speaker uses.
    fn is_leftover(&self, ours: &[VirtualAddress]) -> bool {
        let is_host = self.prefix == host_prefix(self.address);
        self.is_tagged || is_host && ours.iter().any(|ours| ours.address() == self.address)
    }
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

    /// Goes on with another interface: the one of that name was removed and made again.
    pub(crate) fn set_interface(&mut self, interface: u32) {
        self.interface = interface;
    }

    /// Adds an address, or renews its lease.
    pub(crate) fn add(&mut self, address: VirtualAddress) -> io::Result<()> {
        let mut message = self.message(address.address(), address.prefix());
        let mut cache = CacheInfo::default();
        cache.ifa_preferred = if address.address().is_ipv4() { self.lease } else { 0 };
        cache.ifa_valid = self.lease;
        let mut flags = AddressFlags::empty();
        flags.set(AddressFlags::Nodad, address.address().is_ipv6());
        flags.set(AddressFlags::Noprefixroute, address.is_host());
        message.attributes.push(AddressAttribute::CacheInfo(cache));
        message.attributes.push(AddressAttribute::Protocol(TAG));
        message.attributes.push(AddressAttribute::Flags(flags));
        let request = RouteNetlinkMessage::NewAddress(message);
        self.route.request(request, NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }

    /// Removes an address and says whether it was there.
    pub(crate) fn remove(&mut self, address: VirtualAddress) -> io::Result<bool> {
        self.delete(address.address(), address.prefix())
    }

    /// The same for an address that is known by its parts alone.
    pub(crate) fn delete(&mut self, address: IpAddr, prefix: u8) -> io::Result<bool> {
        let request = RouteNetlinkMessage::DelAddress(self.message(address, prefix));
        match self.route.request(request, 0) {
            Ok(_) => Ok(true),
            // ENODEV: the interface went, and with it all its addresses.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Everything on the interface, IPv4 first, in the kernel's order.
    pub(crate) fn list(&mut self) -> io::Result<Vec<Found>> {
        let interface = self.interface;
        let present = self.list_on(Some(interface))?;
        Ok(present.into_iter().map(|(_, found)| found).collect())
    }

    /// The same for one interface or all of them, each address with the index of its interface.
    fn list_on(&mut self, interface: Option<u32>) -> io::Result<Vec<(u32, Found)>> {
        let mut present = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = AddressMessage::default();
            request.header.family = family;
            request.header.index = interface.unwrap_or(0);
            let answers = match self.route.dump(RouteNetlinkMessage::GetAddress(request)) {
                Ok(answers) => answers,
                Err(error) if is_missing(&error) => continue,
                Err(error) => return Err(error),
            };
            present.extend(answers.iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(message)
                    if interface.is_none_or(|index| message.header.index == index)
                        && message.header.family == family =>
                {
                    Some((message.header.index, found(message)?))
                }
                _ => None,
            }));
        }
        Ok(present)
    }

    /// Takes off what an earlier process left behind: the addresses `ours` and everything with
    /// our tag. Returns how many there were.
    ///
    /// # Errors
    /// An address of ours without the tag and with another prefix than /32 or /128 was not put
    /// there by a speaker; two hosts would own it from now on.
    pub(crate) fn remove_leftovers(
        &mut self,
        interface: &Interface,
        ours: &[VirtualAddress],
    ) -> Result<usize, Error> {
        let present = self.list().map_err(system("listing the addresses of the interface"))?;
        let is_ours = |found: &&Found| ours.iter().any(|ours| ours.address() == found.address);
        let is_static = |found: &&Found| is_ours(found) && !found.is_leftover(ours);
        if let Some(found) = present.iter().find(is_static) {
            return Err(Error::StaticAddress {
                interface: interface.name.clone(),
                address: found.address,
                prefix: found.prefix,
            });
        }
        let mut removed = 0;
        for found in present.iter().filter(|found| found.is_leftover(ours)) {
            let was_there = self
                .delete(found.address, found.prefix)
                .map_err(system("removing a leftover address"))?;
            removed += usize::from(was_there);
        }
        Ok(removed)
    }

    /// The socket for questions about the interface itself.
    pub(crate) fn route(&mut self) -> &mut Route {
        &mut self.route
    }

    fn message(&self, address: IpAddr, prefix: u8) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = match address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.header.prefix_len = prefix;
        message.header.index = self.interface;
        message.attributes.push(AddressAttribute::Local(address));
        message.attributes.push(AddressAttribute::Address(address));
        message
    }
}

/// The address that advertisements of a family are sent from: the first of the host's own, never a
/// virtual one; over IPv6 a link-local one (RFC 9568 section 5.1.2.1) unless `global` is asked for.
/// A virtual address as source once made a split brain of a keepalived pair after a reload.
pub(crate) fn choose_source(
    present: &[Found],
    ours: &[VirtualAddress],
    family: Family,
    global: bool,
) -> Option<IpAddr> {
    let is_virtual =
        |found: &Found| found.is_tagged || ours.iter().any(|ours| ours.address() == found.address);
    let fits = |address: IpAddr| match (family, address) {
        (Family::V4, IpAddr::V4(_)) => true,
        (Family::V6, IpAddr::V6(address)) => address.is_unicast_link_local() != global,
        _ => false,
    };
    let mut own = present
        .iter()
        .filter(|found| fits(found.address) && !is_virtual(found) && !found.is_tentative);
    let first = own.clone().next();
    own.find(|found| !found.is_secondary).or(first).map(|found| found.address)
}

/// Removes virtual addresses that a speaker left on `interface`, and returns how many there were.
///
/// For use after a speaker that could not clean up, such as a killed process (`ExecStopPost=`). It
/// touches only addresses in the form in which a speaker adds them: on `interface` /32, /128, or
/// with its tag; on others, which a virtual MAC address may have had, with its tag.
///
/// # Errors
/// The interface does not exist, or CAP_NET_ADMIN is missing.
pub fn release(interface: &str, addresses: &[IpAddr]) -> Result<usize, Error> {
    let mut route = Route::open().map_err(system("opening netlink"))?;
    let interface = Interface::find(&mut route, interface)?;
    let mut table = AddressTable::new(route, interface.index, 0);
    let present = table.list_on(None).map_err(system("listing the addresses of the interface"))?;
    let mut removed = 0;
    for (index, found) in present.iter().filter(|(_, found)| addresses.contains(&found.address)) {
        let is_host = *index == interface.index && found.prefix == host_prefix(found.address);
        if !found.is_tagged && !is_host {
            continue;
        }
        table.set_interface(*index);
        let was_there = table
            .delete(found.address, found.prefix)
            .map_err(system("removing a virtual address"))?;
        removed += usize::from(was_there);
    }
    Ok(removed)
}

/// Whether a speaker added it. Kernels before 5.18 do not tell.
pub(crate) fn is_tagged(message: &AddressMessage) -> bool {
    message.attributes.contains(&AddressAttribute::Protocol(TAG))
}

fn found(message: &AddressMessage) -> Option<Found> {
    let flags = message.header.flags;
    Some(Found {
        address: local_address(message)?,
        prefix: message.header.prefix_len,
        is_tagged: is_tagged(message),
        is_secondary: flags.contains(AddressHeaderFlags::Secondary),
        is_tentative: flags
            .intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed),
    })
}

/// The host lacks the address family, or the interface is gone.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::ENODEV))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(address: &str, is_tagged: bool, is_secondary: bool) -> Found {
        let address = address.parse().unwrap();
        Found { address, prefix: 24, is_tagged, is_secondary, is_tentative: false }
    }

    #[test]
    fn the_source_is_never_a_virtual_address() {
        let ours = ["10.99.0.100".parse().unwrap()];
        let source = |present: &[Found]| {
            choose_source(present, &ours, Family::V4, false).map(|address| address.to_string())
        };
        let own = || Some("10.99.0.1".to_owned());
        assert_eq!(source(&[]), None);
        assert_eq!(source(&[found("10.99.0.100", true, false)]), None);
        assert_eq!(source(&[found("10.99.0.100", false, false)]), None, "however it came there");
        let tagged = found("10.99.0.99", true, false);
        assert_eq!(source(&[tagged, found("10.99.0.1", false, false)]), own());
        let secondary = found("10.99.0.2", false, true);
        assert_eq!(source(&[secondary, found("10.99.0.1", false, false)]), own());
        assert_eq!(source(&[secondary]), Some("10.99.0.2".to_owned()), "better than nothing");
        assert_eq!(source(&[found("fe80::1", false, false)]), None);
    }

    #[test]
    fn over_ipv6_the_source_is_link_local_unless_peers_are_far() {
        let ours = ["fe80::100".parse().unwrap()];
        let mut tentative = found("fe80::3", false, false);
        tentative.is_tentative = true;
        let present = [
            found("10.99.0.1", false, false),
            found("2001:db8::1", false, false),
            found("fe80::100", false, false),
            tentative,
            found("fe80::1", false, false),
        ];
        let source = |global| choose_source(&present, &ours, Family::V6, global);
        assert_eq!(source(false), Some("fe80::1".parse().unwrap()));
        assert_eq!(source(true), Some("2001:db8::1".parse().unwrap()));
    }
}
