//! Where an admin's questions about what a node serves are answered and orders are carried out.
//! A witness has none: it knows no ExApp, tunnel or failure.

use cluster::clock::now;
use cluster::record::{FrpCertificate, MAX_REASON, Millis, Subnet};
use std::time::Duration;

use super::bans::{Ban, Bans, NewBan, Removal, Removed, Source};
use super::certificates::{Action, Authority, Certificate, Certificates, Order};
use super::exapps::{ExApp, ExApps, Place, Recorded};
use super::membership::Membership;
use super::refusal::Refusal;
use super::tunnels::{Tunnel, Tunnels};
use crate::exapps::directory::{self, Directory};
use crate::exapps::upstream;
use crate::frp;
use crate::frp::pki::{Change, ChangeError as CertificateError};
use crate::guard::{self, Guard};
use crate::net::Target;

/// How much of a run id is shown: enough to tell clients apart, too little to take one's place.
const RUN_ID: usize = 8;

/// The rooms an admin may look into.
#[derive(Clone)]
pub struct Desk {
    /// Bans.
    pub guard: Guard,
    /// ExApp records, of each Nextcloud its own.
    pub directories: Vec<Directory>,
    /// Tunnels.
    pub tunnels: frp::Tunnels,
    /// Certificates of the tunnel port.
    pub keeper: frp::pki::Keeper,
    /// The cluster itself.
    pub membership: Membership,
    /// This node's id.
    pub node: u64,
}

impl Desk {
    /// The ExApp records in force.
    pub fn exapps(&self) -> ExApps {
        let tunnels = self.tunnels.status();
        let listed = self.directories.iter().flat_map(Directory::list);
        let shown = listed.map(|listed| {
            let record = &listed.record;
            let tunnel = match upstream::target(&record.host, record.port) {
                Target::Tunnel(port) => {
                    let ours = |tunnel: &&frp::TunnelStatus| {
                        tunnel.tenant == listed.tenant && tunnel.port == port
                    };
                    Some(tunnels.iter().find(ours))
                }
                Target::Tcp { .. } | Target::Unix(_) => None,
            };
            let place = match tunnel {
                None => Place::Direct,
                Some(None) => Place::Unregistered,
                Some(Some(tunnel)) if tunnel.live_here => Place::Here,
                Some(Some(tunnel)) if tunnel.node == self.node => Place::Absent,
                Some(Some(_)) => Place::Elsewhere,
            };
            ExApp {
                id: listed.tenant.label(&record.id),
                version: record.version.clone(),
                host: record.host.clone(),
                port: record.port,
                routes: record.routes.len(),
                tunnel: place,
                tunnel_node: tunnel.flatten().map(|tunnel| tunnel.node),
                recorded: match listed.recorded {
                    directory::Recorded::Cluster => Recorded::Cluster,
                    directory::Recorded::Here => Recorded::Here,
                },
                checked_seconds: listed.checked.map(|ago| ago.as_secs()),
            }
        });
        ExApps(shown.collect())
    }

    /// What is registered anywhere in the cluster.
    pub fn tunnels(&self) -> Tunnels {
        let at = now();
        let shown = self.tunnels.status().into_iter().map(|tunnel| Tunnel {
            port: tunnel.port,
            proxy: tunnel.tenant.label(&tunnel.proxy),
            run_id: tunnel.run_id.chars().take(RUN_ID).collect(),
            node: tunnel.node,
            client: tunnel.client.to_string(),
            since_seconds: seconds(at.saturating_sub(tunnel.since)),
            live_here: tunnel.live_here,
            connections: tunnel.connections,
        });
        Tunnels(shown.collect())
    }

