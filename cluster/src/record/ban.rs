//! Failures counted against an address, enough of which in a window are a ban; the bans an admin
//! sets; and whom both are about. Sans-io.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Millis, NodeId};

/// Most (node, address) pairs kept; the one struck longest ago makes room.
pub const MAX_STRIKE_KEYS: usize = 50_000;

/// Most strike times kept per pair; the oldest goes first. More than any sane ban threshold.
pub const MAX_STRIKES_PER_KEY: usize = 64;

/// Longest a strike is kept, in milliseconds of the log's time: one day. A ban window that is
/// longer counts other nodes' failures of the last day only.
pub const MAX_STRIKE_AGE: Millis = 24 * 3600 * 1000;

/// Most bans set by admins; further ones are refused, because none may quietly go.
pub const MAX_BANS: usize = 1024;

/// Most pardons remembered; the one given longest ago makes room.
pub const MAX_PARDONS: usize = 4096;

/// Longest reason of a ban, in bytes.
pub const MAX_REASON: usize = 200;

/// One failure of one client, as counted by one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strike {
    /// Node that saw it.
    pub node: NodeId,
    /// Address it counts against, already through [`ban_key`].
    pub address: IpAddr,
    /// When.
    pub at: Millis,
}

/// A ban somebody set, whether or not anyone failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Whom it keeps out.
    pub subnet: Subnet,
    /// When it was set.
    pub since: Millis,
    /// Not in force from this moment on; for ever when there is none.
    pub until: Option<Millis>,
    /// Node it was set on.
    pub node: NodeId,
    /// The admin's words, at most [`MAX_REASON`] bytes.
    pub reason: String,
}

impl Ban {
    /// Whether it keeps anybody out at `now`.
    pub fn is_in_force(&self, now: Millis) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// One client as bans see it, or a network of them: host bits are zero, and no IPv6 network is
/// smaller than a /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subnet {
    /// Length of the network part. First, so that networks of one size are neighbours.
    prefix: u8,
    address: IpAddr,
}

impl Subnet {
    /// The client at an address, see [`ban_key`].
    pub fn of(address: IpAddr) -> Self {
        let address = ban_key(address);
        Self { prefix: longest(address), address }
    }

    /// Its first address.
    pub fn first(&self) -> IpAddr {
        self.address
    }

    /// Length of its network part, in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether the client at an address belongs to it.
    pub fn contains(&self, address: IpAddr) -> bool {
        mask(ban_key(address), self.prefix) == self.address
    }

    /// Whether all of `other` belongs to it.
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// Everything the client at an address belongs to, the narrowest first.
    pub fn around(address: IpAddr) -> impl Iterator<Item = Self> {
        let address = ban_key(address);
        let narrowed = move |prefix| Self { prefix, address: mask(address, prefix) };
        (0..=longest(address)).rev().map(narrowed)
    }
}

/// Neither an address nor a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address such as \"192.0.2.7\" or a network such as \"2001:db8::/48\"")]
pub struct NotASubnet;

impl FromStr for Subnet {
    type Err = NotASubnet;

    fn from_str(text: &str) -> Result<Self, NotASubnet> {
        let (address, prefix) = match text.split_once('/') {
            None => return text.parse().map(Self::of).map_err(|_unreadable| NotASubnet),
            Some((address, prefix)) => (address.parse::<IpAddr>(), prefix.parse::<u8>()),
        };
        let (Ok(address), Ok(prefix)) = (address, prefix) else { return Err(NotASubnet) };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let canonical = address.to_canonical();
        // A network of mapped addresses says how much of their IPv4 part it means.
        let mapped = if address.is_ipv6() && canonical.is_ipv4() { 96 } else { 0 };
        if prefix > most || prefix < mapped {
            return Err(NotASubnet);
        }
        let prefix = (prefix - mapped).min(longest(canonical));
        Ok(Self { prefix, address: mask(canonical, prefix) })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(host) if self.prefix >= 32 => write!(f, "{host}"),
            network => write!(f, "{network}/{}", self.prefix),
        }
    }
}

/// The longest prefix bans tell apart.
fn longest(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 64 }
}

fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    let cut = |bits: u32| bits.saturating_sub(prefix.into());
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(cut(32)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(cut(128)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// The address failures are counted under: IPv4 as it is (also when mapped into IPv6), IPv6 by
/// its /64, because one customer owns all of it.
pub fn ban_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ipv6_network_is_one_client_and_mapped_ipv4_is_ipv4() {
        let key = |s: &str| ban_key(s.parse().unwrap()).to_string();
        assert_eq!(key("192.0.2.7"), "192.0.2.7");
        assert_eq!(key("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(key("2001:db8:1:2:aaaa::1"), "2001:db8:1:2::");
    }

    #[test]
    fn a_subnet_is_read_as_it_is_written_and_never_narrower_than_a_client() {
        for (text, shown) in [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:3::4/128", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ] {
            let subnet: Subnet = text.parse().unwrap();
            assert_eq!(subnet.to_string(), shown, "{text}");
            assert_eq!(shown.parse(), Ok(subnet), "{text}");
        }
        for wrong in ["", "10", "10.0.0.0/33", "10.0.0.0/", "::1/129", "::ffff:1.2.3.4/32", "a/8"] {
            assert_eq!(wrong.parse::<Subnet>(), Err(NotASubnet), "{wrong}");
        }
    }

    #[test]
    fn a_client_belongs_to_every_network_around_it() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let net = |text: &str| -> Subnet { text.parse().unwrap() };
        assert!(net("10.0.0.0/8").contains(ip("10.255.0.1")));
        assert!(net("10.0.0.0/8").contains(ip("::ffff:10.1.1.1")));
        assert!(!net("10.0.0.0/8").contains(ip("11.0.0.1")));
        assert!(!net("0.0.0.0/0").contains(ip("::1")));
        assert!(net("10.0.0.0/8").covers(&net("10.1.0.0/16")));
        assert!(!net("10.1.0.0/16").covers(&net("10.0.0.0/8")));
        let around: Vec<_> = Subnet::around(ip("2001:db8::1")).collect();
        assert_eq!(around.first(), Some(&net("2001:db8::1")));
        assert_eq!(around.last(), Some(&net("::/0")));
        assert!(around.contains(&net("2001:db8::/32")));
    }
}
