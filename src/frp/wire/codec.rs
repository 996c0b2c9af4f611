//! Bytes in, messages out, and back: framing and control cipher of one connection in one place.
//!
//! Each direction starts in clear. The server reads ciphertext from right after Login and writes
//! it from right after LoginResp; the client mirrors that. A work connection stays in clear, and
//! after StartWorkConn what was pushed beyond it belongs to the user: [`Codec::into_rest`].

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::frp::crypto::cfb::{Decryptor, Encryptor, IV_LEN, Iv, Key};
use crate::frp::message::Message;
use crate::frp::wire::v1::{self, V1Error};

/// Why a connection can no longer be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    #[error(transparent)]
    V1(#[from] V1Error),
}

/// Framing and cipher state of one connection. Holds at most what was pushed and not yet taken.
#[derive(Debug, Default)]
pub struct Codec {
    /// Received, deciphered, not yet taken.
    inbox: BytesMut,
    reading: Reading,
    writing: Option<Encryptor>,
    /// Goes out in clear before the first ciphertext.
    iv: Option<Iv>,
}

#[derive(Debug, Default)]
enum Reading {
    #[default]
    Clear,
    /// The peer's initialisation vector is still arriving.
    Iv(Key, Vec<u8>),
    Cipher(Decryptor),
}

impl Codec {
    /// A codec with both directions in clear.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they came off the connection, in any portions.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if let Reading::Iv(key, iv) = &mut self.reading {
            let (front, rest) = bytes.split_at(bytes.len().min(IV_LEN - iv.len()));
            iv.extend_from_slice(front);
            bytes = rest;
            if let Ok(iv) = Iv::try_from(iv.as_slice()) {
                self.reading = Reading::Cipher(Decryptor::new(key, &iv));
            }
        }
        let start = self.inbox.len();
        self.inbox.extend_from_slice(bytes);
        if let Reading::Cipher(decryptor) = &mut self.reading {
            decryptor.apply(&mut self.inbox[start..]);
        }
    }

    /// The next whole message, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// [`WireError`]; the connection cannot be resynchronised and must be closed.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would hide that None is not the end"
    )]
    pub fn next(&mut self) -> Result<Option<Message>, WireError> {
        Ok(v1::decode(&mut self.inbox)?)
    }

    /// Appends the message as it goes on the wire, the initialisation vector first if this is the
    /// first ciphertext.
    pub fn encode(&mut self, message: &Message, out: &mut BytesMut) {
        if let Some(iv) = self.iv.take() {
            out.extend_from_slice(&iv);
        }
        let start = out.len();
        v1::encode(message, out);
        if let Some(encryptor) = &mut self.writing {
            encryptor.apply(&mut out[start..]);
        }
    }

    /// Everything after the messages taken so far is ciphertext, bytes already pushed included.
    pub fn start_reading_cipher(&mut self, key: &Key) {
        self.reading = Reading::Iv(key.clone(), Vec::with_capacity(IV_LEN));
        let early = self.inbox.split();
        self.push(&early);
    }

    /// Every message encoded from here on is ciphertext. `iv` must be fresh and random.
    pub fn start_writing_cipher(&mut self, key: &Key, iv: Iv) {
        self.writing = Some(Encryptor::new(key, &iv));
        self.iv = Some(iv);
    }

    /// The bytes pushed beyond the last message taken: on a work connection, the user's.
    pub fn into_rest(self) -> Bytes {
        self.inbox.freeze()
    }
}
