//! The certificates of a listener with several names: the client says which host it means (SNI),
//! and is shown the one that is for it. A client that means a host nobody has a certificate for is
//! shown the first one, and counted.
//!
//! Beside those in files there may be one that was issued to the cluster (ACME). Until either is
//! there, a certificate signed by itself stands in, so that the port answers.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Certificate, Error, Files, Held, acceptor, keep_looking, names, tell};
use crate::observe::metrics::metrics;
use crate::secret::Secret;

/// The certificates in force. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Certificates(Arc<Cabinet>);

struct Cabinet {
    files: ArcSwap<Vec<Certificate>>,
    issued: ArcSwapOption<Held>,
    /// None while there are files, and should no key be to be had.
    stand_in: Option<Arc<CertifiedKey>>,
}

/// One of them, for whoever shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its file; none when it was issued to the cluster.
    pub file: Option<PathBuf>,
    /// The names it is for.
    pub names: Vec<String>,
    /// When it ends, seconds since the Unix epoch.
    pub ends_at: Option<u64>,
    /// Why what the files hold now is not in force.
    pub trouble: Option<String>,
}

/// What was issued cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the issued certificate is not usable: {0}")]
pub struct Unusable(String);

impl Certificates {
    /// Reads the files; there may be none.
    ///
    /// # Errors
    /// [`Error`] names the file and what is wrong with it.
    pub fn open(files: Vec<Files>) -> Result<Self, Error> {
        let files = files.into_iter().map(Certificate::open).collect::<Result<Vec<_>, _>>()?;
        let cabinet = Cabinet {
            stand_in: if files.is_empty() { stand_in() } else { None },
            files: ArcSwap::from_pointee(files),
            issued: ArcSwapOption::empty(),
        };
        Ok(Self(Arc::new(cabinet)))
    }

    /// From now on these files are the ones. Open connections keep what they have.
    ///
    /// # Errors
    /// Like [`Certificates::open`]; then everything stays as it was.
    pub fn replace(&self, files: Vec<Files>) -> Result<(), Error> {
        let files = files.into_iter().map(Certificate::open).collect::<Result<Vec<_>, _>>()?;
        self.0.files.store(Arc::new(files));
        Ok(())
    }

    /// Shows what was issued to the cluster from now on, beside the files; both are PEM.
    ///
    /// # Errors
    /// [`Unusable`]; then the one before stays.
    pub fn issue(&self, chain: &str, key: &Secret) -> Result<(), Unusable> {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| Unusable(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key.expose());
        let key = key.map_err(|_pem| Unusable("its key is not PEM".to_owned()))?;
        let key = CertifiedKey::from_der(chain, key, &default_provider())
            .map_err(|error| Unusable(error.to_string()))?;
        self.0.issued.store(Some(Arc::new(Held::new(key))));
        Ok(())
    }

    /// Looks at the files now and then and takes over what has changed, until `stop`.
    pub async fn watch(self, stop: CancellationToken) {
        let look = move || self.0.files.load().iter().for_each(|one| tell(one.take_over()));
        keep_looking(look, stop).await;
    }

    /// How handshakes are made from now on, with whatever certificates are then in force.
    ///
    /// # Errors
    /// No random numbers for the first ticket key.
    pub fn acceptor(&self) -> Result<TlsAcceptor, rustls::Error> {
        acceptor(Arc::<Cabinet>::clone(&self.0))
    }

    /// Every one that may be shown, the first of which is for clients that mean none of them.
    pub fn shown(&self) -> Vec<Shown> {
        let files = self.0.files.load();
        let of_files = files.iter().map(|one| {
            let (held, source) = (one.inner.current.load(), one.inner.source());
            Shown {
                file: Some(source.files.certificate.clone()),
                names: held.names.as_slice().to_vec(),
                ends_at: held.ends_at,
                trouble: source.trouble.clone(),
            }
        });
        let issued = self.0.issued.load();
        let issued = issued.iter().map(|held| Shown {
            file: None,
            names: held.names.as_slice().to_vec(),
            ends_at: held.ends_at,
            trouble: None,
        });
        of_files.chain(issued).collect()
    }
}

