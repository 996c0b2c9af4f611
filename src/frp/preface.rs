//! What the first byte of a connection, of a TLS session or of a mux stream says about the rest.
//! Sans-io.
//!
//! One byte is enough to tell all layers apart, so a single port serves every transport setting a
//! client may have. The caller peels one layer, then asks again; which layers are legal at which
//! depth is the caller's business. The byte is looked at, not consumed.

use thiserror::Error;

/// The layer a first byte announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preface {
    /// 0x17: drop this one byte, a TLS handshake follows (`disableCustomTLSFirstByte = false`).
    CustomTls,
    /// 0x16: a TLS handshake record, this byte included.
    Tls,
    /// 0x00: the first yamux header (`tcpMux = true`).
    Mux,
    /// The type byte of a message a client may open with: wire version 1, no mux.
    V1,
    /// Nothing this server can serve.
    Refused(Refusal),
}

/// Why a connection is closed after its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// `F`, the magic of wire version 2.
    #[error("wire protocol v2 is not supported yet; set transport.wireProtocol to \"v1\"")]
    WireV2,
    /// `G`, a websocket upgrade.
    #[error("websocket transport is not supported; set transport.protocol to \"tcp\"")]
    WebSocket,
    /// Not frp at all.
    #[error("first byte {0:#04x} is not frp")]
    Garbage(u8),
}

impl Preface {
    /// Classifies by the first byte alone.
    pub fn of(first: u8) -> Self {
        match first {
            0x17 => Self::CustomTls,
            0x16 => Self::Tls,
            0x00 => Self::Mux,
            // Login, NewWorkConn, NewVisitorConn.
            b'o' | b'w' | b'v' => Self::V1,
            b'F' => Self::Refused(Refusal::WireV2),
            b'G' => Self::Refused(Refusal::WebSocket),
            other => Self::Refused(Refusal::Garbage(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_first_byte_has_one_meaning() {
        for byte in 0..=u8::MAX {
            let expect = match byte {
                0x00 => Preface::Mux,
                0x16 => Preface::Tls,
                0x17 => Preface::CustomTls,
                b'o' | b'w' | b'v' => Preface::V1,
                b'F' => Preface::Refused(Refusal::WireV2),
                b'G' => Preface::Refused(Refusal::WebSocket),
                _ => Preface::Refused(Refusal::Garbage(byte)),
            };
            assert_eq!(Preface::of(byte), expect, "{byte:#04x}");
        }
    }

    #[test]
    fn refusals_name_the_cure() {
        assert_eq!(Refusal::Garbage(0x47).to_string(), "first byte 0x47 is not frp");
        assert!(Refusal::WireV2.to_string().contains("transport.wireProtocol"));
    }
}
