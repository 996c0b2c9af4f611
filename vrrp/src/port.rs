//! An interface as a place to speak: its sockets, its addresses, and what is refused on it.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Instant,
};

use crate::{
    addresses::{AddressTable, Found, choose_source},
    announce::Mac,
    channel::{Channel, bury},
    config::{Family, RouterConfig},
    error::{Error, PacketError, PacketErrors, system},
    interface::Interface,
    link::{Frames, Sender},
    netlink::Route,
    storm::Alarm,
    virtual_address::VirtualAddress,
    virtual_mac::VirtualMac,
};

/// Everything a speaker owns of one interface.
pub(crate) struct Port {
    /// What it is called in the configuration.
    name: Arc<str>,
    interface: Interface,
    pub(crate) table: AddressTable,
    /// For how many seconds an address lives without renewal.
    lease: u32,
    /// What the virtual routers here hold when Active.
    addresses: Vec<VirtualAddress>,
    pub(crate) channels: Vec<Channel>,
    frames: Option<Frames>,
    pub(crate) errors: PacketErrors,
    strangers: Alarm,
}

/// What a look at an interface found.
pub(crate) struct Look {
    /// Every address on it.
    pub(crate) present: Vec<Found>,
    /// Its MAC address is another one than before.
    pub(crate) new_mac: bool,
    /// It was removed and made again: sockets of before are of no use.
    pub(crate) reopened: bool,
}

