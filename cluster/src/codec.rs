//! Bytes on disk and between nodes: one version byte, then postcard. Sans-io.
//!
//! Nothing is ever skipped: an unknown version, an unknown command or a byte too many is an
//! error that stops whoever reads it.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The layout this build reads and writes.
pub(crate) const VERSION: u8 = 3;

/// Why bytes were not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    /// Nothing there.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// Written by a build with another layout.
    #[error(
        "{what} has format version {found}, this build knows {VERSION}; run the version of \
         trigon that wrote it"
    )]
    Version {
        /// What was read.
        what: &'static str,
        /// Its version byte.
        found: u8,
    },
    /// Not a value this build knows.
    #[error(
        "{what} is damaged or holds a command this build does not know ({source}); run the \
         version of trigon that wrote it"
    )]
    Malformed {
        /// What was read.
        what: &'static str,
        /// The decoder's view.
        source: postcard::Error,
    },
    /// More bytes than the value has.
    #[error("{what} has {count} bytes too many; it is damaged or newer than this build")]
    Trailing {
        /// What was read.
        what: &'static str,
        /// How many.
        count: usize,
    },
}

/// The value with its version byte.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    postcard::to_extend(value, vec![VERSION])
        .map_err(|source| CodecError::Malformed { what: "value", source })
}

/// The value in all of `bytes`.
pub(crate) fn decode<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, CodecError> {
    let (version, body) = bytes.split_first().ok_or(CodecError::Empty(what))?;
    if *version != VERSION {
        return Err(CodecError::Version { what, found: *version });
    }
    let (value, rest) =
        postcard::take_from_bytes(body).map_err(|source| CodecError::Malformed { what, source })?;
    if !rest.is_empty() {
        return Err(CodecError::Trailing { what, count: rest.len() });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_an_error_that_says_so() {
        let good = encode(&7u32).unwrap();
        assert_eq!(decode::<u32>("number", &good), Ok(7));
        let mut long = good.clone();
        long.push(0);
        let table: [(&str, &[u8], &str); 4] = [
            ("empty", &[], "number is empty"),
            ("newer", &[9, 7], "format version 9"),
            ("short", &[VERSION], "damaged"),
            ("long", &long, "1 bytes too many"),
        ];
        for (name, bytes, expected) in table {
            let text = decode::<u32>("number", bytes).unwrap_err().to_string();
            assert!(text.contains(expected), "{name}: {text}");
        }
    }
}
