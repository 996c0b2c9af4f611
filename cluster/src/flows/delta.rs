//! What one node tells another about its flows, and the checks on receipt. Sans-io.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::Flow;

/// Most changes in one delta: at most 30 KB, so that a table of 20,000 flows never holds up the
/// heartbeat it travels with.
pub const MAX_CHANGES: usize = 500;

/// How much of a node's table somebody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Which start of the node; 0 before anything is known.
    pub epoch: u64,
    /// How old the oldest parts can be: the node's version when it began to tell everything.
    pub floor: u64,
    /// Up to which change.
    pub version: u64,
}

/// A piece of a node's table, or of what changed in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowDelta {
    pub(super) epoch: u64,
    pub(super) floor: u64,
    /// For whom knows everything up to here ...
    pub(super) base: u64,
    /// ... and knows it up to here with this.
    pub(super) upto: u64,
    /// The first piece of everything: what was known before is not to be relied on.
    pub(super) anew: bool,
    /// Whether more had happened already when this was made.
    pub(super) more: bool,
    pub(super) open: Vec<Flow>,
    pub(super) closed: Vec<(SocketAddr, SocketAddr)>,
}

/// What became of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Taken in.
    Taken,
    /// Nothing new.
    Known,
    /// One before it is missing.
    Gap,
}

/// A delta no honest node makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// Too long.
    #[error("flow delta has {found} changes, at most {MAX_CHANGES} are allowed")]
    TooLong {
        /// Changes in it.
        found: usize,
    },
    /// Its versions make no sense.
    #[error("flow delta of epoch {epoch} from version {base} to {upto} holds {found} changes")]
    Versions {
        /// Which start of the node.
        epoch: u64,
        /// Where it begins.
        base: u64,
        /// Where it ends.
        upto: u64,
        /// Changes in it.
        found: usize,
    },
    /// An address no connection can have.
    #[error("flow between {server} and {client} cannot be: found an unusable address or port")]
    Address {
        /// The node's end.
        server: SocketAddr,
        /// The client's end.
        client: SocketAddr,
    },
    /// More flows than a node may have.
    #[error("node has more than {} flows", super::MAX_HEARD)]
    TooMany,
}

impl FlowDelta {
    /// Where the receiver is after this.
    pub fn end(&self) -> Mark {
        Mark { epoch: self.epoch, floor: self.floor, version: self.upto }
    }

    /// Whether there was more to tell already: the next delta need not wait for its turn.
    pub fn more(&self) -> bool {
        self.more
    }

    /// How many changes it holds.
    pub fn len(&self) -> usize {
        self.open.len() + self.closed.len()
    }

    /// Whether it holds none: then it only says that nothing else is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn check(&self) -> Result<(), FlowError> {
        let Self { epoch, base, upto, .. } = *self;
        let found = self.len();
        if found > MAX_CHANGES {
            return Err(FlowError::TooLong { found });
        }
        let distance = upto.checked_sub(base).and_then(|all| usize::try_from(all).ok());
        if epoch == 0 || (self.anew && base > 0) || distance.is_none_or(|all| all < found) {
            return Err(FlowError::Versions { epoch, base, upto, found });
        }
        self.open.iter().try_for_each(check_flow)?;
        self.closed.iter().try_for_each(|(server, client)| check_ends(*server, *client))
    }
}

pub(super) fn check_flow(flow: &Flow) -> Result<(), FlowError> {
    check_ends(flow.server, flow.client)
}

fn check_ends(server: SocketAddr, client: SocketAddr) -> Result<(), FlowError> {
    let fits = server.ip().to_canonical().is_ipv4() == client.ip().to_canonical().is_ipv4();
    if fits && is_end(server) && is_end(client) {
        Ok(())
    } else {
        Err(FlowError::Address { server, client })
    }
}

/// Whether a connection can end there.
fn is_end(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    address.port() > 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}

/// Whether an address means something on one link only, which the address alone does not name.
pub(super) fn is_link_local(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local())
}
