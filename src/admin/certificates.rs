//! `trigon certs`: the certificates of the tunnel port and of the control link, how long they last,
//! and orders to change them.

use std::fmt;

use cluster::LinkCertificates;
use cluster::record::Millis;
use serde::{Deserialize, Serialize};

use super::table::{span, table};
use crate::frp::pki::fingerprint;

/// The answer of `GET /certificates`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Certificates(pub Vec<Certificate>);

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Where it is used: `frp` (the tunnel port) or `cluster` (the control link).
    pub area: String,
    /// What it is for: `authority`, `server`, `client`, or `node` (of the node that was asked).
    pub role: String,
    /// `signs` (the authority new certificates come from), `trusted` (another authority), or
    /// `in use`.
    pub state: String,
    /// Members a change to this authority waits for.
    #[serde(default)]
    pub waits_for: Vec<u64>,
    /// The beginning of the SHA-256 of the certificate, hexadecimal, as `openssl x509
    /// -fingerprint -sha256` shows it.
    pub fingerprint: String,
    /// When it ends, seconds since the Unix epoch.
    pub ends_at: u64,
    /// Seconds until then; 0 when it has ended.
    pub ends_in_seconds: u64,
}

/// The body of `POST /certificates`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What to do.
    pub action: Action,
    /// Whose certificates.
    #[serde(default)]
    pub authority: Authority,
}

/// The two authorities of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    /// Of the tunnel port; `frp` is what lists and metrics call its area.
    #[default]
    #[value(alias = "frp")]
    Tunnels,
    /// Of the control link between the members.
    Cluster,
}

/// What can be done to certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// New server and client certificates of the same authority.
    Renew,
    /// A new authority; the older ones stay trusted.
    RotateCa,
    /// Only the newest authority stays trusted. On the control link that happens by itself.
    DropOldCas,
}

impl Certificates {
    /// Those of the control link, the newest authority first.
    pub(super) fn of_link(link: LinkCertificates, now: Millis) -> Self {
        let show = |role: &str, state: &str, pem: &str, ends_at: u64| Certificate {
            area: "cluster".to_owned(),
            role: role.to_owned(),
            state: state.to_owned(),
            waits_for: Vec::new(),
            fingerprint: fingerprint(pem),
            ends_at,
            ends_in_seconds: ends_at.saturating_sub(now / 1000),
        };
        let newest_first = link.authorities.iter().rev();
        let mut shown: Vec<_> = newest_first
            .map(|one| {
                let state = if one.signs { "signs" } else { "trusted" };
                show("authority", state, &one.certificate, one.ends_at)
            })
            .collect();
        if let Some(newest) = shown.first_mut() {
            newest.waits_for = link.waiting_for;
        }
        shown.push(show("node", "in use", &link.certificate, link.ends_at));
        Self(shown)
    }
}

impl fmt::Display for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.iter().map(|one| {
            let ends = match one.ends_in_seconds {
                0 => "ended".to_owned(),
                seconds => format!("in {}", span(seconds)),
            };
            let waits_for: Vec<_> = one.waits_for.iter().map(u64::to_string).collect();
            let state = match waits_for.as_slice() {
                [] => one.state.clone(),
                nodes => format!("{}, waits for node {}", one.state, nodes.join(", ")),
            };
            [one.area.clone(), one.role.clone(), state, ends, one.fingerprint.clone()]
        });
        let headings = ["AREA", "ROLE", "STATE", "ENDS", "SHA-256"];
        f.write_str(&table(headings, rows.collect()))
    }
}

#[cfg(test)]
mod tests {
    use cluster::LinkAuthority;

    use super::*;

    #[test]
    fn the_control_link_shows_its_authorities_and_whom_a_change_waits_for() {
        let authority = |serial, signs| LinkAuthority {
            serial,
            certificate: String::new(),
            ends_at: 1000 + u64::from(serial),
            signs,
        };
        let link = LinkCertificates {
            certificate: String::new(),
            ends_at: 90,
            issued_by: Some(1),
            authorities: vec![authority(1, true), authority(2, false)],
            waiting_for: vec![3],
        };
        let shown = Certificates::of_link(link, 100_000);
        let rows: Vec<_> = shown
            .0
            .iter()
            .map(|one| (one.role.as_str(), one.state.as_str(), one.ends_in_seconds))
            .collect();
        let expected =
            [("authority", "trusted", 902), ("authority", "signs", 901), ("node", "in use", 0)];
        assert_eq!(rows, expected);
        let text = shown.to_string();
        assert!(text.contains("trusted, waits for node 3") && text.contains("ended"), "{text}");
    }

    #[test]
    fn an_order_without_an_authority_is_about_the_tunnel_port() {
        let order: Order = serde_json::from_str(r#"{"action":"rotate-ca"}"#).unwrap();
        assert_eq!(order, Order { action: Action::RotateCa, authority: Authority::Tunnels });
        let order: Order =
            serde_json::from_str(r#"{"action":"renew","authority":"cluster"}"#).unwrap();
        assert_eq!(order, Order { action: Action::Renew, authority: Authority::Cluster });
    }
}