impl Cabinet {
    /// The certificate for a client that means `name`, and whether it is for that.
    fn choose(&self, name: Option<&str>) -> (Option<Arc<CertifiedKey>>, bool) {
        let files = self.files.load();
        let held: Vec<_> = files.iter().map(|one| one.inner.current.load_full()).collect();
        let issued = self.issued.load_full();
        let all: Vec<_> = held.iter().chain(&issued).collect();
        let chosen = name.and_then(|name| names::choose(all.iter().map(|held| &held.names), name));
        let one = all.get(chosen.unwrap_or(0)).map(|one| Arc::clone(&one.key));
        (one.or_else(|| self.stand_in.clone()), name.is_none() || chosen.is_some())
    }
}

impl ResolvesServerCert for Cabinet {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (key, known) = self.choose(hello.server_name());
        if !known {
            metrics().unknown_name();
        }
        key
    }
}

impl fmt::Debug for Cabinet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shown()).finish()
    }
}

/// For no name at all: whoever looks at it is told that something is missing.
fn stand_in() -> Option<Arc<CertifiedKey>> {
    let made = rcgen::generate_simple_self_signed(Vec::new()).ok()?;
    let chain = vec![made.cert.der().clone()];
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    CertifiedKey::from_der(chain, key, &default_provider()).ok().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        /// Writes a certificate for these names and gives its files.
        fn certificate(&self, names: &[&str]) -> Files {
            let path = self.0.path().join(format!("{}.pem", names[0]));
            let (chain, key) = made(names);
            std::fs::write(&path, format!("{chain}{}", String::from_utf8_lossy(key.expose())))
                .unwrap();
            Files { certificate: path, key: None }
        }
    }

    fn made(names: &[&str]) -> (String, Secret) {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), Secret::new(made.signing_key.serialize_pem()))
    }

    /// The first name of what a client of `name` is shown, and whether it is for that.
    fn shown(of: &Certificates, name: Option<&str>) -> (String, bool) {
        let (key, known) = of.0.choose(name);
        let names = names::Names::of(&key.unwrap().cert[0]);
        (names.as_slice().first().cloned().unwrap_or_default(), known)
    }

    #[test]
    fn a_client_is_shown_the_certificate_of_the_host_it_means_and_a_stranger_the_first() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let files = [&["a.example"][..], &["b.example"]].map(|names| folder.certificate(names));
        let all = Certificates::open(files.to_vec()).unwrap();
        let (chain, key) = made(&["c.example"]);
        all.issue(&chain, &key).unwrap();
        for (name, expected, known) in [
            (Some("a.example"), "a.example", true),
            (Some("B.example"), "b.example", true),
            (Some("c.example"), "c.example", true),
            (Some("d.example"), "a.example", false),
            (None, "a.example", true),
        ] {
            assert_eq!(shown(&all, name), (expected.to_owned(), known), "{name:?}");
        }
    }

    #[test]
    fn until_one_is_issued_another_stands_in() {
        let all = Certificates::open(Vec::new()).unwrap();
        assert_eq!(shown(&all, Some("c.example")), (String::new(), false));
        let (chain, key) = made(&["c.example"]);
        assert!(
            all.issue("rubbish", &key).is_err() && all.issue(&chain, &Secret::new("")).is_err()
        );
        assert!(all.issue(&chain, &made(&["c.example"]).1).is_err(), "another key");
        all.issue(&chain, &key).unwrap();
        assert!(all.issue("rubbish", &key).is_err());
        assert_eq!(shown(&all, Some("c.example")), ("c.example".to_owned(), true));
    }

    #[test]
    fn rubbish_leaves_the_old_one_in_force_and_is_told_while_it_lies_there() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let files = folder.certificate(&["a.example"]);
        let all = Certificates::open(vec![files.clone()]).unwrap();
        let look = || all.0.files.load().iter().map(Certificate::take_over).any(|it| it.is_some());
        std::fs::write(&files.certificate, "rubbish").unwrap();
        assert!(look());
        assert_eq!(shown(&all, Some("a.example")).0, "a.example");
        let trouble = all.shown()[0].trouble.clone().unwrap();
        assert!(trouble.contains("a.example.pem: holds no certificate"), "{trouble}");
        let broken = Files { certificate: folder.0.path().join("nowhere"), key: None };
        assert!(all.replace(vec![broken]).is_err());
        assert_eq!(all.shown().len(), 1);
        folder.certificate(&["a.example"]);
        assert!(look());
        assert_eq!(all.shown()[0].trouble, None);
    }
}
