//! Private keys of the FRP port as they lie in the replicated state: sealed under a key derived
//! from the shared key, each bound to its certificate. A witness has no shared key and cannot
//! read them, and no key can stand in for another.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use cluster::record::FrpCertificate;

use super::PkiError;
use super::issue::life;
use crate::secret::Secret;

const INFO: &[u8] = b"trigon frp pki v1";
const VERSION: u8 = 1;

/// Seals and opens.
#[derive(Clone)]
pub(in crate::frp) struct Seal(Arc<RandomizedNonceKey>);

impl Seal {
    pub(in crate::frp) fn under(shared: &Secret) -> Result<Self, PkiError> {
        let mut key = [0; 32];
        Salt::new(HKDF_SHA256, &[])
            .extract(shared.expose())
            .expand(&[INFO], HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key))
            .map_err(|_unspecified| PkiError::Seal)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key);
        key.map(|key| Self(Arc::new(key))).map_err(|_unspecified| PkiError::Seal)
    }

    /// A certificate with its key sealed: `version | nonce | ciphertext and tag`.
    pub(in crate::frp) fn certificate(
        &self,
        pem: String,
        key: &Secret,
    ) -> Result<FrpCertificate, PkiError> {
        let (from, until) = life(&pem).ok_or(PkiError::Damaged { what: "certificate" })?;
        let mut text = key.expose().to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(&pem), &mut text)
            .map_err(|_unspecified| PkiError::Seal)?;
        let mut sealed = vec![VERSION];
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut text);
        Ok(FrpCertificate { pem, key: sealed, from, until })
    }

    /// The private key of a certificate, PEM; `what` it is for the error.
    pub(in crate::frp) fn key(
        &self,
        of: &FrpCertificate,
        what: &'static str,
    ) -> Result<Secret, PkiError> {
        let damaged = PkiError::Damaged { what };
        let Some((&VERSION, rest)) = of.key.split_first() else { return Err(damaged) };
        let Some((nonce, text)) = rest.split_at_checked(NONCE_LEN) else { return Err(damaged) };
        let Ok(nonce) = Nonce::try_assume_unique_for_key(nonce) else { return Err(damaged) };
        let mut text = text.to_vec();
        self.0
            .open_in_place(nonce, Aad::from(&of.pem), &mut text)
            .map(|plain| Secret::new(&*plain))
            .map_err(|_unspecified| PkiError::OtherSharedKey { what })
    }
}
