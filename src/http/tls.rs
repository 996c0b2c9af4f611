//! The certificate visitors are shown, and what is agreed with them: TLS 1.2 or 1.3, HTTP/2 or
//! HTTP/1.1 by ALPN.
//!
//! New files are taken over while connections go on; files that cannot be used leave the old
//! certificate in force. When to look at them is decided here ([`Certificate::watch`]) and by
//! whoever was told to reload ([`Certificate::replace`]). A listener that shows one of several by
//! the name its client asks for has [`certificates::Certificates`].

pub mod certificates;
mod names;

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use names::Names;

/// A version of TLS that is spoken with clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl TlsVersion {
    /// A stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }

    /// That of a connection after its handshake.
    pub(super) fn of(connection: &rustls::ServerConnection) -> Self {
        match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => Self::Tls12,
            _ => Self::Tls13,
        }
    }
}

/// HTTP/2 as ALPN names it.
pub(super) const H2: &[u8] = b"h2";

/// How often [`Certificate::watch`] looks at the files.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Where certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// PEM: the certificate, followed by the chain up to the authority clients know.
    pub certificate: PathBuf,
    /// PEM; `None` when the key is in the certificate's file too, as HaRP wants it.
    pub key: Option<PathBuf>,
}

impl Files {
    fn key(&self) -> &Path {
        self.key.as_deref().unwrap_or(&self.certificate)
    }
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {text}", file.display())]
pub struct Error {
    /// The file to look at.
    pub file: PathBuf,
    /// Whether it was looked at for the key.
    pub is_key: bool,
    /// What is wrong with it and what to do.
    pub text: String,
}

/// The certificate in force. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Certificate {
    inner: Arc<Inner>,
}

struct Inner {
    current: ArcSwap<Held>,
    /// Never locked across an await.
    source: Mutex<Source>,
}

struct Source {
    files: Files,
    /// What they looked like when they were read last, whether they could be used or not.
    seen: Seen,
    /// Why what was read last is not in force.
    trouble: Option<String>,
}

/// A certificate with its key, ready for handshakes, and what it says.
struct Held {
    key: Arc<CertifiedKey>,
    names: Names,
    /// Seconds since the Unix epoch.
    ends_at: Option<u64>,
}

impl Held {
    fn new(key: CertifiedKey) -> Self {
        let own = key.cert.first().map_or(&[][..], |own| own);
        Self { names: Names::of(own), ends_at: names::ends_at(own), key: Arc::new(key) }
    }
}

/// Calls `look` now and then, where it may wait for a disk, until `stop`.
async fn keep_looking(look: impl Fn() + Clone + Send + 'static, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = stop.cancelled() => return,
        }
        if tokio::task::spawn_blocking(look.clone()).await.is_err() {
            return;
        }
    }
}

