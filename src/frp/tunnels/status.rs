//! The tunnels as an admin sees them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cluster::NodeId;
use cluster::record::{Millis, Tenant, Tunnel, TunnelKey};
use serde::Serialize;

use super::Tunnels;

/// One registered tunnel, for the status page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TunnelStatus {
    /// Whose.
    pub tenant: Tenant,
    /// Remote port.
    pub port: u16,
    /// Proxy name.
    pub proxy: String,
    /// The client's run id.
    pub run_id: String,
    /// The client's end of its connection.
    pub client: SocketAddr,
    /// When it was registered, milliseconds since the Unix epoch.
    pub since: Millis,
    /// Whether this node holds the session now.
    pub live_here: bool,
    /// Node that registered it.
    pub node: NodeId,
    /// Work connections of its client that users hold now; none when it is not live here.
    pub connections: Option<usize>,
}

impl Tunnels {
    /// Every tunnel of every tenant registered or live, by tenant and port.
    pub fn status(&self) -> Vec<TunnelStatus> {
        let status = |record: &Tunnel, connections: Option<usize>| TunnelStatus {
            tenant: record.tenant.clone(),
            port: record.port,
            proxy: record.proxy.clone(),
            run_id: record.run_id.clone(),
            client: record.client,
            since: record.since,
            live_here: connections.is_some(),
            node: record.node,
            connections,
        };
        let view = self.inner.cluster.view();
        let mut by_key: BTreeMap<TunnelKey, TunnelStatus> =
            view.tunnels().map(|record| (record.key(), status(record, None))).collect();
        let registry = self.inner.registry();
        for record in registry.live() {
            let key = record.key();
            let users = registry.by_port(&key).map_or(0, |seat| seat.users.count());
            by_key.insert(key, status(record, Some(users)));
        }
        by_key.into_values().collect()
    }

    /// Clients that are logged in here, and tunnels that end here.
    pub fn counts(&self) -> (usize, usize) {
        self.inner.registry().counts()
    }

    /// Work connections in users' hands, of every client of this node.
    pub fn connections(&self) -> usize {
        self.inner.registry().users()
    }
}
