//! `trigon certs`: the certificates of the tunnel port, how long they last, and orders to change them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::table::{span, table};

/// The answer of `GET /certificates`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Certificates(pub Vec<Certificate>);

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Where it is used: `frp`.
    pub area: String,
    /// What it is for: `authority`, `server` or `client`.
    pub role: String,
    /// `signs` (the authority new certificates come from), `trusted` (an older authority), or
    /// `in use`.
    pub state: String,
    /// The beginning of the SHA-256 of the certificate, hexadecimal, as `openssl x509
    /// -fingerprint -sha256` shows it.
    pub fingerprint: String,
    /// When it ends, seconds since the Unix epoch.
    pub ends_at: u64,
    /// Seconds until then; 0 when it has ended.
    pub ends_in_seconds: u64,
}

/// The body of `POST /certificates`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What to do.
    pub action: Action,
}

/// What can be done to the certificates of the FRP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// New server and client certificates of the same authority.
    Renew,
    /// A new authority; the older ones stay trusted.
    RotateCa,
    /// Only the newest authority stays trusted.
    DropOldCas,
}

impl fmt::Display for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.iter().map(|one| {
            let ends = match one.ends_in_seconds {
                0 => "ended".to_owned(),
                seconds => format!("in {}", span(seconds)),
            };
            [one.area.clone(), one.role.clone(), one.state.clone(), ends, one.fingerprint.clone()]
        });
        let headings = ["AREA", "ROLE", "STATE", "ENDS", "SHA-256"];
        f.write_str(&table(headings, rows.collect()))
    }
}
