//! TLS 1.3 in both directions on the peer port, and whom a finished handshake proved.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, ClientConfig, Error, RootCertStore, ServerConfig};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::{named_node, node_name};
use crate::config::TlsFiles;
use crate::record::NodeId;

/// What both ends say they speak.
pub const ALPN: &[u8] = b"trigon/1";

/// What is wrong with a certificate file.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file is missing or not PEM of the expected kind.
    #[error("{key}: {}: {text}", path.display())]
    File {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        text: String,
    },
    /// The TLS library refused the combination.
    #[error("cluster.key: does not belong to cluster.certificate: {0}")]
    Tls(#[from] Error),
}

/// This node's proof of who it is, and its rules for believing a peer. Clones are the same one;
/// what it holds can be exchanged while connections go on.
#[derive(Clone)]
pub struct Identity {
    papers: Arc<ArcSwap<TlsPapers>>,
    cluster: Arc<str>,
}

/// What new connections are made with.
struct TlsPapers {
    /// For accepted connections: peers with a certificate of the same authority, and strangers,
    /// who may ask to join and nothing else.
    server: Arc<ServerConfig>,
    /// For dialled connections.
    client: Arc<ClientConfig>,
}

impl IdentityError {
    /// The key of the configuration to look at.
    pub fn key(&self) -> &'static str {
        match self {
            Self::File { key, .. } => key,
            Self::Tls(_) => "cluster.key",
        }
    }
}

impl Identity {
    /// Reads the files and checks that they are what `node_id` needs.
    ///
    /// # Errors
    /// [`IdentityError`] names the key, the file and what is wrong with it.
    pub fn load(files: &TlsFiles, cluster: &str, node_id: NodeId) -> Result<Self, IdentityError> {
        let papers = Arc::new(ArcSwap::from_pointee(TlsPapers::load(files, cluster, node_id)?));
        Ok(Self { papers, cluster: cluster.into() })
    }

    /// Reads the files again: connections made from now on use what is there.
    ///
    /// # Errors
    /// As in [`Identity::load`]; the old ones stay in use.
    pub(crate) fn reload(&self, files: &TlsFiles, node_id: NodeId) -> Result<(), IdentityError> {
        self.papers.store(Arc::new(TlsPapers::load(files, &self.cluster, node_id)?));
        Ok(())
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.papers.load().server)
    }

    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.papers.load().client)
    }

    /// The name to expect when dialling a node.
    pub(crate) fn name_of(&self, node_id: NodeId) -> Option<ServerName<'static>> {
        ServerName::try_from(node_name(node_id, &self.cluster)).ok()
    }

    /// The node a verified chain stands for: its leaf must name exactly one node of this cluster.
    pub(crate) fn node_of(&self, chain: Option<&[CertificateDer<'_>]>) -> Option<NodeId> {
        named_by(chain?.first()?, &self.cluster)
    }
}

impl TlsPapers {
    fn load(files: &TlsFiles, cluster: &str, node_id: NodeId) -> Result<Self, IdentityError> {
        let authority = certificates("cluster.ca", &files.ca)?;
        let chain = certificates("cluster.certificate", &files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| unreadable("cluster.key", &files.key, &error))?;

        let mut roots = RootCertStore::empty();
        for certificate in authority {
            roots.add(certificate).map_err(|error| {
                problem("cluster.ca", &files.ca, format!("not an authority: {error}"))
            })?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(aws_lc_rs::default_provider());
        check_own(files, &chain, &roots, &provider, cluster, node_id)?;

        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(|error| problem("cluster.ca", &files.ca, error.to_string()))?;
        let versions = &[&rustls::version::TLS13];
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { server: Arc::new(server), client: Arc::new(client) })
    }
}

/// The node a leaf names; none unless it is the only name there.
pub(super) fn named_by(leaf: &CertificateDer<'_>, cluster_name: &str) -> Option<NodeId> {
    let (_, leaf) = parse_x509_certificate(leaf).ok()?;
    let names = &leaf.subject_alternative_name().ok()??.value.general_names;
    let [GeneralName::DNSName(name)] = names.as_slice() else { return None };
    named_node(name, cluster_name)
}

