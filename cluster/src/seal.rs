//! Secrets of the replicated state, sealed under a key only load balancers have.
//!
//! The log, the state and the snapshots of a witness hold what is sealed here and nothing else of
//! it. The key (KEK, 32 bytes) lies in `kek` below the state directory of a load balancer, mode
//! 0600, and is given to a joining load balancer within the TLS of its join.
//!
//! ```text
//! 0       1        13
//! +-------+--------+------------- ... -+---------+
//! |version| nonce  |  AES-256-GCM-SIV  | tag (16)|
//! +-------+--------+------------- ... -+---------+
//! ```
//! What the bytes are for (`what`) is authenticated, so that one secret cannot stand in for
//! another. GCM-SIV, because its nonces are random and a repeated one must not be a disaster.

use std::fmt;
use std::io;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use crate::dice;
use crate::disk::Disk;

/// Bytes of the key.
pub const KEK_LEN: usize = 32;

/// Name of its file below the state directory.
pub const KEK_FILE: &str = "kek";

/// First byte of everything sealed.
const VERSION: u8 = 1;

/// Bytes that must not leak: they print as `***` and compare in constant time.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes the bytes as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into().into_boxed_slice())
    }

    /// The bytes, for the one place that uses them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether `offered` is the same; neither the first difference nor the length shows in the
    /// time taken.
    pub fn matches(&self, offered: &[u8]) -> bool {
        let [mine, theirs] = [&self.0[..], offered].map(|bytes| digest(&SHA256, bytes));
        verify_slices_are_equal(mine.as_ref(), theirs.as_ref()).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The key the secrets of a cluster are sealed with.
pub struct Kek {
    bytes: Secret,
    key: LessSafeKey,
}

/// The bytes are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster key: expected {KEK_LEN} bytes")]
pub struct NoKek;

impl Kek {
    /// A new key.
    pub fn generate() -> Self {
        let mut bytes = [0; KEK_LEN];
        dice::fill(&mut bytes);
        Self::from_bytes(&bytes).expect("the length is that of a key")
    }

    /// The key of these [`KEK_LEN`] bytes.
    ///
    /// # Errors
    /// There are more or fewer bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NoKek> {
        let key = UnboundKey::new(&AES_256_GCM_SIV, bytes).map_err(|_| NoKek)?;
        Ok(Self { bytes: Secret::new(bytes), key: LessSafeKey::new(key) })
    }

    /// The key itself, for the join of a load balancer and for a backup with keys.
    pub fn expose(&self) -> &[u8] {
        self.bytes.expose()
    }

    /// Seals `bytes` as the secret called `what`.
    pub fn seal(&self, what: &str, bytes: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        dice::fill(&mut nonce);
        let mut body = bytes.to_vec();
        let used = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(used, Aad::from(what), &mut body)
            .expect("a secret is smaller than the 64 GiB of one message");
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + body.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.append(&mut body);
        sealed
    }

    /// What was sealed as the secret called `what`; none when it was sealed under another key or
    /// name, or was changed.
    pub fn open(&self, what: &str, sealed: &[u8]) -> Option<Secret> {
        let (nonce, body) = sealed.strip_prefix(&[VERSION])?.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let opened = self.key.open_in_place(nonce, Aad::from(what), &mut body).ok()?;
        Some(Secret::new(&*opened))
    }

    /// Reads the key of a state directory; none when there is none.
    ///
    /// # Errors
    /// The file cannot be read or has another size.
    pub fn load(disk: &Disk, state_dir: &Path) -> io::Result<Option<Self>> {
        let bytes = match disk.read(&state_dir.join(KEK_FILE), KEK_LEN as u64 + 1) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = bytes.len();
        let wrong = |_| io::Error::other(format!("{found} bytes, expected {KEK_LEN}"));
        Self::from_bytes(&bytes).map(Some).map_err(wrong)
    }

    /// Writes the key into a state directory.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(&self, disk: &Disk, state_dir: &Path) -> io::Result<()> {
        disk.store(&state_dir.join(KEK_FILE), self.expose())
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kek(***)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_sealed_is_opened_by_the_same_key_and_name_only(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            flip in any::<prop::sample::Index>(),
        ) {
            let (kek, other) = (Kek::generate(), Kek::generate());
            let sealed = kek.seal("token", &bytes);
            let opened = kek.open("token", &sealed);
            prop_assert_eq!(opened.as_ref().map(Secret::expose), Some(&bytes[..]));
            prop_assert!(kek.open("key", &sealed).is_none());
            prop_assert!(other.open("token", &sealed).is_none());
            let mut changed = sealed.clone();
            changed[flip.index(sealed.len())] ^= 1;
            prop_assert!(kek.open("token", &changed).is_none());
            prop_assert!(kek.open("token", &sealed[..flip.index(sealed.len())]).is_none());
        }
    }

    #[test]
    fn the_same_secret_never_looks_the_same() {
        let kek = Kek::generate();
        let [one, two] = [kek.seal("a", b"secret"), kek.seal("a", b"secret")];
        assert_ne!(one, two);
        assert!(!one.windows(6).any(|bytes| bytes == b"secret"));
    }

    #[test]
    fn the_key_is_its_owners_alone_and_never_printed() {
        let dir = tempfile::tempdir().unwrap();
        let load = || Kek::load(&Disk::Files, dir.path());
        assert!(load().unwrap().is_none());
        let kek = Kek::generate();
        kek.store(&Disk::Files, dir.path()).unwrap();
        let path = dir.path().join(KEK_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load().unwrap().unwrap().expose(), kek.expose());
        assert_eq!(format!("{kek:?} {:?}", Secret::new("x")), "Kek(***) ***");
        fs::write(&path, b"short").unwrap();
        assert!(load().unwrap_err().to_string().contains("5 bytes, expected 32"));
        fs::write(&path, [0; 40]).unwrap();
        assert!(load().is_err());
    }
}