    /// The certificates of the tunnel port and of the control link.
    pub fn certificates(&self) -> Certificates {
        let link = self.membership.certificates();
        let Some(record) = self.keeper.record() else { return link };
        let at = now();
        let show = |role: &str, state: &str, of: &FrpCertificate| Certificate {
            area: "frp".to_owned(),
            role: role.to_owned(),
            state: state.to_owned(),
            waits_for: Vec::new(),
            fingerprint: frp::pki::fingerprint(&of.pem),
            ends_at: of.until / 1000,
            ends_in_seconds: of.until.saturating_sub(at) / 1000,
        };
        let newest_first = record.authorities.iter().rev().enumerate();
        let authorities = newest_first.map(|(age, authority)| {
            show("authority", if age == 0 { "signs" } else { "trusted" }, &authority.own)
        });
        let leaves = [("server", &record.server), ("client", &record.client)];
        let leaves = leaves.map(|(role, of)| show(role, "in use", of));
        Certificates(authorities.chain(leaves).chain(link.0).collect())
    }

    pub(super) async fn change_certificates(&self, order: Order) -> Result<(), Refusal> {
        if order.authority == Authority::Cluster {
            return self.membership.change_certificates(order).await;
        }
        let change = match order.action {
            Action::Renew => Change::Renew,
            Action::RotateCa => Change::AddAuthority,
            Action::DropOldCas => Change::DropOld,
        };
        self.keeper.change(change).await.map_err(|error| match error {
            CertificateError::Unconfirmed(_) => Refusal::Unconfirmed(error.to_string()),
            _ => Refusal::Wrong(error.to_string()),
        })
    }

    /// Bans only, or whoever has a failure too.
    pub fn bans(&self, all: bool) -> Bans {
        let at = now();
        let listed = self.guard.list().into_iter().filter(|entry| all || entry.banned);
        Bans(listed.map(|entry| ban(entry, at)).collect())
    }

    pub(super) async fn add(&self, new: NewBan) -> Result<(), Refusal> {
        let subnet = subnet(&new.address)?;
        if new.reason.len() > MAX_REASON || new.reason.chars().any(char::is_control) {
            let text = format!("reason: expected one line of at most {MAX_REASON} bytes");
            return Err(Refusal::Wrong(text));
        }
        if new.for_seconds == Some(0) {
            return Err(Refusal::Wrong("for: found 0, expected more than that".to_owned()));
        }
        let length = new.for_seconds.map(Duration::from_secs);
        self.guard.ban(subnet, length, new.reason).await?;
        tracing::info!(client.addr = %subnet, for_seconds = new.for_seconds, "banned by an admin");
        Ok(())
    }

    /// Lets somebody in again and forgets the failures.
    ///
    /// # Errors
    /// The address is none, or the cluster did not confirm it.
    pub async fn remove(&self, removal: &Removal) -> Result<Removed, Refusal> {
        let subnet = subnet(&removal.address)?;
        let pardon = self.guard.pardon(subnet).await?;
        tracing::info!(client.addr = %subnet, found = pardon.found, "pardoned by an admin");
        let still_banned_by = pardon.still_banned_by.map(|wider| wider.to_string());
        Ok(Removed { found: pardon.found, still_banned_by })
    }
}

fn subnet(text: &str) -> Result<Subnet, Refusal> {
    text.parse().map_err(|error| Refusal::Wrong(format!("address: found {text:?}, {error}")))
}

fn ban(entry: guard::Entry, at: Millis) -> Ban {
    let ends_in_seconds = entry.until.map(|until| seconds(until.saturating_sub(at)));
    let base = Ban {
        address: entry.subnet.to_string(),
        banned: entry.banned,
        source: Source::Failures,
        failures: None,
        nodes: Vec::new(),
        ends_in_seconds,
        since_seconds: None,
        reason: None,
    };
    match entry.source {
        guard::Source::Failures { count, nodes } => {
            Ban { failures: Some(count), nodes: nodes.into_iter().collect(), ..base }
        }
        guard::Source::Admin { node, since, reason } => Ban {
            source: Source::Admin,
            nodes: vec![node],
            since_seconds: Some(seconds(at.saturating_sub(since))),
            reason: Some(reason),
            ..base
        },
    }
}

/// Whole seconds, up: what ends in half a second has not ended.
fn seconds(length: Millis) -> u64 {
    length.div_ceil(1000)
}
