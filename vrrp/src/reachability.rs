//! Whether a neighbour on the segment still answers, such as the gateway.
//!
//! The kernel does the asking: setting its neighbour entry to "probe" makes it send an ARP request
//! or a neighbour solicitation, and an answer (or any confirmed traffic) updates the time of the
//! entry. Needs no socket of its own for either family, and disturbs nobody: while an entry is
//! probed it goes on being used.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
};

use crate::{
    error::{Error, system},
    netlink::Route,
};

/// The kernel counts the age of an entry in hundredths of a second, whatever its own clock.
const TICK: Duration = Duration::from_millis(10);

/// A neighbour that is asked again and again.
#[derive(Debug)]
pub struct Neighbour {
    route: Route,
    interface: u32,
    address: IpAddr,
}

impl Neighbour {
    /// The default gateway of the calling thread's network namespace, IPv4 before IPv6; `None`:
    /// there is none.
    ///
    /// # Errors
    /// The kernel refuses to list its routes.
    pub fn default_gateway() -> Result<Option<Self>, Error> {
        let failed = "listing the routes";
        let mut route = Route::open().map_err(system(failed))?;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut query = RouteMessage::default();
            query.header.address_family = family;
            let routes =
                route.dump(RouteNetlinkMessage::GetRoute(query)).map_err(system(failed))?;
            let gateways = routes.iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => default_route(route),
                _ => None,
            });
            if let Some((_, interface, address)) = gateways.min() {
                return Ok(Some(Self { route, interface, address }));
            }
        }
        Ok(None)
    }

    /// A neighbour with this address; `None`: it is not on a segment of this host now.
    ///
    /// # Errors
    /// The kernel refuses to tell the way there.
    pub fn at(address: IpAddr) -> Result<Option<Self>, Error> {
        let failed = "asking for a route";
        let mut route = Route::open().map_err(system(failed))?;
        let mut query = RouteMessage::default();
        (query.header.address_family, query.header.destination_prefix_length) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        query.attributes.push(RouteAttribute::Destination(address.into()));
        let answers = match route.request(RouteNetlinkMessage::GetRoute(query), 0) {
            Ok(answers) => answers,
            Err(error) if is_no_way(&error) => return Ok(None),
            Err(error) => return Err(system(failed)(error)),
        };
        let interface = answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => on_link(route),
            _ => None,
        });
        Ok(interface.map(|interface| Self { route, interface, address }))
    }

    /// Its address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How long ago it last answered, as far as the kernel knows, and asks it again unless that
    /// was within `recent`. `None`: it has not answered, or not for long.
    ///
    /// # Errors
    /// CAP_NET_ADMIN is missing, or the interface is gone.
    pub fn look(&mut self, recent: Duration) -> Result<Option<Duration>, Error> {
        let failed = "asking a neighbour";
        let entry = self.entry().map_err(system(failed))?;
        let age = entry.as_ref().and_then(confirmed);
        if age.is_none_or(|age| age > recent) {
            let is_known = entry.is_some_and(|entry| is_usable(entry.header.state));
            self.ask(is_known).map_err(system(failed))?;
        }
        Ok(age)
    }

    fn entry(&mut self) -> io::Result<Option<NeighbourMessage>> {
        let mut query = self.message();
        // With strict checking the interface of a listing is an attribute, not part of the header.
        query.header.ifindex = 0;
        query.attributes = vec![NeighbourAttribute::IfIndex(self.interface)];
        let entries = self.route.dump(RouteNetlinkMessage::GetNeighbour(query))?;
        let mine = NeighbourAttribute::Destination(self.destination());
        Ok(entries.into_iter().find_map(|entry| match entry {
            RouteNetlinkMessage::NewNeighbour(entry) => {
                let is_mine = entry.header.ifindex == self.interface;
                (is_mine && entry.attributes.contains(&mine)).then_some(entry)
            }
            _ => None,
        }))
    }

    /// An entry whose hardware address is known is probed by unicast, any other is resolved.
    fn ask(&mut self, is_known: bool) -> io::Result<()> {
        let mut message = self.message();
        let flags = if is_known {
            message.header.state = NeighbourState::Probe;
            NLM_F_REPLACE
        } else {
            message.header.flags = NeighbourFlags::Use;
            NLM_F_CREATE
        };
        self.route.request(RouteNetlinkMessage::NewNeighbour(message), flags).map(drop)
    }

    fn message(&self) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = match self.address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.header.ifindex = self.interface;
        message.header.kind = RouteType::Unspec;
        message.attributes.push(NeighbourAttribute::Destination(self.destination()));
        message
    }

    fn destination(&self) -> NeighbourAddress {
        match self.address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        }
    }
}

