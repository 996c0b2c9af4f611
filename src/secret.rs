//! A value that must not leak: it prints as `***` and compares in constant time.
//!
//! Neighbours: `guard` compares the shared key with it, `config` reads it from a file.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

/// Opaque secret bytes (a shared key, a token).
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes the bytes as they are; no trimming, no decoding.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into().into_boxed_slice())
    }

    /// The bytes themselves, for the one place that has to send or derive from them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether `offered` is the same secret. Digests are compared, so neither the position of
    /// the first difference nor the length shows in the time taken.
    pub fn matches(&self, offered: &[u8]) -> bool {
        let mine = digest(&SHA256, &self.0);
        let theirs = digest(&SHA256, offered);
        verify_slices_are_equal(mine.as_ref(), theirs.as_ref()).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_itself() {
        let key = Secret::new("hunter2");
        assert_eq!(format!("{key} {key:?}"), "*** ***");
    }

    #[test]
    fn matches_only_the_same_bytes() {
        let key = Secret::new("hunter2");
        assert!(key.matches(b"hunter2"));
        for wrong in [&b""[..], b"hunter", b"hunter22", b"Hunter2"] {
            assert!(!key.matches(wrong));
        }
    }
}
