//! Opens the public listener and keeps what it shows fresh.

use std::time::SystemTime;

use anyhow::Context;
use cluster::Handle;
use tokio_util::sync::CancellationToken;

use crate::acme::{self, Keeper};
use crate::admin::public as told;
use crate::frontend::public::{Config, Doors};
use crate::http::door::Door;
use crate::http::tls::certificates::Certificates;
use crate::net::listen;
use crate::observe::metrics::metrics;

/// The public listener's certificates, and where it listens.
#[derive(Clone)]
pub(super) struct Public {
    config: Config,
    certificates: Certificates,
}

impl Public {
    /// Reads the certificates and binds the ports.
    pub(super) fn open(config: &Config) -> anyhow::Result<(Self, Doors)> {
        let certificates =
            Certificates::open(config.certificates.clone()).context("public.certificates")?;
        let bind =
            |key, address| listen::bind(address).with_context(|| format!("public.{key} {address}"));
        let https = (bind("listen", config.listen)?, certificates.acceptor()?);
        let http = config.http_listen.map(|address| bind("http_listen", address)).transpose()?;
        let doors = Doors { https: Door::from(https), http: http.map(Door::from) };
        let public = Self { config: config.clone(), certificates };
        Ok((public, doors.on_terms_of(config)))
    }

    /// Takes over certificates that change, and orders them, until `stop`.
    pub(super) fn keep(
        self,
        cluster: &Handle,
        stop: CancellationToken,
    ) -> anyhow::Result<impl Future<Output = ()> + use<>> {
        let keeper = |config| Keeper::new(cluster.clone(), config, self.certificates.clone());
        let keeper = self.config.acme.clone().map(keeper).transpose().context("public.acme")?;
        let watch = self.certificates.clone().watch(stop.clone());
        Ok(async move {
            let order = async {
                match keeper {
                    Some(keeper) => keeper.run(stop).await,
                    None => stop.cancelled().await,
                }
            };
            tokio::join!(watch, order);
        })
    }

    /// The files of a new configuration.
    pub(super) fn reload(&self, config: &Config) {
        // Checked a moment ago with the rest of the file; it may have changed again.
        if let Err(error) = self.certificates.replace(config.certificates.clone()) {
            tracing::error!(%error, "the old TLS certificates stay in force");
        }
    }

    /// The end of the one that ends first, seconds since the Unix epoch.
    pub(super) fn ends_at(&self) -> Option<u64> {
        self.certificates.shown().into_iter().filter_map(|one| one.ends_at).min()
    }

    /// What `trigon status` shows of it.
    pub(super) fn status(&self, cluster: &Handle) -> told::Public {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        let certificates = self.certificates.shown().into_iter().map(|one| told::Certificate {
            file: one.file.map(|file| file.display().to_string()),
            names: one.names,
            ends_in_seconds: one.ends_at.map(|end| end.saturating_sub(now)),
            trouble: one.trouble,
        });
        told::Public {
            listen: self.config.listen.to_string(),
            http_listen: self.config.http_listen.map(|address| address.to_string()),
            certificates: certificates.collect(),
            unknown_names: metrics().unknown_names(),
            orders: self.config.acme.as_ref().map(|config| orders(config, cluster)),
        }
    }
}

fn orders(config: &acme::Config, cluster: &Handle) -> told::Orders {
    cluster.read(|state| {
        let record = state.acme();
        let order = record.and_then(|record| record.order.as_ref());
        let failure = record.and_then(|record| record.failure.as_ref());
        told::Orders {
            authority: config.directory.clone(),
            names: config.names.clone(),
            ordered_by: order.map(|order| order.node),
            challenges: order.map_or(0, |order| order.answers.len()),
            failed: failure.map(|failure| failure.reason.clone()),
        }
    })
}
