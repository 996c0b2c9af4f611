//! A registered FRP tunnel. Sans-io.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Millis, NodeId, Tenant};

/// Most registrations kept; further ones are refused, because each is a tunnel that is in use.
pub const MAX_TUNNELS: usize = 4096;

/// One tcp proxy of one frpc, as every node knows it. A port that is registered but not live on
/// the node that is asked means "wait a moment", an unregistered one means "fail at once".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Whose; each tenant has ports of its own.
    pub tenant: Tenant,
    /// Registered remote port; with the tenant the key of the record.
    pub port: u16,
    /// Proxy name on the wire.
    pub proxy: String,
    /// frpc's run id, which it keeps across reconnects.
    pub run_id: String,
    /// Node that holds the session.
    pub node: NodeId,
    /// frpc's end of the control connection, for tickle ACKs after a takeover.
    pub client: SocketAddr,
    /// Our end of it: the virtual address and FRP port.
    pub server: SocketAddr,
    /// When the proxy was registered.
    pub since: Millis,
    /// When it was registered in the cluster's own time, which no skewed clock can bend.
    pub stamp: TunnelStamp,
}

impl Tunnel {
    /// The key of the record.
    pub fn key(&self) -> TunnelKey {
        TunnelKey { tenant: self.tenant.clone(), port: self.port }
    }

    /// Whether this registration is to take the place of `known`, which was applied before it. A
    /// node compares its own by the stamp alone; one of another node must have been made when
    /// that node knew of `known`. A late message of a node that was cut off therefore never
    /// undoes what its client did elsewhere meanwhile, and one of a node that merely lagged is
    /// made again by that node.
    pub fn replaces(&self, known: &Self) -> bool {
        if self.node == known.node {
            self.stamp >= known.stamp
        } else {
            self.stamp.epoch > known.stamp.epoch
        }
    }
}

/// A moment between registrations of the cluster, as the registering node saw it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TunnelStamp {
    /// One more than [`State::tunnel_epoch`](crate::State::tunnel_epoch) was on that node.
    pub epoch: u64,
    /// The node's own counter, among registrations of the same epoch.
    pub count: u64,
}

/// A port of a tenant: what one Nextcloud's ExApps have registered under a number has nothing to
/// do with what another's have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TunnelKey {
    /// Whose port.
    pub tenant: Tenant,
    /// Registered remote port.
    pub port: u16,
}