/// Finds out at start, with a file name, what would otherwise be a handshake failure at night.
fn check_own(
    files: &TlsFiles,
    chain: &[CertificateDer<'static>],
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    cluster_name: &str,
    node_id: NodeId,
) -> Result<(), IdentityError> {
    let file = |text| problem("cluster.certificate", &files.certificate, text);
    let expected = node_name(node_id, cluster_name);
    let (Some((leaf, rest)), Ok(name)) =
        (chain.split_first(), ServerName::try_from(expected.clone()))
    else {
        return Err(file(format!("no certificate for {expected}")));
    };
    if named_by(leaf, cluster_name) != Some(node_id) {
        return Err(file(format!(
            "must name {expected} and nothing else; issue one for this node"
        )));
    }
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .build()
            .map_err(|error| problem("cluster.ca", &files.ca, error.to_string()))?;
    use rustls::client::danger::ServerCertVerifier as _;
    let verified = match verifier.verify_server_cert(leaf, rest, &name, &[], UnixTime::now()) {
        // A node that was off for long: it starts, and gets a new one as soon as it can.
        Err(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => {
            tracing::warn!("this node's certificate has expired, peers refuse it until it is new");
            return Ok(());
        }
        verified => verified,
    };
    verified.map_err(|error| {
        file(format!(
            "not accepted under the authority in {}: {error}; issue it again from that authority",
            files.ca.display()
        ))
    })?;
    Ok(())
}

fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match found {
        Ok(found) if found.is_empty() => {
            Err(problem(key, path, "no certificate inside; expected PEM".to_owned()))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(unreadable(key, path, &error)),
    }
}

fn unreadable(
    key: &'static str,
    path: &Path,
    error: &rustls::pki_types::pem::Error,
) -> IdentityError {
    problem(key, path, format!("{error}; expected a readable PEM file"))
}

fn problem(key: &'static str, path: &Path, text: String) -> IdentityError {
    IdentityError::File { key, path: path.to_owned(), text }
}

#[cfg(test)]
mod tests {
    use super::super::Authority;
    use super::*;

    struct Files {
        _dir: tempfile::TempDir,
        files: TlsFiles,
    }

    fn write(ca: &str, certificate: &str, key: &str) -> Files {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = TlsFiles {
            ca: at("ca.pem", ca),
            certificate: at("node.pem", certificate),
            key: at("node.key", key),
        };
        Files { _dir: dir, files }
    }

    #[test]
    fn an_issued_certificate_names_its_node_and_is_accepted() {
        let authority = Authority::generate("alpha").unwrap();
        let stored =
            Authority::from_pem("alpha", authority.certificate_pem(), &authority.key_pem())
                .unwrap();
        let (certificate, key) = stored.issue(7).unwrap();
        let on_disk = write(authority.certificate_pem(), &certificate, &key);
        let identity = Identity::load(&on_disk.files, "alpha", 7).unwrap();
        let leaf = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        assert_eq!(identity.node_of(Some(&[leaf])), Some(7));
        assert_eq!(identity.node_of(None), None);
    }

    #[test]
    fn a_bad_file_is_named_with_its_key() {
        let authority = Authority::generate("alpha").unwrap();
        let stranger = Authority::generate("alpha").unwrap();
        let ca = authority.certificate_pem();
        let (certificate, key) = authority.issue(1).unwrap();
        let (strange, strange_key) = stranger.issue(1).unwrap();
        let (other, other_key) = authority.issue(2).unwrap();
        let table = [
            ("ca is not PEM", "hello", certificate.as_str(), key.as_str(), "ca.pem"),
            ("certificate is not PEM", ca, "hello", &key, "node.pem"),
            ("key is not PEM", ca, &certificate, "hello", "node.key"),
            ("other authority", ca, &strange, &strange_key, "not accepted under the authority"),
            ("other node", ca, &other, &other_key, "must name node-1.alpha.trigon.internal"),
            (
                "other key",
                ca,
                &certificate,
                &other_key,
                "cluster.key: does not belong to cluster.certificate",
            ),
        ];
        for (name, ca, certificate, key, expected) in table {
            let on_disk = write(ca, certificate, key);
            let Err(error) = Identity::load(&on_disk.files, "alpha", 1) else {
                panic!("{name}: accepted");
            };
            assert!(error.to_string().contains(expected), "{name}: {error}");
        }
    }
}
