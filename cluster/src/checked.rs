//! Bytes between a magic and a SHA-256 over all of it: how files are told from other files and
//! from damaged ones. Sans-io.

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

/// What a kind of file begins with.
pub(crate) type Magic = [u8; 8];

/// Why bytes are not such a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unchecked {
    /// Another kind of file, or hardly any bytes.
    Magic,
    /// Some byte is not what was written.
    Sum,
}

/// The file of `body`.
pub(crate) fn wrap(magic: &Magic, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(magic.len() + body.len() + SHA256_OUTPUT_LEN);
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(body);
    let sum = digest(&SHA256, &bytes);
    bytes.extend_from_slice(sum.as_ref());
    bytes
}

/// The body of a file.
pub(crate) fn unwrap<'a>(magic: &Magic, bytes: &'a [u8]) -> Result<&'a [u8], Unchecked> {
    let split = bytes.len().checked_sub(SHA256_OUTPUT_LEN).ok_or(Unchecked::Magic)?;
    let (content, sum) = bytes.split_at(split);
    let body = content.strip_prefix(magic).ok_or(Unchecked::Magic)?;
    if digest(&SHA256, content).as_ref() == sum { Ok(body) } else { Err(Unchecked::Sum) }
}
