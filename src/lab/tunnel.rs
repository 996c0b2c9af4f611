//! The ExApp's tunnel client: a stock frpc, or the built-in client when none is given.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;

use rustls::ClientConfig as TlsConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::configs::{A, APP_ID, APP_PORT, FRP_PORT, Files, VIP};
use super::namespaces::{Entered, Host};
use super::node::{start_logged, tail};
use crate::frp::client::{ClientConfig, LocalTarget, run};
use crate::secret::Secret;

/// Which client, checked before anything is built.
pub(super) enum Choice {
    /// `frp::client`.
    BuiltIn,
    /// A binary that told its version.
    Stock {
        /// Where it lies.
        path: PathBuf,
        /// What it said.
        version: String,
    },
}

impl Choice {
    /// Asks the binary for its version.
    pub(super) fn new(frpc: Option<&Path>) -> Result<Self, Error> {
        let Some(frpc) = frpc else { return Ok(Self::BuiltIn) };
        let unusable = |reason: String| Error::Frpc { path: frpc.to_owned(), reason };
        // A relative path would depend on where the child stands.
        let path = frpc.canonicalize().map_err(|reason| unusable(reason.to_string()))?;
        let output = Command::new(&path)
            .arg("--version")
            .output()
            .map_err(|reason| unusable(reason.to_string()))?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || version.is_empty() {
            return Err(unusable(format!("`--version` ended with {}", output.status)));
        }
        Ok(Self::Stock { path, version })
    }

    /// For the report.
    pub(super) fn version(&self) -> &str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Stock { version, .. } => version,
        }
    }

    /// Starts the client on the ExApp's host; the node's certificates are exported by now.
    pub(super) fn start(&self, host: &Host, files: &Files) -> Result<TunnelClient, Error> {
        let log = files.directory("app").join("tunnel.log");
        let kind = match self {
            Self::BuiltIn => Kind::BuiltIn(start_built_in(host, files, &log)?),
            Self::Stock { path, .. } => {
                let config = files.write_frpc()?;
                let process = start_stock(host, path, &config, &log)?;
                Kind::Stock { process, path: path.clone(), config }
            }
        };
        Ok(TunnelClient { kind, log })
    }
}

/// A running tunnel client; ended on drop.
pub(super) struct TunnelClient {
    kind: Kind,
    log: PathBuf,
}

enum Kind {
    /// Held for its drop, which ends the client.
    BuiltIn(#[expect(dead_code, reason = "held for its drop")] Entered<()>),
    Stock {
        process: Child,
        path: PathBuf,
        config: PathBuf,
    },
}

impl TunnelClient {
    /// Starts a stock client anew. It counts every connection it ever lost and waits longer after
    /// each; rounds in quick succession would measure that, and not a failure in a good week.
    pub(super) fn refresh(&mut self, host: &Host) -> Result<(), Error> {
        let Kind::Stock { process, path, config } = &mut self.kind else { return Ok(()) };
        process.kill().and_then(|()| process.wait()).map_err(failed("ended"))?;
        *process = start_stock(host, path, config, &self.log)?;
        Ok(())
    }

    /// Fails if it has ended by itself.
    pub(super) fn check_alive(&mut self) -> Result<(), Error> {
        let Kind::Stock { process, .. } = &mut self.kind else { return Ok(()) };
        match process.try_wait().map_err(failed("watched"))? {
            None => Ok(()),
            Some(status) => Err(Error::Died {
                who: "frpc".into(),
                how: status.to_string(),
                logs: self.log_tail(),
            }),
        }
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self) -> String {
        tail("tunnel", &self.log)
    }
}

impl Drop for TunnelClient {
    fn drop(&mut self) {
        if let Kind::Stock { process, .. } = &mut self.kind {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn start_stock(host: &Host, path: &Path, config: &Path, log: &Path) -> Result<Child, Error> {
    let mut command = host.command(path);
    command.arg("-c").arg(config);
    start_logged(command, log).map_err(failed("started"))
}

fn failed(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |reason| Error::Process { program: "frpc".into(), what, reason }
}

fn start_built_in(host: &Host, files: &Files, log: &Path) -> Result<Entered<()>, Error> {
    let config = ClientConfig {
        tls: Some(Arc::new(tls(&files.frp_certificates(A))?)),
        ..ClientConfig::new(
            format!("{VIP}:{FRP_PORT}"),
            Secret::new(files.key()),
            APP_ID,
            APP_PORT,
            LocalTarget::Unix(files.exapp_socket()),
        )
    };
    let mut log = File::create(log).map_err(|reason| Error::File {
        path: log.to_owned(),
        what: "could not be made",
        reason,
    })?;
    // What it has to tell is for the case that the lab does not come up.
    let tell = move |event| {
        let _ = writeln!(log, "{event:?}");
    };
    host.enter_thread(move || run(config, CancellationToken::new(), tell))
        .map_err(Error::network("the built-in tunnel client could not be started"))
}

/// TLS as a stock frpc is configured: the exported CA, client certificate and key.
fn tls(certificates: &Path) -> Result<TlsConfig, Error> {
    let unusable = |what: &dyn std::fmt::Display| Error::File {
        path: certificates.to_owned(),
        what: "certificates could not be used",
        reason: std::io::Error::other(what.to_string()),
    };
    let pem = |error: pem::Error| unusable(&error);
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(certificates.join("ca.crt")).map_err(pem)?;
    roots.add(ca).map_err(|error| unusable(&error))?;
    let own = CertificateDer::from_pem_file(certificates.join("client.crt")).map_err(pem)?;
    let key = PrivateKeyDer::from_pem_file(certificates.join("client.key")).map_err(pem)?;
    TlsConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own], key)
        .map_err(|error| unusable(&error))
}
