//! The certificates of the FRP port: the same on every node, renewed before they end.
//!
//! Names and layout are those of HaRP's `/certs/frp`, because AppAPI copies the client files into
//! ExApp containers: CA and server `CN=harp.nc`, client `CN=harp.client.nc`. A client in a
//! container keeps the authority it was installed with. So several authorities are trusted at a
//! time, and the server sends, after its own certificate, the newest authority as signed by the
//! one before it, and so on: each client finds the one it knows.
//!
//! `plan` decides what is due, `issue` makes it, `seal` hides the keys, `keeper` does it all in
//! time. How connections use the certificates is `connection.rs`'s business.

mod issue;
mod keeper;
mod plan;
mod seal;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use cluster::record::FrpPki;
use cluster::{Handle, ProposeError};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::secret::Secret;
pub use keeper::{Change, ChangeError, InForce, Keeper, Upkeep};
pub use seal::Seal;

/// Name of the server certificate; frpc's `transport.tls.serverName`.
pub const SERVER_NAME: &str = "harp.nc";

/// Name of the client certificate.
pub const CLIENT_NAME: &str = "harp.client.nc";

/// Why there are no usable certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The replicated keys do not open with this node's cluster key.
    #[error("frp pki: the {what} key is damaged or sealed under the key of another cluster")]
    OtherClusterKey {
        /// Which key.
        what: &'static str,
    },
    /// The replicated record is not one this build wrote.
    #[error("frp pki: the replicated {what} is damaged or of a newer version")]
    Damaged {
        /// Which part.
        what: &'static str,
    },
    /// A certificate could not be made.
    #[error("frp pki: making the certificates failed")]
    Generate(#[from] rcgen::Error),
    /// A witness has no key to seal or open with.
    #[error("frp pki: this member has no cluster key")]
    NoClusterKey,
    /// The TLS library refuses the certificates.
    #[error("frp pki: the certificates are not usable for TLS: {0}")]
    Tls(String),
    /// HaRP's certificates cannot be taken over.
    #[error("frp.certificates_from: {path}: {reason}")]
    Inherit {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The cluster stopped before it had certificates.
    #[error("frp pki: the certificates could not be shared")]
    Cluster(#[source] ProposeError),
    /// A certificate file could not be written.
    #[error("frp pki: {path} could not be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// The certificates with their keys opened.
#[derive(Clone, Debug)]
pub struct Pki {
    /// The newest first.
    authorities: Vec<String>,
    /// The server's own certificate, then the way from each authority to the one before it.
    server_chain: Vec<String>,
    server_key: Secret,
    client_certificate: String,
    client_key: Secret,
}

impl Pki {
    /// Opens the replicated record.
    ///
    /// # Errors
    /// [`PkiError::OtherClusterKey`], [`PkiError::Damaged`].
    pub fn open(record: &FrpPki, seal: &Seal) -> Result<Self, PkiError> {
        let newest = record.newest().ok_or(PkiError::Damaged { what: "list of authorities" })?;
        // The CA key is not needed to serve, but a node that could not open it would find out
        // only when it has to issue something.
        seal.key(&newest.own, "CA")?;
        let newest_first = || record.authorities.iter().rev();
        let server = std::iter::once(&record.server.pem);
        let crossed = newest_first().map_while(|authority| authority.crossed.as_ref());
        Ok(Self {
            server_key: seal.key(&record.server, "server")?,
            client_key: seal.key(&record.client, "client")?,
            authorities: newest_first().map(|authority| authority.own.pem.clone()).collect(),
            server_chain: server.chain(crossed).cloned().collect(),
            client_certificate: record.client.pem.clone(),
        })
    }

    /// The certificates of every trusted authority, PEM, the newest first: a client that has them
    /// all accepts the server whichever of them signs.
    pub fn ca_certificates(&self) -> String {
        self.authorities.concat()
    }

    /// The client certificate, PEM.
    pub fn client_certificate(&self) -> &str {
        &self.client_certificate
    }

    /// The client's private key, PEM (PKCS #8).
    pub fn client_key(&self) -> &Secret {
        &self.client_key
    }

    /// TLS 1.2 and 1.3 as frpc expects it: no ALPN, and no session tickets, because frpc never
    /// resumes. `require_client` demands a certificate of one of
    /// our authorities, whatever its name.
    ///
    /// # Errors
    /// [`PkiError::Tls`], [`PkiError::Damaged`].
    pub fn server_config(&self, require_client: bool) -> Result<ServerConfig, PkiError> {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .map_err(tls)?;
        let builder = if require_client {
            let roots = Arc::new(self.roots()?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| PkiError::Tls(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let chain = self.server_chain.iter().map(|pem| certificate(pem, "server certificate"));
        let chain = chain.collect::<Result<_, _>>()?;
        let key = private_key(&self.server_key, "server key")?;
        let mut config = builder.with_single_cert(chain, key).map_err(tls)?;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }

    /// What a client of the FRP port needs: trusts the authorities, presents the client certificate. To
    /// be used with [`SERVER_NAME`].
    ///
    /// # Errors
    /// [`PkiError::Tls`], [`PkiError::Damaged`].
    pub fn client_config(&self) -> Result<ClientConfig, PkiError> {
        let chain = vec![certificate(&self.client_certificate, "client certificate")?];
        ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .map_err(tls)?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(chain, private_key(&self.client_key, "client key")?)
            .map_err(tls)
    }

    /// Writes `ca.crt`, `server.{crt,key}` and `client.{crt,key}` into `dir`, which is made when
    /// missing. Each file is replaced in one step; keys are readable by the owner only.
    ///
    /// # Errors
    /// [`PkiError::Write`] with the file that failed.
    pub fn write_files(&self, dir: &Path) -> Result<(), PkiError> {
        fs::create_dir_all(dir)
            .map_err(|source| PkiError::Write { path: dir.to_owned(), source })?;
        let public = [
            ("ca.crt", self.ca_certificates()),
            ("server.crt", self.server_chain.concat()),
            ("client.crt", self.client_certificate.clone()),
        ];
        for (name, text) in public {
            replace(&dir.join(name), text.as_bytes(), 0o644)?;
        }
        for (name, key) in [("server.key", &self.server_key), ("client.key", &self.client_key)] {
            replace(&dir.join(name), key.expose(), 0o600)?;
        }
        Ok(())
    }

    fn roots(&self) -> Result<RootCertStore, PkiError> {
        let mut roots = RootCertStore::empty();
        for pem in &self.authorities {
            roots.add(certificate(pem, "CA certificate")?).map_err(tls)?;
        }
        Ok(roots)
    }
}

/// The cluster's certificates, made if there are none, without any upkeep.
///
/// # Errors
/// [`PkiError`]; not for a missing quorum, it waits for that.
pub async fn ensure(cluster: &Handle, days: u32) -> Result<Pki, PkiError> {
    let keeper = Keeper::new(cluster.clone(), days)?;
    Pki::open(&*keeper.ensure(None).await?, &Seal::of(cluster)?)
}

/// The first 16 bytes of the SHA-256 of a certificate, hexadecimal with colons; empty when it is
/// none.
pub fn fingerprint(pem: &str) -> String {
    let Ok(certificate) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
        return String::new();
    };
    let digest = digest(&SHA256, &certificate);
    let bytes = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02X}"));
    bytes.collect::<Vec<_>>().join(":")
}

fn certificate(pem: &str, what: &'static str) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_pem| PkiError::Damaged { what })
}

fn private_key(pem: &Secret, what: &'static str) -> Result<PrivateKeyDer<'static>, PkiError> {
    PrivateKeyDer::from_pem_slice(pem.expose()).map_err(|_pem| PkiError::Damaged { what })
}

fn tls(error: rustls::Error) -> PkiError {
    PkiError::Tls(error.to_string())
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let next = path.with_extension(format!("new-{}", std::process::id()));
    let write = || -> io::Result<()> {
        // What an interrupted run left behind may have a wider mode than asked for.
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&next)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&next, path)
    };
    write().map_err(|source| PkiError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
