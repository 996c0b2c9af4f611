//! Failures counted against an address; enough of them in a window are a ban. Sans-io.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Millis, NodeId};

/// Most (node, address) pairs kept; the one struck longest ago makes room.
pub const MAX_STRIKE_KEYS: usize = 50_000;

/// Most strike times kept per pair; the oldest goes first. More than any sane ban threshold.
pub const MAX_STRIKES_PER_KEY: usize = 64;

/// Longest a strike is kept, in milliseconds of the log's time: one day. A ban window that is
/// longer counts other nodes' failures of the last day only.
pub const MAX_STRIKE_AGE: Millis = 24 * 3600 * 1000;

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

/// The address failures are counted under: IPv4 as it is (also when mapped into IPv6), IPv6 by
/// its /64, because one customer owns all of it.
pub fn ban_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
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
}
