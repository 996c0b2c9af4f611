//! The certificates of the FRP port: made once for the whole cluster, read by every node.
//!
//! Names and layout are those of HaRP's `/certs/frp`, because AppAPI copies the client files into
//! ExApp containers: CA and server `CN=harp.nc`, client `CN=harp.client.nc`. Private keys travel
//! through the cluster sealed under the shared key, so a witness cannot read them. How
//! connections use the certificates is `connection.rs`'s business.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use cluster::record::FrpPki;
use cluster::{Command, Handle, ProposeError};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::inherit;
use crate::secret::Secret;

/// Name of the server certificate; frpc's `transport.tls.serverName`.
pub const SERVER_NAME: &str = "harp.nc";

/// Name of the client certificate.
pub const CLIENT_NAME: &str = "harp.client.nc";

const SEAL_INFO: &[u8] = b"trigon frp pki v1";
const SEAL_VERSION: u8 = 1;
const PROPOSE_WITHIN: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Why there are no usable certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The replicated keys do not open with this node's shared key.
    #[error(
        "frp pki: the {what} key is sealed under another shared key; give every node the same one"
    )]
    OtherSharedKey {
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
    /// The keys could not be sealed.
    #[error("frp pki: sealing the keys failed")]
    Seal,
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
    ca_certificate: String,
    server_certificate: String,
    server_key: Secret,
    client_certificate: String,
    client_key: Secret,
}

/// The cluster's certificates; the first node to ask makes them. Waits as long as it takes to
/// find a quorum, because no two nodes may present different ones.
///
/// # Errors
/// [`PkiError`]; not for a missing quorum.
pub async fn ensure(cluster: &Handle, shared: &Secret, days: u32) -> Result<Pki, PkiError> {
    ensure_from(cluster, shared, days, None).await
}

/// The same; when they have to be made, those of HaRP in `inherited` are taken instead.
///
/// # Errors
/// [`PkiError`]; not for a missing quorum.
pub async fn ensure_from(
    cluster: &Handle,
    shared: &Secret,
    days: u32,
    inherited: Option<&Path>,
) -> Result<Pki, PkiError> {
    let mut changes = cluster.changes();
    let mut fresh = None;
    loop {
        if let Some(record) = cluster.view().pki() {
            return Pki::open(record, shared);
        }
        let record = match &fresh {
            Some(record) => record,
            None => fresh.insert(match inherited {
                Some(dir) => inherit::from_dir(dir, shared)?,
                None => generate(shared, days)?,
            }),
        };
        match cluster.propose(Command::InitPki(FrpPki::clone(record)), PROPOSE_WITHIN).await {
            // Ours or somebody else's: the view has it now.
            Ok(_) => {}
            Err(ProposeError::Stopped) => return Err(PkiError::Cluster(ProposeError::Stopped)),
            Err(error) => tracing::debug!(%error, "frp certificates wait for a quorum"),
        }
        if cluster.view().pki().is_none() {
            // A closed channel only means the view cannot change: the timer still paces us.
            let _ = tokio::time::timeout(RETRY_AFTER, changes.changed()).await;
        }
    }
}

impl Pki {
    /// Opens the replicated record with the shared key.
    ///
    /// # Errors
    /// [`PkiError::OtherSharedKey`], [`PkiError::Damaged`].
    pub fn open(record: &FrpPki, shared: &Secret) -> Result<Self, PkiError> {
        let key = sealing_key(shared)?;
        // The CA key is not needed to serve, but a node that could not open it would find out
        // only when it has to issue something.
        unseal(&key, &record.ca_key, &record.ca_certificate, "CA")?;
        Ok(Self {
            server_key: unseal(&key, &record.server_key, &record.server_certificate, "server")?,
            client_key: unseal(&key, &record.client_key, &record.client_certificate, "client")?,
            ca_certificate: record.ca_certificate.clone(),
            server_certificate: record.server_certificate.clone(),
            client_certificate: record.client_certificate.clone(),
        })
    }

    /// The CA certificate, PEM.
    pub fn ca_certificate(&self) -> &str {
        &self.ca_certificate
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
    /// resumes. `require_client` demands a certificate of our CA, whatever its name.
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
        let chain = vec![certificate(&self.server_certificate, "server certificate")?];
        let key = private_key(&self.server_key, "server key")?;
        let mut config = builder.with_single_cert(chain, key).map_err(tls)?;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }

    /// What a client of the FRP port needs: trusts the CA, presents the client certificate. To
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
        let public: [(&str, &str); 3] = [
            ("ca.crt", &self.ca_certificate),
            ("server.crt", &self.server_certificate),
            ("client.crt", &self.client_certificate),
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
        roots.add(certificate(&self.ca_certificate, "CA certificate")?).map_err(tls)?;
        Ok(roots)
    }
}

/// New certificates with sealed keys.
fn generate(shared: &Secret, days: u32) -> Result<FrpPki, PkiError> {
    let sealing = sealing_key(shared)?;

    let ca_key = KeyPair::generate()?;
    let mut ca = named(SERVER_NAME, days);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_certificate = ca.self_signed(&ca_key)?.pem();
    let ca_key_pem = ca_key.serialize_pem();
    let issuer = Issuer::new(ca, ca_key);

    let leaf = |name: &str| -> Result<(String, Vec<u8>), PkiError> {
        let key = KeyPair::generate()?;
        let mut params = named(name, days);
        params.subject_alt_names = CertificateParams::new([name.to_owned()])?.subject_alt_names;
        params.use_authority_key_identifier_extension = true;
        let pem = params.signed_by(&key, &issuer)?.pem();
        let sealed = seal(&sealing, &key.serialize_pem(), &pem)?;
        Ok((pem, sealed))
    };
    let (server_certificate, server_key) = leaf(SERVER_NAME)?;
    let (client_certificate, client_key) = leaf(CLIENT_NAME)?;
    Ok(FrpPki {
        ca_key: seal(&sealing, &ca_key_pem, &ca_certificate)?,
        ca_certificate,
        server_certificate,
        server_key,
        client_certificate,
        client_key,
    })
}

