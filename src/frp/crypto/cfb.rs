//! Wire v1's control cipher: AES-128 in CFB mode with full-block feedback, one continuous stream
//! per direction, its initialisation vector sent in clear before the first ciphertext.
//!
//! No randomness in here: the vector comes from the caller.

use std::fmt;

use aes::Aes128;
use cfb_mode::cipher::KeyIvInit;
use cfb_mode::{BufDecryptor, BufEncryptor};
use sha1::Sha1;

/// Bytes of an initialisation vector.
pub const IV_LEN: usize = 16;

/// A fresh random initialisation vector, one per direction and connection.
pub type Iv = [u8; IV_LEN];

/// The key both ends derive from `auth.token`.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 16]);

impl Key {
    /// PBKDF2-HMAC-SHA1 with frp's fixed salt and 64 rounds. An empty token gives a key everyone
    /// knows.
    pub fn derive(token: &[u8]) -> Self {
        Self(pbkdf2::pbkdf2_hmac_array::<Sha1, 16>(token, b"frp", 64))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(***)")
    }
}

/// Encrypts one direction.
pub struct Encryptor(BufEncryptor<Aes128>);

impl Encryptor {
    pub fn new(key: &Key, iv: &Iv) -> Self {
        Self(BufEncryptor::new(&key.0.into(), &(*iv).into()))
    }

    /// Encrypts the next bytes of the stream in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        self.0.encrypt(bytes);
    }
}

impl fmt::Debug for Encryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encryptor")
    }
}

/// Decrypts one direction.
pub struct Decryptor(BufDecryptor<Aes128>);

impl Decryptor {
    pub fn new(key: &Key, iv: &Iv) -> Self {
        Self(BufDecryptor::new(&key.0.into(), &(*iv).into()))
    }

    /// Decrypts the next bytes of the stream in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        self.0.decrypt(bytes);
    }
}

impl fmt::Debug for Decryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decryptor")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn keys_equal_those_frp_derives() {
        let table = [
            ("", "cdc9dc4c472c37331281df4c232a8407"),
            ("s3cret", "98d40315f7ae4d22a12d1f4879bd5ca9"),
            ("some_very_secure_password", "6ce79b5287d6c232244a6d7d866c87da"),
        ];
        for (token, expect) in table {
            assert_eq!(hex(&Key::derive(token.as_bytes()).0), expect, "{token}");
        }
    }

    #[test]
    fn a_stream_may_be_cut_anywhere() {
        let key = Key::derive(b"s3cret");
        let iv = [7; IV_LEN];
        let plain: Vec<u8> = (0..=255).collect();
        let mut whole = plain.clone();
        Encryptor::new(&key, &iv).apply(&mut whole);
        for step in 1..40 {
            let mut cut = plain.clone();
            let mut encryptor = Encryptor::new(&key, &iv);
            cut.chunks_mut(step).for_each(|chunk| encryptor.apply(chunk));
            assert_eq!(cut, whole, "{step}");
            let mut decryptor = Decryptor::new(&key, &iv);
            cut.chunks_mut(41 - step).for_each(|chunk| decryptor.apply(chunk));
            assert_eq!(cut, plain, "{step}");
        }
    }

    #[test]
    fn a_key_never_prints_itself() {
        assert_eq!(format!("{:?}", Key::derive(b"")), "Key(***)");
    }
}
