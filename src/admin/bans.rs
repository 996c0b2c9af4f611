//! `trigon bans`: who is kept out, and the changes an admin makes to that.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::table::{span, table};

/// The answer of `GET /bans`: those set by admins first, each part by address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bans(pub Vec<Ban>);

/// One address or network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// IPv4 address, or a network; IPv6 never narrower than /64.
    pub address: String,
    /// Whether it is kept out; failures that are not enough are listed on request.
    pub banned: bool,
    /// What brought it here.
    pub source: Source,
    /// Failures within the window on all nodes; none for a ban set by an admin.
    pub failures: Option<usize>,
    /// Nodes that saw the failures, or the one on which the ban was set.
    pub nodes: Vec<u64>,
    /// Seconds until it is let in again if nothing else happens; none when it is not kept out, or
    /// for good.
    pub ends_in_seconds: Option<u64>,
    /// Seconds since an admin set it.
    pub since_seconds: Option<u64>,
    /// The admin's words.
    pub reason: Option<String>,
}

/// What a ban comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Too many failures.
    Failures,
    /// Somebody set it.
    Admin,
}

/// The body of `POST /bans`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBan {
    /// Address or network.
    pub address: String,
    /// Seconds; until it is removed when there are none.
    #[serde(default)]
    pub for_seconds: Option<u64>,
    /// Words for whoever reads the list later, at most 200 bytes on one line.
    #[serde(default)]
    pub reason: String,
}

/// The body of `DELETE /bans`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// Address or network; everything within it.
    pub address: String,
}

/// The answer of `DELETE /bans`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Whether there was a ban or a failure.
    pub found: bool,
    /// A wider ban that goes on keeping it out.
    pub still_banned_by: Option<String>,
}

impl fmt::Display for Bans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.iter().map(|ban| {
            let nodes: Vec<_> = ban.nodes.iter().map(ToString::to_string).collect();
            let source = match ban.source {
                Source::Failures => "failures",
                Source::Admin => "admin",
            };
            let ends = match (ban.banned, ban.ends_in_seconds) {
                (false, _) => "not banned".to_owned(),
                (true, None) => "never".to_owned(),
                (true, Some(seconds)) => format!("in {}", span(seconds)),
            };
            [
                ban.address.clone(),
                ban.failures.map_or_else(|| "-".to_owned(), |count| count.to_string()),
                ends,
                source.to_owned(),
                nodes.join(","),
                ban.reason.clone().unwrap_or_default(),
            ]
        });
        let headings = ["ADDRESS", "FAILURES", "ENDS", "SOURCE", "NODES", "REASON"];
        f.write_str(&table(headings, rows.collect()))
    }
}
