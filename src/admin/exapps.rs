//! `trigon exapps list`: the records in force on a node, without their secrets.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::table::{span, table};

/// The answer of `GET /exapps`, by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExApps(pub Vec<ExApp>);

/// One ExApp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExApp {
    /// Lower-cased id; behind its name and a slash for another than the default Nextcloud's.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Where the record says it is.
    pub host: String,
    /// Port at the host, or the tunnel's.
    pub port: u16,
    /// How many routes it has.
    pub routes: usize,
    /// Where its tunnel is.
    pub tunnel: Place,
    /// Node that registered the tunnel, if there is one.
    pub tunnel_node: Option<u64>,
    /// Whether the other nodes have the record too.
    pub recorded: Recorded,
    /// Seconds since this node last asked Nextcloud about it.
    pub checked_seconds: Option<u64>,
}

/// Where the tunnel of an ExApp is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Connected to this node.
    Here,
    /// Registered by another node.
    Elsewhere,
    /// Registered by this node, and its client is away.
    Absent,
    /// Never registered, or forgotten.
    Unregistered,
    /// The record names a host of the network: there is none.
    Direct,
}

/// Who knows a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recorded {
    /// Every node.
    Cluster,
    /// Only this one, until there is a quorum.
    Here,
}

impl fmt::Display for ExApps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.iter().map(|app| {
            let tunnel = match (app.tunnel, app.tunnel_node) {
                (Place::Here, _) => "live here".to_owned(),
                (Place::Elsewhere, Some(node)) => format!("on node {node}"),
                (Place::Elsewhere, None) => "on another node".to_owned(),
                (Place::Absent, _) => "absent".to_owned(),
                (Place::Unregistered, _) => "none".to_owned(),
                (Place::Direct, _) => "not needed".to_owned(),
            };
            let recorded = match app.recorded {
                Recorded::Cluster => "cluster",
                Recorded::Here => "only here",
            };
            [
                app.id.clone(),
                app.version.clone(),
                format!("{}:{}", app.host, app.port),
                app.routes.to_string(),
                tunnel,
                recorded.to_owned(),
                app.checked_seconds
                    .map_or_else(|| "-".to_owned(), |ago| format!("{} ago", span(ago))),
            ]
        });
        let headings = ["ID", "VERSION", "TARGET", "ROUTES", "TUNNEL", "RECORDED", "CHECKED"];
        f.write_str(&table(headings, rows.collect()))
    }
}
