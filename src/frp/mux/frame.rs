//! The 12-byte header every yamux frame starts with, as bytes and as a value.
//!
//! What a header means for a stream is `session`'s concern.

use super::Violation;

/// Bytes of a header.
pub(super) const HEADER: usize = 12;

/// Opens a stream, or marks a ping as a request.
pub(super) const SYN: u16 = 1;
/// Answers a SYN, or marks a ping as a reply.
pub(super) const ACK: u16 = 2;
/// No more data from the sender.
pub(super) const FIN: u16 = 4;
/// The stream is void, both ways, at once.
pub(super) const RST: u16 = 8;

/// GoAway code of a peer that broke the protocol.
pub(super) const GO_AWAY_PROTOCOL: u32 = 1;

/// What a frame carries; decides how `length` is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `length` bytes of a stream follow.
    Data,
    /// `length` is credit for the receiver to send.
    Window,
    /// `length` is an opaque id to echo.
    Ping,
    /// `length` is a reason code.
    GoAway,
}

/// One frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) flags: u16,
    pub(super) stream: u32,
    pub(super) length: u32,
}

impl Header {
    pub(super) fn new(kind: Kind, flags: u16, stream: u32, length: u32) -> Self {
        Self { kind, flags, stream, length }
    }

    /// Whether every bit of `flag` is set.
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag == flag
    }

    /// The header as it goes on the wire.
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let kind = match self.kind {
            Kind::Data => 0,
            Kind::Window => 1,
            Kind::Ping => 2,
            Kind::GoAway => 3,
        };
        let ([f0, f1], [s0, s1, s2, s3]) = (self.flags.to_be_bytes(), self.stream.to_be_bytes());
        let [l0, l1, l2, l3] = self.length.to_be_bytes();
        [0, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3]
    }

    /// Reads a header; flag bits without a meaning are kept and ignored.
    ///
    /// # Errors
    /// A version other than 0 or a type above 3.
    pub(super) fn decode(bytes: [u8; HEADER]) -> Result<Self, Violation> {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = bytes;
        if version != 0 {
            return Err(Violation::Version(version));
        }
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Window,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            other => return Err(Violation::Kind(other)),
        };
        Ok(Self {
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The first four were captured from frpc and frps 0.61.1.
    #[test]
    fn reference_headers_read_and_write_the_same() {
        let table = [
            (Kind::Window, SYN, 1, 0x005c_0000, "0001000100000001005c0000"),
            (Kind::Window, ACK, 1, 0x005c_0000, "0001000200000001005c0000"),
            (Kind::Data, 0, 3, 5, "000000000000000300000005"),
            (Kind::Window, FIN, 3, 0, "000100040000000300000000"),
            (Kind::Window, RST, 3, 0, "000100080000000300000000"),
            (Kind::Ping, SYN, 0, 0, "000200010000000000000000"),
            (Kind::Ping, ACK, 0, 0, "000200020000000000000000"),
            (Kind::Window, 0, 3, 3 << 20, "000100000000000300300000"),
            (Kind::GoAway, 0, 0, 0, "000300000000000000000000"),
        ];
        for (kind, flags, stream, length, hex) in table {
            let header = Header::new(kind, flags, stream, length);
            let bytes = header.encode();
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(text, hex);
            assert_eq!(Header::decode(bytes), Ok(header));
        }
    }

    proptest! {
        #[test]
        fn any_header_reads_or_is_refused_by_name(bytes: [u8; HEADER]) {
            match Header::decode(bytes) {
                Ok(header) => prop_assert_eq!(header.encode(), bytes),
                Err(Violation::Version(version)) => prop_assert!(version != 0),
                Err(Violation::Kind(kind)) => prop_assert!(kind > 3),
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
