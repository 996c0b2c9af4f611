//! TLS towards a cluster this machine is no member of yet: nothing is known but the hash of the
//! public key of its authority, which the join token carries.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::aws_lc_rs::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::{ALPN, AuthorityError};

/// SHA-256 of the public key (SPKI) in a certificate.
fn hash_of(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    digest(&SHA256, parsed.public_key().raw).as_ref().try_into().ok()
}

/// SHA-256 of the public key in the first certificate of a PEM text.
pub(crate) fn key_hash(pem: &str) -> Result<[u8; 32], AuthorityError> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok();
    let hash = certificate.as_ref().and_then(hash_of);
    hash.ok_or(AuthorityError::Certificate(rcgen::Error::CouldNotParseCertificate))
}

/// Whether one of the certificates of a PEM text has that key.
pub(crate) fn has_key(pem: &[u8], hash: &[u8; 32]) -> bool {
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    certificates.into_iter().any(|certificate| hash_of(&certificate).as_ref() == Some(hash))
}

/// Connects to nodes of the one cluster whose authority has this key.
pub(crate) struct Pinned {
    verifier: Arc<Verifier>,
}

#[derive(Debug)]
struct Verifier {
    authority: [u8; 32],
    provider: Arc<CryptoProvider>,
    /// Whoever was there had a certificate of somebody else.
    stranger: AtomicBool,
}

impl Pinned {
    pub(crate) fn new(authority: [u8; 32]) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        Self {
            verifier: Arc::new(Verifier { authority, provider, stranger: AtomicBool::default() }),
        }
    }

    /// The handshake, without a certificate of this machine.
    pub(crate) async fn connect(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        tcp.set_nodelay(true)?;
        let verifier: Arc<dyn ServerCertVerifier> = Arc::clone(&self.verifier) as _;
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.verifier.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        // The name is not known; nodes look at nothing of it.
        config.enable_sni = false;
        let name = ServerName::try_from("cluster.trigon.internal").map_err(io::Error::other)?;
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }

    /// Whether a handshake failed because the other end is of another cluster, or of none.
    pub(crate) fn saw_stranger(&self) -> bool {
        self.verifier.stranger.load(Ordering::Relaxed)
    }
}

impl ServerCertVerifier for Verifier {
    /// The authority must have come along with the leaf, have the pinned key, and vouch for the
    /// one name the leaf has.
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ours = rest.iter().find(|one| hash_of(one).as_ref() == Some(&self.authority));
        let Some(authority) = ours else {
            self.stranger.store(true, Ordering::Relaxed);
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&self.provider),
        );
        let verifier = verifier.build().map_err(|error| Error::General(error.to_string()))?;
        let name = only_name(leaf)
            .ok_or(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))?;
        verifier.verify_server_cert(leaf, rest, &name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn only_name(leaf: &CertificateDer<'_>) -> Option<ServerName<'static>> {
    let (_, leaf) = parse_x509_certificate(leaf).ok()?;
    let names = &leaf.subject_alternative_name().ok()??.value.general_names;
    let [GeneralName::DNSName(name)] = names.as_slice() else { return None };
    ServerName::try_from((*name).to_owned()).ok()
}
