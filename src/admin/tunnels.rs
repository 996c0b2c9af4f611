//! `trigon tunnels list`: what frpc clients have registered anywhere in the cluster.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::table::{span, table};

/// The answer of `GET /tunnels`, by port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tunnels(pub Vec<Tunnel>);

/// One registered tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Registered port.
    pub port: u16,
    /// Proxy name; behind its name and a slash for another than the default Nextcloud's.
    pub proxy: String,
    /// The first eight characters of its client's run id.
    pub run_id: String,
    /// Node that registered it.
    pub node: u64,
    /// frpc's address.
    pub client: String,
    /// Seconds since it was registered.
    pub since_seconds: u64,
    /// Whether it is connected to this node now.
    pub live_here: bool,
    /// Connections its client carries now, when it is live here.
    pub connections: Option<usize>,
}

impl fmt::Display for Tunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.iter().map(|tunnel| {
            [
                tunnel.port.to_string(),
                tunnel.proxy.clone(),
                tunnel.run_id.clone(),
                tunnel.node.to_string(),
                tunnel.client.clone(),
                span(tunnel.since_seconds),
                if tunnel.live_here { "yes" } else { "no" }.to_owned(),
                tunnel.connections.map_or_else(|| "-".to_owned(), |count| count.to_string()),
            ]
        });
        let headings =
            ["PORT", "PROXY", "RUN ID", "NODE", "CLIENT", "SINCE", "LIVE HERE", "CONNECTIONS"];
        f.write_str(&table(headings, rows.collect()))
    }
}
