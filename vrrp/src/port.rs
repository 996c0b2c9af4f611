//! An interface as a place to speak: its sockets, its addresses, and what is refused on it.

use std::{io, net::IpAddr};

use crate::{
    addresses::{AddressTable, Found, choose_source},
    announce::Mac,
    error::{Error, PacketError, PacketErrors, system},
    interface::Interface,
    link::Link,
    netlink::Route,
};

/// Everything a speaker owns of one interface.
pub(crate) struct Port {
    interface: Interface,
    pub(crate) link: Link,
    pub(crate) table: AddressTable,
    /// The virtual addresses of all routers here.
    pub(crate) addresses: Vec<IpAddr>,
    /// Our primary address while the link is usable.
    pub(crate) source: Option<IpAddr>,
    pub(crate) errors: PacketErrors,
}

/// What a look at an interface found.
pub(crate) struct Look {
    /// Every address on it.
    pub(crate) present: Vec<Found>,
    /// Its MAC address is another one than before.
    pub(crate) new_mac: bool,
    /// Our primary address appeared, changed or vanished.
    pub(crate) new_source: bool,
}

impl Port {
    /// Takes leftover virtual addresses off the interface and opens its sockets.
    pub(crate) fn open(name: &str, addresses: Vec<IpAddr>, lease: u32) -> Result<Self, Error> {
        let mut route = Route::open().map_err(system("opening netlink"))?;
        let interface = Interface::find(&mut route, name)?;
        let mut table = AddressTable::new(route, interface.index, lease);
        let leftovers = table.remove_leftovers(&interface, &addresses)?;
        if leftovers > 0 {
            tracing::warn!(
                interface = interface.name,
                addresses = leftovers,
                "removed virtual addresses that an earlier process left behind"
            );
        }
        let link = Link::open(&interface)?;
        let errors = PacketErrors::default();
        Ok(Self { interface, link, table, addresses, source: None, errors })
    }

    pub(crate) fn name(&self) -> &str {
        &self.interface.name
    }

    pub(crate) fn index(&self) -> u32 {
        self.interface.index
    }

    pub(crate) fn mac(&self) -> Mac {
        self.interface.mac
    }

    /// Looks at the interface and at what it holds.
    pub(crate) fn look(&mut self) -> io::Result<Look> {
        let mac = self.interface.mac;
        self.interface.reread(self.table.route())?;
        let present = self.table.list()?;
        let source = choose_source(&present, &self.addresses)
            .filter(|_| self.interface.running)
            .filter(|source| self.may_send_from(*source));
        let new_source = source != self.source;
        self.source = source;
        Ok(Look { present, new_mac: mac != self.interface.mac, new_source })
    }

    fn may_send_from(&self, source: IpAddr) -> bool {
        match self.link.set_source(source) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%source, %error, "the primary address cannot be used as source");
                false
            }
        }
    }

    /// Counts a refused packet. Strangers cause these, so the log gets the first of a kind and
    /// then ever fewer: the 2nd, 4th, 8th and so on.
    pub(crate) fn refuse(&mut self, source: Option<IpAddr>, error: PacketError) {
        let count = self.errors.count(error);
        if !count.is_power_of_two() {
            return;
        }
        let interface = self.interface.name.as_str();
        let source = source.map_or_else(|| "unknown".to_owned(), |source| source.to_string());
        if matches!(error, PacketError::ForeignVrid(_)) {
            // Other virtual routers on a segment are nothing out of the ordinary.
            tracing::debug!(interface, source, count, %error, "advertisement of a stranger");
        } else {
            tracing::warn!(interface, source, count, %error, "vrrp packet refused");
        }
    }
}
