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
