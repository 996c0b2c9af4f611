//! The cluster's own certificate authority: one root, one certificate per node.
//!
//! Its key lies in the replicated state, sealed with the key only load balancers have: each of
//! them can admit a node and renew a certificate.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::CertificateSigningRequestDer;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use crate::config::is_label;
use crate::record::NodeId;

use super::node_name;

const DAY: Duration = Duration::from_secs(86_400);

/// Life of the root.
const ROOT_LIFE: Duration = Duration::from_secs(3650 * 86_400);

/// Life of a node's certificate; renewed when a third of it is left.
pub(crate) const LEAF_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// A certificate authority for one cluster.
pub struct Authority {
    cluster_name: String,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Why there is no authority or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The name cannot be part of a certificate.
    #[error("cluster name: found {0:?}, expected 1 to 40 of a-z, 0-9 and inner hyphens")]
    Name(String),
    /// The stored authority vouches for the names of another cluster only.
    #[error("cluster authority: it is that of {found}, and cannot vouch for nodes of {expected}")]
    OtherCluster {
        /// Domain of the cluster it was made for.
        found: String,
        /// Domain of this cluster.
        expected: String,
    },
    /// A certificate or key could not be made or read.
    #[error("cluster authority: {0}")]
    Certificate(#[from] rcgen::Error),
}

impl Authority {
    /// A fresh authority that can only vouch for names of this cluster.
    ///
    /// # Errors
    /// The cluster name cannot stand in a certificate, or no key could be made.
    pub fn generate(cluster_name: &str) -> Result<Self, AuthorityError> {
        let domain = domain(cluster_name)?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("trigon cluster {cluster_name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(domain)],
            excluded_subtrees: Vec::new(),
        });
        live(&mut params, ROOT_LIFE);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            cluster_name: cluster_name.to_owned(),
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// An authority that was stored by [`Authority::certificate_pem`] and [`Authority::key_pem`].
    ///
    /// # Errors
    /// One of the texts is not what it should be, or belongs to another cluster.
    pub fn from_pem(
        cluster_name: &str,
        certificate: &str,
        key: &str,
    ) -> Result<Self, AuthorityError> {
        let expected = domain(cluster_name)?;
        if let Some(found) = permitted(certificate).filter(|found| *found != expected) {
            return Err(AuthorityError::OtherCluster { found, expected });
        }
        let issuer = Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)?;
        Ok(Self {
            cluster_name: cluster_name.to_owned(),
            certificate: certificate.to_owned(),
            issuer,
        })
    }

    /// The root certificate every node trusts.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// The key of the root. Whoever has it can join the cluster.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate and its key for one node, both PEM.
    ///
    /// # Errors
    /// No key could be made or the certificate could not be signed.
    pub fn issue(&self, node_id: NodeId) -> Result<(String, String), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = self.leaf(node_id)?.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// A certificate for the key a node asks for, PEM. Nothing else of the request is used.
    ///
    /// # Errors
    /// The request is none, or not signed by its key.
    pub fn answer(&self, node_id: NodeId, request: &[u8]) -> Result<String, AuthorityError> {
        let mut request = CertificateSigningRequestParams::from_der(
            &CertificateSigningRequestDer::from(request),
        )?;
        request.params = self.leaf(node_id)?;
        Ok(request.signed_by(&self.issuer)?.pem())
    }

    /// As [`Authority::issue`], but what it issues has ended already.
    #[cfg(test)]
    pub(crate) fn issue_ended(&self, node_id: NodeId) -> (String, String) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = self.leaf(node_id).unwrap();
        params.not_before = (SystemTime::now() - 2 * LEAF_LIFE).into();
        params.not_after = (SystemTime::now() - DAY).into();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn leaf(&self, node_id: NodeId) -> Result<CertificateParams, AuthorityError> {
        let name = node_name(node_id, &self.cluster_name);
        let mut params = CertificateParams::new(vec![name.clone()])?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        live(&mut params, LEAF_LIFE);
        Ok(params)
    }
}

/// A new key, PEM, and the request for its certificate.
///
/// # Errors
/// No key could be made.
pub fn request() -> Result<(String, Vec<u8>), AuthorityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

/// What the names of all nodes of a cluster end with.
fn domain(cluster_name: &str) -> Result<String, AuthorityError> {
    if !is_label(cluster_name) {
        return Err(AuthorityError::Name(cluster_name.to_owned()));
    }
    Ok(format!("{cluster_name}.trigon.internal"))
}

/// The only domain an authority may vouch for, if it is limited to one.
fn permitted(certificate: &str) -> Option<String> {
    let (_, pem) = parse_x509_pem(certificate.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let limits = certificate.name_constraints().ok()??.value.permitted_subtrees.as_ref()?;
    limits.iter().find_map(|limit| match limit.base {
        GeneralName::DNSName(name) => Some(name.to_owned()),
        _ => None,
    })
}

/// Valid from yesterday, so that a peer whose clock is behind accepts it.
fn live(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + life).into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_vouches_for_its_own_cluster_only() {
        let made = Authority::generate("alpha").unwrap();
        let stored = |name| Authority::from_pem(name, made.certificate_pem(), &made.key_pem());
        assert!(stored("alpha").is_ok());
        let refused = stored("beta").map(drop).unwrap_err();
        assert!(matches!(refused, AuthorityError::OtherCluster { .. }), "{refused}");
        let refused = Authority::generate("My Cluster").map(drop).unwrap_err();
        assert!(matches!(refused, AuthorityError::Name(_)), "{refused}");
    }
}