fn named(name: &str, days: u32) -> CertificateParams {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    // A client whose clock is behind must not find the certificate "not yet valid".
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * days).into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

pub(super) fn sealing_key(shared: &Secret) -> Result<RandomizedNonceKey, PkiError> {
    let mut key = [0; 32];
    Salt::new(HKDF_SHA256, &[])
        .extract(shared.expose())
        .expand(&[SEAL_INFO], HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key))
        .map_err(|_unspecified| PkiError::Seal)?;
    RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_unspecified| PkiError::Seal)
}

/// `version | nonce | ciphertext and tag`, bound to the certificate the key belongs to.
pub(super) fn seal(
    key: &RandomizedNonceKey,
    pem: &str,
    certificate: &str,
) -> Result<Vec<u8>, PkiError> {
    let mut text = pem.as_bytes().to_vec();
    let nonce = key
        .seal_in_place_append_tag(Aad::from(certificate), &mut text)
        .map_err(|_unspecified| PkiError::Seal)?;
    let mut sealed = vec![SEAL_VERSION];
    sealed.extend_from_slice(nonce.as_ref());
    sealed.append(&mut text);
    Ok(sealed)
}

fn unseal(
    key: &RandomizedNonceKey,
    sealed: &[u8],
    certificate: &str,
    what: &'static str,
) -> Result<Secret, PkiError> {
    let damaged = PkiError::Damaged { what };
    let Some((&SEAL_VERSION, rest)) = sealed.split_first() else { return Err(damaged) };
    let Some((nonce, text)) = rest.split_at_checked(NONCE_LEN) else { return Err(damaged) };
    let Ok(nonce) = Nonce::try_assume_unique_for_key(nonce) else { return Err(damaged) };
    let mut text = text.to_vec();
    key.open_in_place(nonce, Aad::from(certificate), &mut text)
        .map(|plain| Secret::new(&*plain))
        .map_err(|_unspecified| PkiError::OtherSharedKey { what })
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
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn key(text: &str) -> Secret {
        Secret::new(text)
    }

    #[tokio::test]
    async fn every_node_gets_the_certificates_made_first() {
        let cluster = Handle::in_memory(1);
        let first = ensure(&cluster, &key("k"), 5000).await.unwrap();
        let second = ensure(&cluster, &key("k"), 5000).await.unwrap();
        assert_eq!(first.server_certificate, second.server_certificate);
        assert!(first.server_key.matches(second.server_key.expose()));
    }

    #[tokio::test]
    async fn another_shared_key_is_named_as_the_cause() {
        let cluster = Handle::in_memory(1);
        ensure(&cluster, &key("right"), 5000).await.unwrap();
        let error = ensure(&cluster, &key("wrong"), 5000).await.unwrap_err().to_string();
        assert!(error.contains("sealed under another shared key"), "{error}");
    }

    #[test]
    fn a_key_does_not_open_beside_another_certificate() {
        let mut record = generate(&key("k"), 5000).unwrap();
        std::mem::swap(&mut record.server_key, &mut record.client_key);
        assert!(Pki::open(&record, &key("k")).is_err());
        for cut in [0, 1, 5, NONCE_LEN + 1, 40] {
            let mut record = generate(&key("k"), 5000).unwrap();
            record.ca_key.truncate(cut);
            assert!(Pki::open(&record, &key("k")).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn sealed_keys_do_not_show_the_key() {
        let record = generate(&key("k"), 5000).unwrap();
        for sealed in [&record.ca_key, &record.server_key, &record.client_key] {
            assert!(!sealed.windows(11).any(|window| window == b"PRIVATE KEY"));
        }
    }

    #[tokio::test]
    async fn both_ends_accept_each_other_and_a_client_without_certificate_is_refused() {
        let cluster = Handle::in_memory(1);
        let pki = ensure(&cluster, &key("k"), 5000).await.unwrap();
        let bare = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_root_certificates(pki.roots().unwrap())
            .with_no_client_auth();
        let full = pki.client_config().unwrap();
        for (client, require, accepted) in
            [(&full, true, true), (&full, false, true), (&bare, false, true), (&bare, true, false)]
        {
            let (near, far) = tokio::io::duplex(16 * 1024);
            let acceptor =
                tokio_rustls::TlsAcceptor::from(Arc::new(pki.server_config(require).unwrap()));
            let connector = tokio_rustls::TlsConnector::from(Arc::new(client.clone()));
            let name = SERVER_NAME.try_into().unwrap();
            let (server, _client) =
                tokio::join!(acceptor.accept(near), connector.connect(name, far));
            assert_eq!(server.is_ok(), accepted, "require {require}");
        }
    }

    #[tokio::test]
    async fn files_are_laid_out_like_harps_and_keys_are_private() {
        let pki = ensure(&Handle::in_memory(1), &key("k"), 5000).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let certs = dir.path().join("certs/frp");
        pki.write_files(&certs).unwrap();
        pki.write_files(&certs).unwrap();
        let mut names: Vec<_> = fs::read_dir(&certs)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                (entry.file_name().into_string().unwrap(), mode)
            })
            .collect();
        names.sort();
        let expected = [
            ("ca.crt", 0o644),
            ("client.crt", 0o644),
            ("client.key", 0o600),
            ("server.crt", 0o644),
            ("server.key", 0o600),
        ];
        assert_eq!(names, expected.map(|(name, mode)| (name.to_owned(), mode)));
    }
}
