//! HaRP's certificates as the certificates of this cluster.
//!
//! ExApps that HaRP has deployed hold a client certificate of HaRP's authority and trust nothing
//! else. A cluster that starts with the same authority keeps them; with a new one every ExApp
//! would have to be deployed again. Read once, on the first start of a cluster.

use std::fs;
use std::path::Path;

use cluster::record::{FrpAuthority, FrpPki};

use super::pki::{Pki, PkiError, Seal};
use crate::secret::Secret;

/// The record made of `ca`, `server` and `client` (`.crt` and `.key` each) in `dir`, which is
/// HaRP's `/certs/frp`.
///
/// # Errors
/// [`PkiError::Inherit`] with the file that is missing or does not fit.
pub(super) fn from_dir(dir: &Path, seal: &Seal) -> Result<FrpPki, PkiError> {
    let wrong = |path: &Path, reason: String| PkiError::Inherit { path: path.to_owned(), reason };
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).map_err(|error| wrong(&path, error.to_string()))
    };
    let pair = |name: &str| {
        let path = dir.join(format!("{name}.crt"));
        let certificate = read(&format!("{name}.crt"))?;
        let key = Secret::new(read(&format!("{name}.key"))?);
        let sealed = seal.certificate(certificate, &key);
        sealed.map_err(|error| wrong(&path, error.to_string()))
    };
    let authority = FrpAuthority { own: pair("ca")?, crossed: None };
    let (server, client) = (pair("server")?, pair("client")?);
    let record = FrpPki { revision: 1, authorities: vec![authority], server, client };
    // Found out now, not when the first ExApp dials: keys that do not belong to their certificates.
    let pki = Pki::open(&record, seal)?;
    let usable = pki.server_config(true).and_then(|_server| pki.client_config());
    usable.map_err(|error| wrong(dir, error.to_string()))?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use cluster::Handle;

    use super::super::pki::{Keeper, SERVER_NAME, ensure};
    use super::*;

    /// A directory as HaRP leaves it.
    async fn harps() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let old = ensure(&Handle::in_memory(1), 5000).await.unwrap();
        old.write_files(dir.path()).unwrap();
        // Trigon exports no CA key; any key shows that it is carried along.
        fs::copy(dir.path().join("server.key"), dir.path().join("ca.key")).unwrap();
        dir
    }

    #[tokio::test]
    async fn an_exapp_deployed_under_harp_still_gets_in() {
        let dir = harps().await;
        let cluster = Handle::in_memory(1);
        let keeper = Keeper::new(cluster.clone(), 5000).unwrap();
        let record = keeper.ensure(Some(dir.path())).await.unwrap();
        let ours = Pki::open(&record, &Seal::of(&cluster).unwrap()).unwrap();
        let kept = fs::read_to_string(dir.path().join("client.crt")).unwrap();
        assert_eq!(ours.client_certificate(), kept);
        let (near, far) = tokio::io::duplex(16 * 1024);
        let server = tokio_rustls::TlsAcceptor::from(Arc::new(ours.server_config(true).unwrap()));
        let client = tokio_rustls::TlsConnector::from(Arc::new(ours.client_config().unwrap()));
        let (served, _) =
            tokio::join!(server.accept(near), client.connect(SERVER_NAME.try_into().unwrap(), far));
        served.unwrap();
        // Later starts do not look there again.
        let again = keeper.ensure(Some("/nowhere".as_ref())).await.unwrap();
        assert_eq!(again.client.pem, kept);
    }

    #[tokio::test]
    async fn what_is_missing_or_does_not_fit_is_named() {
        let dir = harps().await;
        let key = Seal::of(&Handle::in_memory(1)).unwrap();
        fs::copy(dir.path().join("client.key"), dir.path().join("server.key")).unwrap();
        let error = from_dir(dir.path(), &key).unwrap_err().to_string();
        assert!(error.contains(&*dir.path().to_string_lossy()), "{error}");
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        let error = from_dir(dir.path(), &key).unwrap_err().to_string();
        assert!(
            error.starts_with("frp.certificates_from: ") && error.contains("ca.key"),
            "{error}"
        );
    }
}
