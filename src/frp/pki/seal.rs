//! Private keys of the FRP port as they lie in the replicated state: sealed under the cluster's
//! key, each bound to its certificate. A witness has no such key and cannot read them, and none
//! can stand in for another.

use std::sync::Arc;

use cluster::record::FrpCertificate;
use cluster::{Handle, Kek};

use super::PkiError;
use super::issue::life;
use crate::secret::Secret;

/// Seals and opens. Cheap to clone.
#[derive(Clone)]
pub struct Seal(Arc<Kek>);

impl Seal {
    /// The seal of a load balancer.
    ///
    /// # Errors
    /// [`PkiError::NoClusterKey`] on a witness.
    pub fn of(cluster: &Handle) -> Result<Self, PkiError> {
        cluster.kek().map(Self).ok_or(PkiError::NoClusterKey)
    }

    /// A certificate with its key sealed.
    pub(in crate::frp) fn certificate(
        &self,
        pem: String,
        key: &Secret,
    ) -> Result<FrpCertificate, PkiError> {
        let (from, until) = life(&pem).ok_or(PkiError::Damaged { what: "certificate" })?;
        let key = self.0.seal(&key_of(&pem), key.expose());
        Ok(FrpCertificate { pem, key, from, until })
    }

    /// The private key of a certificate, PEM; `what` it is for the error.
    pub(in crate::frp) fn key(
        &self,
        of: &FrpCertificate,
        what: &'static str,
    ) -> Result<Secret, PkiError> {
        let opened = self.0.open(&key_of(&of.pem), &of.key);
        let opened = opened.ok_or(PkiError::OtherClusterKey { what })?;
        Ok(Secret::new(opened.expose()))
    }
}

/// Names the key of one certificate.
fn key_of(pem: &str) -> String {
    format!("frp key/{pem}")
}
