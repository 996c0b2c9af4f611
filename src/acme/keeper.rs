//! Sees to it that there is a certificate: puts the cluster's into force on this node, and orders
//! the next one when that is due here.

use std::sync::Arc;
use std::time::Duration;

use cluster::record::{Acme, Millis};
use cluster::{Handle, Kek, State};
use tokio_util::sync::CancellationToken;

use super::order::{Job, open_key};
use super::plan::{self, Due};
use super::transport::{Transport, place, roots};
use super::{Config, Error};
use crate::http::tls::certificates::Certificates;

/// Longest time between two looks: clocks may be set.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);

/// Pause after a step that was not confirmed, so that a cluster without quorum is not hammered.
const UNCONFIRMED: Duration = Duration::from_secs(10);

/// The upkeep of one node.
pub struct Keeper {
    cluster: Handle,
    config: Config,
    kek: Arc<Kek>,
    transport: Transport,
    certificates: Certificates,
}

impl Keeper {
    /// For a listener that shows `certificates`. Call it within a runtime.
    ///
    /// # Errors
    /// [`Error`]: the configuration cannot work, or this is a witness.
    pub fn new(cluster: Handle, config: Config, certificates: Certificates) -> Result<Self, Error> {
        let kek = cluster.kek().ok_or(Error::NoClusterKey)?;
        let url = config.directory.parse().ok();
        if url.and_then(|url| place(&url)).is_none() {
            return Err(Error::Url(config.directory));
        }
        let transport = Transport::new(config.authorities.as_deref())?;
        Ok(Self { cluster, config, kek, transport, certificates })
    }

    /// Whether a configuration can work.
    ///
    /// # Errors
    /// As [`Keeper::new`] without a cluster.
    pub fn check(config: &Config) -> Result<(), Error> {
        let url = config.directory.parse().ok();
        if url.and_then(|url| place(&url)).is_none() {
            return Err(Error::Url(config.directory.clone()));
        }
        config.authorities.as_deref().map_or(Ok(()), |file| roots(file).map(drop))
    }

    /// Runs until `stop`. What goes wrong is logged and tried again later: the certificate in force
    /// stays.
    pub async fn run(self, stop: CancellationToken) {
        let mut in_force = None;
        let mut last_order = None;
        loop {
            let record = self.cluster.read(|state| state.acme().cloned());
            self.take_over(record.as_deref(), &mut in_force);
            let now = cluster::clock::now();
            let own = (self.cluster.node_id(), last_order);
            let mut wait = match plan::due(&self.config, record.as_deref(), own, now) {
                Due::Order => Duration::ZERO,
                Due::Later(moment) => until(moment, now),
            };
            if wait.is_zero() {
                let record = record.map(|record| Acme::clone(&record)).unwrap_or_default();
                let ordered = tokio::select! {
                    ordered = self.order(record) => ordered,
                    () = stop.cancelled() => return,
                };
                match ordered {
                    Ok(()) => last_order = Some(cluster::clock::now()),
                    Err(Error::Unconfirmed(_)) => wait = UNCONFIRMED,
                    Err(_) => {}
                }
                if wait.is_zero() {
                    continue;
                }
            }
            let known = self.cluster.read(revision_of);
            let is_other = |state: &State| (revision_of(state) != known).then_some(());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait.min(LOOK_EVERY)) => {}
                changed = self.cluster.find(is_other) => if changed.is_none() { return },
            }
        }
    }

    async fn order(&self, record: Acme) -> Result<(), Error> {
        let names = self.config.names.join(", ");
        let job = Job {
            cluster: &self.cluster,
            config: &self.config,
            kek: &self.kek,
            transport: &self.transport,
            record,
        };
        let ordered = job.run().await;
        match &ordered {
            Ok(()) => tracing::info!(names, "a certificate was issued"),
            Err(Error::Taken) => tracing::debug!(names, "another node orders the certificate"),
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = error;
                tracing::error!(names, error, "no certificate was issued; it is tried again");
            }
        }
        ordered
    }

    /// Puts a certificate into force that is not yet; each is tried once.
    fn take_over(&self, record: Option<&Acme>, in_force: &mut Option<String>) {
        let Some(certificate) = record.and_then(|record| record.certificate.as_ref()) else {
            return;
        };
        if in_force.as_ref() == Some(&certificate.pem) {
            return;
        }
        *in_force = Some(certificate.pem.clone());
        let Some(key) = open_key(&self.kek, certificate) else {
            tracing::error!("the key of the issued certificate does not open with the cluster's");
            return;
        };
        match self.certificates.issue(&certificate.pem, &key) {
            Ok(()) => {
                tracing::info!(name: "certificate_renewed", "a new TLS certificate is in force");
            }
            Err(error) => tracing::error!(%error, "the old TLS certificate stays in force"),
        }
    }
}

fn revision_of(state: &State) -> u64 {
    state.acme().map_or(0, |acme| acme.revision)
}

fn until(moment: Millis, now: Millis) -> Duration {
    Duration::from_millis(moment.saturating_sub(now).max(1))
}
