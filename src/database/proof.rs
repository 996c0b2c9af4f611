//! How a database user shows that they know their password, without the password. Sans-io.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA512, digest};
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Sha512, VerifyingKey};

use crate::secret::Secret;

/// What is offered with the login, and what MariaDB's users have unless they are given another.
pub(super) const NATIVE: &[u8] = b"mysql_native_password";

/// What MariaDB recommends.
const ED25519: &[u8] = b"client_ed25519";

/// Length of what is signed with ed25519, in bytes.
const NONCE: usize = 32;

/// Why there is no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoProof {
    /// The plugin is not known here.
    Plugin,
    /// What is to be signed is cut short.
    Short,
}

/// The proof a server wants that asks for this plugin with these `data`.
///
/// # Errors
/// There is none for that.
pub(super) fn by(plugin: &[u8], data: &[u8], password: &Secret) -> Result<Vec<u8>, NoProof> {
    match plugin {
        NATIVE => Ok(native(password, data.strip_suffix(&[0]).unwrap_or(data))),
        ED25519 => Ok(ed25519(password, data.first_chunk().ok_or(NoProof::Short)?)),
        _ => Err(NoProof::Plugin),
    }
}

/// By SHA-1 of the password, of that, and of the server's scramble. None is asked for without a
/// password.
pub(super) fn native(password: &Secret, scramble: &[u8]) -> Vec<u8> {
    if password.expose().is_empty() {
        return Vec::new();
    }
    let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let once = sha1(password.expose());
    let twice = sha1(once.as_ref());
    let mixed = sha1(&[scramble, twice.as_ref()].concat());
    once.as_ref().iter().zip(mixed.as_ref()).map(|(a, b)| a ^ b).collect()
}

/// The nonce signed with the key whose seed is the password. RFC 8032 wants a seed of 32 bytes;
/// MariaDB takes the password as it is, which is why the key is expanded here.
fn ed25519(password: &Secret, nonce: &[u8; NONCE]) -> Vec<u8> {
    let (key, public) = keys(password);
    raw_sign::<Sha512>(&key, nonce, &public).to_bytes().to_vec()
}

fn keys(password: &Secret) -> (ExpandedSecretKey, VerifyingKey) {
    let mut seed = [0; 64];
    seed.copy_from_slice(digest(&SHA512, password.expose()).as_ref());
    let key = ExpandedSecretKey::from_bytes(&seed);
    let public = VerifyingKey::from(&key);
    (key, public)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use ed25519_dalek::Signature;

    use super::*;

    #[test]
    fn a_native_proof_is_what_a_server_with_the_double_hash_expects() {
        // What the server does: SHA1(proof XOR SHA1(scramble, stored)) is `stored`, the double hash.
        let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec();
        let stored = sha1(&sha1(b"hunter2"));
        let mixed = sha1(&[b"abcdefghijklmnopqrst", &stored[..]].concat());
        // The scramble of a later request ends with a zero that does not belong to it.
        for data in [&b"abcdefghijklmnopqrst"[..], b"abcdefghijklmnopqrst\0"] {
            let proof = by(NATIVE, data, &Secret::new("hunter2")).unwrap();
            let once: Vec<_> = proof.iter().zip(&mixed).map(|(a, b)| a ^ b).collect();
            assert_eq!(sha1(&once), stored);
        }
        assert!(native(&Secret::new(""), b"abc").is_empty());
    }

    #[test]
    fn an_ed25519_proof_is_a_signature_of_the_key_mariadb_stores() {
        let password = Secret::new("secret");
        let (_, public) = keys(&password);
        // As ed25519_password('secret') gives it.
        let stored = "ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY";
        assert_eq!(STANDARD_NO_PAD.encode(public.as_bytes()), stored);
        let proof = by(ED25519, &[7; NONCE], &password).unwrap();
        let signature = Signature::from_slice(&proof).unwrap();
        assert!(public.verify_strict(&[7; NONCE], &signature).is_ok());
        assert_eq!(by(ED25519, &[7; NONCE - 1], &password), Err(NoProof::Short));
        assert_eq!(by(b"caching_sha2_password", &[7; NONCE], &password), Err(NoProof::Plugin));
    }
}