/// Metric, interface and gateway of a default route.
fn default_route(route: &RouteMessage) -> Option<(u32, u32, IpAddr)> {
    if route.header.destination_prefix_length > 0 || route.header.kind != RouteType::Unicast {
        return None;
    }
    let (mut metric, mut interface, mut gateway) = (0, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => {
                gateway = Some(IpAddr::V4(*address));
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => {
                gateway = Some(IpAddr::V6(*address));
            }
            _ => {}
        }
    }
    let gateway = gateway.filter(|gateway| {
        *gateway != IpAddr::V4(Ipv4Addr::UNSPECIFIED)
            && *gateway != IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    });
    Some((metric, interface?, gateway?))
}

/// The interface of a destination that is reached without a gateway.
fn on_link(route: &RouteMessage) -> Option<u32> {
    if route.header.kind != RouteType::Unicast {
        return None;
    }
    let far = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Gateway(_));
    if route.attributes.iter().any(far) {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn is_no_way(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable)
}

/// Age of the last answer, of an entry that ever had one.
fn confirmed(entry: &NeighbourMessage) -> Option<Duration> {
    if !is_usable(entry.header.state) {
        return None;
    }
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::CacheInfo(info) => Some(TICK * info.confirmed),
        _ => None,
    })
}

/// Whether the hardware address is known.
fn is_usable(state: NeighbourState) -> bool {
    use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
    matches!(state, Reachable | Stale | Delay | Probe | Permanent | Noarp)
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::neighbour::NeighbourCacheInfo;

    use super::*;

    fn route(prefix: u8, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.destination_prefix_length = prefix;
        route.header.kind = RouteType::Unicast;
        route.attributes = attributes;
        route
    }

    #[test]
    fn a_default_gateway_needs_an_interface_and_an_address() {
        let address = Ipv4Addr::new(192, 0, 2, 1);
        let gateway = RouteAttribute::Gateway(RouteAddress::Inet(address));
        let oif = RouteAttribute::Oif(3);
        let metric = RouteAttribute::Priority(100);
        let full = route(0, vec![oif.clone(), gateway.clone(), metric]);
        assert_eq!(default_route(&full), Some((100, 3, address.into())));
        assert_eq!(default_route(&route(24, vec![oif.clone(), gateway.clone()])), None);
        assert_eq!(default_route(&route(0, vec![oif.clone()])), None, "straight onto a link");
        assert_eq!(on_link(&route(32, vec![oif.clone()])), Some(3));
        assert_eq!(on_link(&route(32, vec![oif, gateway])), None, "behind a gateway");
    }

    #[test]
    fn only_an_entry_with_a_hardware_address_has_answered() {
        for (state, age) in [
            (NeighbourState::Reachable, Some(Duration::from_millis(70))),
            (NeighbourState::Probe, Some(Duration::from_millis(70))),
            (NeighbourState::Incomplete, None),
            (NeighbourState::Failed, None),
        ] {
            let mut entry = NeighbourMessage::default();
            entry.header.state = state;
            // confirmed, used, updated, references
            let bytes = [7_u32, 0, 0, 1].map(u32::to_ne_bytes).concat();
            let info = NeighbourCacheInfo::parse(&bytes).unwrap();
            entry.attributes.push(NeighbourAttribute::CacheInfo(info));
            assert_eq!(confirmed(&entry), age, "{state:?}");
        }
    }

    #[test]
    fn this_host_is_no_neighbour_of_itself() {
        assert!(Neighbour::at(Ipv4Addr::LOCALHOST.into()).unwrap().is_none());
    }
}
