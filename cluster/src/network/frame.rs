//! How a message is cut out of the stream: version, length, bytes. Sans-io.
//!
//! ```text
//! 0       1               5
//! +-------+---------------+---------- ... ----+
//! |version| length (be32) |  postcard message |
//! +-------+---------------+---------- ... ----+
//! ```

use crate::codec::VERSION;

/// Bytes before the message.
pub(crate) const HEADER: usize = 5;

/// Largest message: replication reads at most 2 MiB of entries at once and snapshot chunks have
/// 1 MiB, so anything near this is a mistake or an attack.
pub(crate) const MAX_FRAME: usize = 8 << 20;

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("frame has version {found}, this build speaks {VERSION}")]
    Version { found: u8 },
    #[error("frame has {found} bytes, at most {limit} are allowed")]
    TooLarge { found: usize, limit: usize },
}

/// The header of a message of `length` bytes.
pub(crate) fn header(length: usize) -> Result<[u8; HEADER], FrameError> {
    let too_large = FrameError::TooLarge { found: length, limit: MAX_FRAME };
    if length > MAX_FRAME {
        return Err(too_large);
    }
    let [a, b, c, d] = u32::try_from(length).map_err(|_| too_large)?.to_be_bytes();
    Ok([VERSION, a, b, c, d])
}

/// The length a header announces.
pub(crate) fn length(header: [u8; HEADER]) -> Result<usize, FrameError> {
    let [version, a, b, c, d] = header;
    if version != VERSION {
        return Err(FrameError::Version { found: version });
    }
    let found = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if found > MAX_FRAME {
        Err(FrameError::TooLarge { found, limit: MAX_FRAME })
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_and_nothing_larger_or_newer() {
        for size in [0, 1, 300, MAX_FRAME] {
            assert_eq!(length(header(size).unwrap()), Ok(size));
        }
        assert_eq!(
            header(MAX_FRAME + 1),
            Err(FrameError::TooLarge { found: MAX_FRAME + 1, limit: MAX_FRAME })
        );
        assert_eq!(
            length([VERSION + 1, 0, 0, 0, 1]),
            Err(FrameError::Version { found: VERSION + 1 })
        );
        assert_eq!(
            length([VERSION, 255, 255, 255, 255]),
            Err(FrameError::TooLarge { found: 0xffff_ffff, limit: MAX_FRAME })
        );
        assert_eq!(length(*b"GET /"), Err(FrameError::Version { found: b'G' }));
    }
}
