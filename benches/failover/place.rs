//! The network both contenders are measured in: two machines for the address, one for the third
//! voter of Trigon, one that asks, on one switch.

use std::io;
use std::net::Ipv4Addr;

use trigon::lab::namespaces::{Host, Lan};

/// The address that moves.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 100);

pub(crate) struct Place {
    pub(crate) client: Host,
    pub(crate) a: Host,
    pub(crate) b: Host,
    pub(crate) witness: Host,
}

impl Place {
    pub(crate) fn build() -> io::Result<Self> {
        let lan = Lan::new("trigon-bench")?;
        let host = |name, last| lan.host(name, Ipv4Addr::new(10, 78, 0, last));
        Ok(Self {
            client: host("client", 50)?,
            a: host("a", 11)?,
            b: host("b", 12)?,
            witness: host("witness", 13)?,
        })
    }
}