impl Port {
    /// Takes leftover virtual addresses off the interface of `routers`, which are all those on it,
    /// and opens its sockets.
    ///
    /// # Errors
    /// See [`crate::Speaker::spawn`]. A missing address family is none.
    pub(crate) fn open(routers: &[&RouterConfig], lease: u32) -> Result<Self, Error> {
        let name = routers.first().map(|router| Arc::clone(router.interface())).unwrap_or_default();
        let mut route = Route::open().map_err(system("opening netlink"))?;
        let interface = Interface::find(&mut route, &name)?;
        let mut table = AddressTable::new(route, interface.index, lease);
        let addresses: Vec<_> = routers.iter().flat_map(|router| router.held().to_vec()).collect();
        let leftovers = table.remove_leftovers(&interface, &addresses)?;
        if leftovers > 0 {
            tracing::warn!(
                interface = interface.name,
                addresses = leftovers,
                "removed virtual addresses that an earlier process left behind"
            );
        }
        let mut channels = Vec::new();
        for family in [Family::V4, Family::V6] {
            let Some(mut channel) = Channel::new(family, routers) else { continue };
            match channel.open(&interface) {
                Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(Error::System { what: "opening the raw sockets", source });
                }
                _ => channel.try_open(&interface),
            }
            channels.push(channel);
        }
        let frames = Frames::open(&interface).map_err(system("opening the packet socket"))?;
        Ok(Self {
            name,
            interface,
            table,
            lease,
            addresses,
            channels,
            frames: Some(frames),
            errors: PacketErrors::default(),
            strangers: Alarm::default(),
        })
    }

    /// The name in the configuration.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What the interface is called now.
    pub(crate) fn interface_name(&self) -> &str {
        &self.interface.name
    }

    /// How often the kernel was told to filter.
    pub(crate) fn storms(&self) -> u64 {
        self.channels.iter().map(|channel| channel.storms).sum()
    }

    pub(crate) fn index(&self) -> u32 {
        self.interface.index
    }

    pub(crate) fn mac(&self) -> Mac {
        self.interface.mac
    }

    pub(crate) fn is_present(&self) -> bool {
        self.interface.present
    }

    /// The interface that a virtual router here has its addresses on, if it is one of its own.
    pub(crate) fn virtual_mac(&self, router: &RouterConfig) -> io::Result<Option<VirtualMac>> {
        if !router.virtual_mac() {
            return Ok(None);
        }
        VirtualMac::create(&self.interface, router, self.lease).map(Some)
    }

    /// A socket for a virtual router to send through.
    pub(crate) fn open_sender(&self, family: Family) -> io::Result<Sender> {
        Sender::open(&self.interface, family)
    }

    /// Looks at the interface and at what it holds.
    pub(crate) fn look(&mut self) -> io::Result<Look> {
        let mac = self.interface.mac;
        self.interface.reread(self.table.route())?;
        let reopened = !self.interface.present && self.find_again();
        if self.interface.present {
            for channel in &mut self.channels {
                channel.try_open(&self.interface);
            }
        }
        let present = self.table.list()?;
        Ok(Look { present, new_mac: mac != self.interface.mac, reopened })
    }

    /// Looks for a new interface of the configured name in place of one that was removed.
    fn find_again(&mut self) -> bool {
        // One that does not exist or is no Ethernet is waited for.
        let Ok(interface) = Interface::find(self.table.route(), &self.name) else { return false };
        tracing::warn!(
            interface = &*self.name,
            "the interface was made anew; vrrp goes on with it"
        );
        let old: Vec<_> = self.channels.iter_mut().map(Channel::take_sockets).collect();
        bury((old, self.frames.take()));
        self.interface = interface;
        self.table.set_interface(self.interface.index);
        match Frames::open(&self.interface) {
            Ok(frames) => self.frames = Some(frames),
            Err(error) => tracing::warn!(interface = &*self.name, %error, "no packet socket"),
        }
        true
    }

    /// The address from which a virtual router here may send now.
    pub(crate) fn source(&self, present: &[Found], router: &RouterConfig) -> Option<IpAddr> {
        let is_open = |channel: &Channel| channel.family == router.family() && channel.is_open();
        if !self.interface.running || !self.channels.iter().any(is_open) {
            return None;
        }
        let unicast = router.dialect().unicast();
        if let Some(source) = unicast.and_then(|unicast| unicast.source()) {
            return Some(source);
        }
        // A peer that cannot be reached from a link-local address.
        let is_far = |peer: &IpAddr| match peer {
            IpAddr::V4(_) => false,
            IpAddr::V6(peer) => !peer.is_unicast_link_local(),
        };
        let global = unicast.is_some_and(|unicast| unicast.peers().iter().any(is_far));
        choose_source(present, &self.addresses, router.family(), global)
    }

    /// Sends a frame as it is.
    pub(crate) fn send_frame(&self, frame: &[u8]) -> io::Result<()> {
        match &self.frames {
            Some(frames) => frames.send(frame),
            None => Err(io::Error::from_raw_os_error(libc::ENODEV)),
        }
    }

    /// What to wait for.
    pub(crate) fn wait_for<'a>(&'a self, sources: &mut Vec<BorrowedFd<'a>>) {
        // The sockets of a removed interface are readable for ever: they report an error.
        if !self.interface.present {
            return;
        }
        for channel in &self.channels {
            let (receiver, claims) = channel.sources();
            sources.extend(receiver.map(AsFd::as_fd));
            sources.extend(claims.map(AsFd::as_fd));
        }
    }

    /// Counts a refused packet. Strangers cause these, so the log gets the first of a kind and
    /// then ever fewer: the 2nd, 4th, 8th and so on. Who wants the addresses without being a member
    /// is named once a minute as long as it lasts.
    pub(crate) fn refuse(
        &mut self,
        channel: usize,
        source: Option<IpAddr>,
        error: PacketError,
        now: Instant,
    ) {
        let count = self.errors.count(error);
        let interface = self.interface.name.as_str();
        self.channels[channel].refused(interface, now);
        let source = source.map_or_else(|| "unknown".to_owned(), |source| source.to_string());
        match error {
            PacketError::Stranger => {
                if self.strangers.may_ring(now) {
                    tracing::error!(
                        interface,
                        source,
                        count,
                        "a host that is no member advertises our virtual router; it is not obeyed"
                    );
                }
            }
            _ if !count.is_power_of_two() => {}
            // Other virtual routers on a segment are nothing out of the ordinary.
            PacketError::ForeignVrid(_) => {
                tracing::debug!(interface, source, count, %error, "advertisement of a stranger");
            }
            _ => tracing::warn!(interface, source, count, %error, "vrrp packet refused"),
        }
    }
}
