//! The two ends of a connection in 36 bytes: there may be tens of thousands. Sans-io.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Server and client. IPv4 addresses and their IPv6-mapped form are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Pair([End; 2]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct End {
    ip: [u8; 16],
    port: [u8; 2],
}

impl Pair {
    pub(super) fn new(server: SocketAddr, client: SocketAddr) -> Self {
        Self([server.into(), client.into()])
    }

    pub(super) fn server(&self) -> SocketAddr {
        self.0[0].into()
    }

    pub(super) fn client(&self) -> SocketAddr {
        self.0[1].into()
    }
}

impl From<SocketAddr> for End {
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { ip: ip.octets(), port: address.port().to_be_bytes() }
    }
}

impl From<End> for SocketAddr {
    fn from(End { ip, port }: End) -> Self {
        Self::new(IpAddr::V6(Ipv6Addr::from(ip)).to_canonical(), u16::from_be_bytes(port))
    }
}