/// Device, inode, size and time of change of both files; `None` for one that is not there.
type Seen = [Option<(u64, u64, u64, i64, i64)>; 2];

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Error`] names the file and what is wrong with it.
    pub fn open(files: Files) -> Result<Self, Error> {
        // Looked at before it is read: a change in between is seen the next time.
        let seen = look(&files);
        let current = ArcSwap::from_pointee(Held::new(read(&files)?));
        let source = Mutex::new(Source { files, seen, trouble: None });
        Ok(Self { inner: Arc::new(Inner { current, source }) })
    }

    /// Reads `files`, which may be the same as before. Open connections keep what they have.
    ///
    /// # Errors
    /// Like [`Certificate::open`]; the certificate in force stays, and so do its files.
    pub fn replace(&self, files: Files) -> Result<(), Error> {
        let seen = look(&files);
        let current = read(&files)?;
        *self.inner.source() = Source { files, seen, trouble: None };
        self.inner.current.store(Arc::new(Held::new(current)));
        Ok(())
    }

    /// Looks at the files now and then and takes over what has changed, until `stop`.
    pub async fn watch(self, stop: CancellationToken) {
        keep_looking(move || tell(self.take_over()), stop).await;
    }

    /// Takes over files that have changed since they were last looked at; `None` when they have
    /// not. Files that cannot be used are an error once.
    fn take_over(&self) -> Option<Result<(), Error>> {
        let files = {
            let mut source = self.inner.source();
            let seen = look(&source.files);
            if seen == source.seen {
                return None;
            }
            source.seen = seen;
            source.files.clone()
        };
        let taken = read(&files).map(Held::new);
        self.inner.source().trouble = taken.as_ref().err().map(ToString::to_string);
        Some(taken.map(|current| self.inner.current.store(Arc::new(current))))
    }

    /// How handshakes are made from now on, with whatever certificate is then in force.
    ///
    /// # Errors
    /// No random numbers for the first ticket key.
    pub fn acceptor(&self) -> Result<TlsAcceptor, rustls::Error> {
        acceptor(self.inner.clone())
    }
}

fn acceptor(resolver: Arc<dyn ResolvesServerCert>) -> Result<TlsAcceptor, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(rustls::ALL_VERSIONS)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    config.ticketer = Ticketer::new()?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.inner.source().files).finish()
    }
}

impl Inner {
    fn source(&self) -> std::sync::MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Inner {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().key))
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

fn tell(looked: Option<Result<(), Error>>) {
    match looked {
        None => {}
        Some(Ok(())) => {
            tracing::info!(name: "certificate_renewed", "a new TLS certificate is in force");
        }
        Some(Err(error)) => tracing::error!(%error, "the old TLS certificate stays in force"),
    }
}

fn look(files: &Files) -> Seen {
    [&*files.certificate, files.key()].map(|path| {
        // Links are followed: tools that renew certificates like to turn a link.
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
    })
}

fn read(files: &Files) -> Result<CertifiedKey, Error> {
    let wrong = |file: &Path, is_key, text: String| Error { file: file.to_owned(), is_key, text };
    let text = fs::read(&files.certificate)
        .map_err(|error| wrong(&files.certificate, false, unreadable(&error)))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(&files.certificate, false, no_pem(&error)))?;
    if chain.is_empty() {
        let text = "holds no certificate; expected PEM, the chain included".to_owned();
        return Err(wrong(&files.certificate, false, text));
    }
    let text = match &files.key {
        None => text,
        Some(path) => fs::read(path).map_err(|error| wrong(path, true, unreadable(&error)))?,
    };
    let no_key = |error: pem::Error| {
        let text = match error {
            pem::Error::NoItemsFound if files.key.is_none() => {
                "holds no private key; add it to the file, or name the file that holds it"
                    .to_owned()
            }
            pem::Error::NoItemsFound => "holds no private key; expected PEM".to_owned(),
            error => no_pem(&error),
        };
        wrong(files.key(), true, text)
    };
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(no_key)?;
    CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let certificate = files.certificate.display();
            let text = format!("holds another key than the certificate's in {certificate}");
            wrong(files.key(), true, text)
        }
        rustls::Error::InvalidCertificate(error) => {
            wrong(&files.certificate, false, format!("holds no usable certificate: {error}"))
        }
        error => wrong(files.key(), true, format!("holds no usable private key: {error}")),
    })
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

fn no_pem(error: &pem::Error) -> String {
    format!("is not PEM: {error}")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey as Made, generate_simple_self_signed};

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            fs::write(self.path(name), text).unwrap();
            self.path(name)
        }
    }

    fn made() -> (String, String) {
        let Made { cert, signing_key } = generate_simple_self_signed(["h".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    fn in_force(certificate: &Certificate) -> CertificateDer<'static> {
        certificate.inner.current.load().key.cert[0].clone()
    }

    #[test]
    fn the_key_may_stand_in_the_certificates_file() {
        let folder = Folder::new();
        let (certificate, key) = made();
        let both = folder.write("cert.pem", &format!("{certificate}{key}"));
        let opened = Certificate::open(Files { certificate: both, key: None }).unwrap();
        let apart = Files {
            certificate: folder.write("c", &certificate),
            key: Some(folder.write("k", &key)),
        };
        assert_eq!(in_force(&opened), in_force(&Certificate::open(apart).unwrap()));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        let folder = Folder::new();
        let (certificate, key) = made();
        let other = made().1;
        let certificate = folder.write("c", &certificate);
        let garbage = folder.write("g", "no PEM at all");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let broken = folder.write("b", broken);
        let cut = folder.write("t", "-----BEGIN CERTIFICATE-----\nAAAA\n");
        let key = Some(folder.write("k", &key));
        let other = Some(folder.write("o", &other));
        for (certificate, key, is_key, text) in [
            (folder.path("nowhere"), key.clone(), false, "cannot be read"),
            (garbage.clone(), key.clone(), false, "holds no certificate"),
            (cut, key.clone(), false, "is not PEM"),
            (broken, key, false, "holds no usable certificate"),
            (certificate.clone(), None, true, "name the file that holds it"),
            (certificate.clone(), Some(folder.path("nowhere")), true, "cannot be read"),
            (certificate.clone(), Some(garbage), true, "holds no private key"),
            (certificate, other, true, "another key than the certificate's"),
        ] {
            let error = Certificate::open(Files { certificate, key }).unwrap_err();
            assert_eq!(error.is_key, is_key, "{error}");
            assert!(error.to_string().contains(text), "{text}: {error}");
        }
    }

    #[test]
    fn changed_files_are_taken_over_and_broken_ones_told_once() {
        let folder = Folder::new();
        let write = |(certificate, key): (String, String)| Files {
            certificate: folder.write("c", &certificate),
            key: Some(folder.write("k", &key)),
        };
        let opened = Certificate::open(write(made())).unwrap();
        let first = in_force(&opened);
        assert!(opened.take_over().is_none(), "nothing has changed");

        folder.write("c", "broken");
        assert!(opened.take_over().unwrap().is_err());
        assert!(opened.take_over().is_none(), "told once");
        fs::remove_file(folder.path("k")).unwrap();
        assert!(opened.take_over().unwrap().is_err());
        assert_eq!(in_force(&opened), first);

        write(made());
        opened.take_over().unwrap().unwrap();
        assert_ne!(in_force(&opened), first);
    }

    #[test]
    fn a_turned_link_is_a_change() {
        let folder = Folder::new();
        let one = made();
        let two = made();
        folder.write("1", &(one.0 + &one.1));
        folder.write("2", &(two.0 + &two.1));
        let link = folder.path("cert.pem");
        std::os::unix::fs::symlink("1", &link).unwrap();
        let opened = Certificate::open(Files { certificate: link.clone(), key: None }).unwrap();
        let first = in_force(&opened);
        std::os::unix::fs::symlink("2", folder.path("new")).unwrap();
        fs::rename(folder.path("new"), &link).unwrap();
        opened.take_over().unwrap().unwrap();
        assert_ne!(in_force(&opened), first);
    }

    #[test]
    fn other_files_may_take_their_place() {
        let folder = Folder::new();
        let (certificate, key) = made();
        let first = folder.write("1", &(certificate + &key));
        let opened = Certificate::open(Files { certificate: first, key: None }).unwrap();
        let before = in_force(&opened);
        let nowhere = Files { certificate: folder.path("nowhere"), key: None };
        assert!(opened.replace(nowhere).is_err());
        assert!(opened.take_over().is_none(), "the old files are still the ones to look at");
        let (certificate, key) = made();
        let second = folder.write("2", &(certificate + &key));
        opened.replace(Files { certificate: second, key: None }).unwrap();
        assert_ne!(in_force(&opened), before);
    }
}
