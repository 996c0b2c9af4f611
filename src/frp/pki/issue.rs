//! Makes certificates of the FRP port: the first ones, and from then on the next from the ones
//! before. Names are those of HaRP, see `mod.rs`. Reads the clock and rolls the dice of key
//! generation; what is due is decided in `plan.rs`.

use std::time::{Duration, SystemTime};

use cluster::record::{FrpAuthority, FrpCertificate, FrpPki, Millis};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use x509_parser::pem::parse_x509_pem;

use super::seal::Seal;
use super::{CLIENT_NAME, PkiError, SERVER_NAME};
use crate::secret::Secret;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Life of the server's certificate: it is renewed without anybody noticing.
const SERVER_DAYS: u32 = 365;

/// How long authorities and client certificates live, and how keys are sealed.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) seal: Seal,
    pub(super) days: u32,
}

impl Terms {
    /// The first certificates of a cluster.
    pub(super) fn first(&self) -> Result<FrpPki, PkiError> {
        let (own, _) = self.authority(1, None)?;
        let authority = FrpAuthority { own, crossed: None };
        let (server, client) = self.leaves(&authority)?;
        Ok(FrpPki { revision: 1, authorities: vec![authority], server, client })
    }

    /// A new server certificate, and a new client certificate for whoever is installed from now
    /// on.
    pub(super) fn renewed(&self, pki: &FrpPki) -> Result<FrpPki, PkiError> {
        let newest = pki.newest().ok_or(PkiError::Damaged { what: "list of authorities" })?;
        let (server, client) = self.leaves(newest)?;
        Ok(FrpPki { server, client, ..next(pki) })
    }

    /// A new server certificate only.
    pub(super) fn server_renewed(&self, pki: &FrpPki) -> Result<FrpPki, PkiError> {
        let newest = pki.newest().ok_or(PkiError::Damaged { what: "list of authorities" })?;
        let server = self.leaf(SERVER_NAME, self.days.min(SERVER_DAYS), newest)?;
        Ok(FrpPki { server, ..next(pki) })
    }

    /// A new authority that signs from now on. The ones before are trusted as well, and the one
    /// before vouches for the new one.
    pub(super) fn rotated(&self, pki: &FrpPki) -> Result<FrpPki, PkiError> {
        let mut next = next(pki);
        let (own, crossed) = self.authority(next.revision, pki.newest())?;
        let authority = FrpAuthority { own, crossed };
        (next.server, next.client) = self.leaves(&authority)?;
        next.authorities.push(authority);
        Ok(next)
    }

    /// An authority signed by itself, and by `before`.
    fn authority(
        &self,
        number: u64,
        before: Option<&FrpAuthority>,
    ) -> Result<(FrpCertificate, Option<String>), PkiError> {
        let key = KeyPair::generate()?;
        let mut params = named(SERVER_NAME, self.days);
        if before.is_some() {
            // Else two authorities of one name had to be told apart by their keys.
            let unit = format!("authority {number}");
            params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        }
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        let crossed = match before {
            None => None,
            Some(before) => {
                let mut params = params.clone();
                params.use_authority_key_identifier_extension = true;
                Some(params.signed_by(&key, &self.issuer(before)?)?.pem())
            }
        };
        Ok((self.seal.certificate(pem, &Secret::new(key.serialize_pem()))?, crossed))
    }

    /// Server and client certificate of an authority.
    fn leaves(&self, of: &FrpAuthority) -> Result<(FrpCertificate, FrpCertificate), PkiError> {
        let server = self.leaf(SERVER_NAME, self.days.min(SERVER_DAYS), of)?;
        Ok((server, self.leaf(CLIENT_NAME, self.days, of)?))
    }

    fn leaf(&self, name: &str, days: u32, of: &FrpAuthority) -> Result<FrpCertificate, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = named(name, days);
        // Nothing outlives its authority.
        let end = SystemTime::UNIX_EPOCH + Duration::from_millis(of.own.until);
        params.not_after = params.not_after.min(end.into());
        params.subject_alt_names = CertificateParams::new([name.to_owned()])?.subject_alt_names;
        params.use_authority_key_identifier_extension = true;
        let pem = params.signed_by(&key, &self.issuer(of)?)?.pem();
        self.seal.certificate(pem, &Secret::new(key.serialize_pem()))
    }

    fn issuer(&self, of: &FrpAuthority) -> Result<Issuer<'static, KeyPair>, PkiError> {
        let key = self.seal.key(&of.own, "CA")?;
        let key = std::str::from_utf8(key.expose());
        let key = KeyPair::from_pem(key.map_err(|_utf8| PkiError::Damaged { what: "CA key" })?)?;
        Ok(Issuer::from_ca_cert_pem(&of.own.pem, key)?)
    }
}

/// The same certificates as the next revision.
fn next(pki: &FrpPki) -> FrpPki {
    FrpPki { revision: pki.revision.saturating_add(1), ..pki.clone() }
}

/// Only the authorities that `keep` says.
pub(super) fn without(pki: &FrpPki, keep: impl Fn(&FrpAuthority) -> bool) -> FrpPki {
    let mut next = next(pki);
    next.authorities.retain(keep);
    if let Some(first) = next.authorities.first_mut() {
        // Whoever vouched for it is gone.
        first.crossed = None;
    }
    next
}

/// When a certificate begins and ends.
pub(super) fn life(pem: &str) -> Option<(Millis, Millis)> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let millis = |seconds: i64| Millis::try_from(seconds).ok()?.checked_mul(1000);
    let validity = certificate.validity();
    Some((millis(validity.not_before.timestamp())?, millis(validity.not_after.timestamp())?))
}

fn named(name: &str, days: u32) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    // A client whose clock is behind must not find the certificate "not yet valid".
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * days).into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
