//! A virtual router with a MAC address of its own (RFC 9568 section 7.3): an interface on top of the
//! real one that holds the virtual addresses.
//!
//! Neighbours then need not learn anything at a takeover but where the frames go, which switches
//! learn from the announcements. It is an option and not the default: hypervisors and clouds drop
//! frames with a MAC address they did not hand out. Advertisements leave through the real interface
//! with its MAC address, as keepalived's with `vmac_xmit_base`: nobody minds, and the election works
//! where the virtual one is filtered.

use std::{fs, io};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
        MacVlanMode,
    },
};

use crate::{
    addresses::AddressTable,
    announce::Mac,
    config::{Family, RouterConfig, Vrid},
    interface::Interface,
    link::Frames,
    netlink::Route,
};

/// The interface of one virtual router. It exists as long as this does.
pub(crate) struct VirtualMac {
    pub(crate) interface: Interface,
    pub(crate) table: AddressTable,
    pub(crate) frames: Frames,
}

impl VirtualMac {
    /// Makes the interface of `router` on top of `parent`, in place of one that an earlier process
    /// left behind.
    ///
    /// # Errors
    /// The kernel lacks macvlan, or something else has the name.
    pub(crate) fn create(
        parent: &Interface,
        router: &RouterConfig,
        lease: u32,
    ) -> io::Result<Self> {
        let name = name(router.family(), router.vrid());
        let mac = address(router.family(), router.vrid());
        let mut route = Route::open()?;
        if let Ok(left_behind) = Interface::find(&mut route, &name)
            && left_behind.mac == mac
        {
            delete(&mut route, left_behind.index)?;
        }
        add(&mut route, parent.index, &name, mac)?;
        // Whatever fails from here on takes the interface along.
        let interface = Interface::find(&mut route, &name).map_err(io::Error::other)?;
        let prepared = prepare(&parent.name, &name)
            .and_then(|()| set_up(&mut route, interface.index))
            .and_then(|()| Frames::open(&interface));
        match prepared {
            Ok(frames) => {
                let table = AddressTable::new(route, interface.index, lease);
                Ok(Self { interface, table, frames })
            }
            Err(error) => {
                delete(&mut route, interface.index)?;
                Err(error)
            }
        }
    }
}

impl VirtualMac {
    /// Whether somebody removed it, or its parent went.
    pub(crate) fn is_gone(&mut self) -> bool {
        // What cannot be read is believed to be as before.
        let _ = self.interface.reread(self.table.route());
        !self.interface.present
    }
}

impl Drop for VirtualMac {
    fn drop(&mut self) {
        let index = self.interface.index;
        if let Err(error) = delete(self.table.route(), index) {
            tracing::debug!(interface = self.interface.name, %error, "not removed");
        }
    }
}

/// The MAC address of a virtual router.
pub(crate) fn address(family: Family, vrid: Vrid) -> Mac {
    let family = match family {
        Family::V4 => 1,
        Family::V6 => 2,
    };
    [0x00, 0x00, 0x5e, 0x00, family, vrid.as_u8()]
}

/// As keepalived names them.
fn name(family: Family, vrid: Vrid) -> String {
    match family {
        Family::V4 => format!("vrrp.{vrid}"),
        Family::V6 => format!("vrrp6.{vrid}"),
    }
}

fn add(route: &mut Route, parent: u32, name: &str, mac: Mac) -> io::Result<()> {
    let mut message = LinkMessage::default();
    let mode = InfoMacVlan::Mode(MacVlanMode::Private);
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(mac.to_vec()),
        LinkAttribute::Link(parent),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![mode])),
        ]),
    ];
    route.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).map(drop)
}

fn set_up(route: &mut Route, index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    route.request(RouteNetlinkMessage::SetLink(message), 0).map(drop)
}

fn delete(route: &mut Route, index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match route.request(RouteNetlinkMessage::DelLink(message), 0) {
        Err(error) if error.raw_os_error() != Some(libc::ENODEV) => Err(error),
        _ => Ok(()),
    }
}

/// What must be set so that each interface answers for its own addresses and for no others, and so
/// that the new one says nothing of its own accord: a switch would believe the virtual MAC address
/// to be at a Backup.
fn prepare(parent: &str, name: &str) -> io::Result<()> {
    let set = |path: String, value: &str| fs::write(format!("/proc/sys/net/{path}"), value);
    set(format!("ipv4/conf/{parent}/arp_ignore"), "1")?;
    set(format!("ipv4/conf/{name}/arp_ignore"), "1")?;
    // Else a question of this host for a neighbour would name the virtual address as the one who
    // asks, at the MAC address of the real interface.
    set(format!("ipv4/conf/{parent}/arp_announce"), "2")?;
    // Packets come in here and the answers leave through the real interface.
    set(format!("ipv4/conf/{name}/rp_filter"), "2")?;
    // Without IPv6 there is nothing to keep silent.
    let _ = set(format!("ipv6/conf/{name}/addr_gen_mode"), "1");
    let _ = set(format!("ipv6/conf/{name}/accept_ra"), "0");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_address_follow_from_family_and_vrid() {
        let vrid = Vrid::new(51).unwrap();
        assert_eq!(name(Family::V4, vrid), "vrrp.51");
        assert_eq!(address(Family::V4, vrid), [0, 0, 0x5e, 0, 1, 51]);
        assert_eq!(name(Family::V6, vrid), "vrrp6.51");
        assert_eq!(address(Family::V6, vrid), [0, 0, 0x5e, 0, 2, 51]);
    }
}
