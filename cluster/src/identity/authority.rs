//! The cluster's own certificate authority: one root, one certificate per node.
//!
//! Its key belongs on the operator's machine (or in Ansible's vault), not on a node.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
};

use crate::record::NodeId;

use super::node_name;

const DAY: Duration = Duration::from_secs(86_400);

/// Life of the root.
const ROOT_LIFE: Duration = Duration::from_secs(3650 * 86_400);

/// Life of a node's certificate. Renewing means issuing again and restarting one node at a time.
const LEAF_LIFE: Duration = Duration::from_secs(825 * 86_400);

/// A certificate authority for one cluster.
pub struct Authority {
    cluster_name: String,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
#[error("cluster authority: {0}")]
pub struct AuthorityError(#[from] rcgen::Error);

impl Authority {
    /// A fresh authority that can only vouch for names of this cluster.
    ///
    /// # Errors
    /// The cluster name cannot stand in a certificate, or no key could be made.
    pub fn generate(cluster_name: &str) -> Result<Self, AuthorityError> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("trigon cluster {cluster_name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(format!(
                "{cluster_name}.trigon.internal"
            ))],
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
    /// One of the texts is not what it should be.
    pub fn from_pem(
        cluster_name: &str,
        certificate: &str,
        key: &str,
    ) -> Result<Self, AuthorityError> {
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
        let name = node_name(node_id, &self.cluster_name);
        let mut params = CertificateParams::new(vec![name.clone()])?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        live(&mut params, LEAF_LIFE);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// Valid from yesterday, so that a peer whose clock is behind accepts it.
fn live(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + life).into();
}
