//! Wire version 1: type byte, 64-bit big-endian length, JSON of that length.

use bytes::{Buf, BufMut, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::frp::message::Message;

/// Most bytes of JSON one message may carry, as frp enforces it.
pub const MAX_BODY: usize = 10_240;

/// Type byte and length.
const HEADER: usize = 9;

/// Every type byte frp defines beyond those that [`Message`] has a variant for: visitor
/// connections, UDP packets and the six of hole punching.
const IGNORED: &[u8] = b"v3uinm56";

/// A frame that is not a v1 message. The connection that carried it is beyond repair.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum V1Error {
    #[error("message type {0:#04x} is unknown; a wrong auth.token looks like this too")]
    UnknownType(u8),
    #[error("message length is {0}, expected 0 to {MAX_BODY}")]
    Length(i64),
    /// The parser's own text is not kept: it quotes values, and values may be keys.
    #[error("body of message type {kind:#04x} is not the JSON expected, at column {at}")]
    Json { kind: u8, at: usize },
}

/// Appends one framed message to `out`. [`Message::Other`] goes out with an empty body.
pub fn encode(message: &Message, out: &mut BytesMut) {
    match message {
        Message::Login(body) => put(b'o', body, out),
        Message::LoginResp(body) => put(b'1', body, out),
        Message::NewProxy(body) => put(b'p', body, out),
        Message::NewProxyResp(body) => put(b'2', body, out),
        Message::CloseProxy(body) => put(b'c', body, out),
        Message::NewWorkConn(body) => put(b'w', body, out),
        Message::ReqWorkConn(body) => put(b'r', body, out),
        Message::StartWorkConn(body) => put(b's', body, out),
        Message::Ping(body) => put(b'h', body, out),
        Message::Pong(body) => put(b'4', body, out),
        Message::Other(kind) => put(*kind, &serde_json::Map::new(), out),
    }
}

/// Takes one whole message off the front of `bytes`, or nothing if it is not complete yet.
///
/// # Errors
/// [`V1Error`], as early as the header shows it; nothing is taken then, so asking again gives the
/// same answer.
pub fn decode(bytes: &mut BytesMut) -> Result<Option<Message>, V1Error> {
    let Some(&kind) = bytes.first() else { return Ok(None) };
    if !is_known(kind) {
        return Err(V1Error::UnknownType(kind));
    }
    let Some(mut length) = bytes.get(1..HEADER) else { return Ok(None) };
    let length = length.get_i64();
    let end = match usize::try_from(length) {
        Ok(body) if body <= MAX_BODY => HEADER + body,
        _ => return Err(V1Error::Length(length)),
    };
    let Some(body) = bytes.get(HEADER..end) else { return Ok(None) };
    let message = parse(kind, body)?;
    bytes.advance(end);
    Ok(Some(message))
}

fn is_known(kind: u8) -> bool {
    b"o1p2cwrsh4".contains(&kind) || IGNORED.contains(&kind)
}

fn parse(kind: u8, body: &[u8]) -> Result<Message, V1Error> {
    Ok(match kind {
        b'o' => Message::Login(json(kind, body)?),
        b'1' => Message::LoginResp(json(kind, body)?),
        b'p' => Message::NewProxy(json(kind, body)?),
        b'2' => Message::NewProxyResp(json(kind, body)?),
        b'c' => Message::CloseProxy(json(kind, body)?),
        b'w' => Message::NewWorkConn(json(kind, body)?),
        b'r' => Message::ReqWorkConn(json(kind, body)?),
        b's' => Message::StartWorkConn(json(kind, body)?),
        b'h' => Message::Ping(json(kind, body)?),
        b'4' => Message::Pong(json(kind, body)?),
        other => Message::Other(other),
    })
}

fn json<T: DeserializeOwned>(kind: u8, body: &[u8]) -> Result<T, V1Error> {
    // An array would pass as a struct given by position; frp knows objects only.
    if !body.starts_with(b"{") {
        return Err(V1Error::Json { kind, at: 0 });
    }
    serde_json::from_slice(body).map_err(|error| V1Error::Json { kind, at: error.column() })
}

fn put(kind: u8, body: &impl Serialize, out: &mut BytesMut) {
    let start = out.len();
    out.put_u8(kind);
    out.put_i64(0);
    serde_json::to_writer((&mut *out).writer(), body)
        .expect("strings, numbers and string maps always have a JSON form");
    let body = i64::try_from(out.len() - start - HEADER).unwrap_or(i64::MAX);
    out[start + 1..start + HEADER].copy_from_slice(&body.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frp::message::{
        ClientSpec, Login, LoginResp, Metas, NewWorkConn, ReqWorkConn, StartWorkConn,
    };

    /// Frames captured from frpc and frps 0.61.1 (the refusal is composed).
    fn captured() -> Vec<(Message, u8, &'static str)> {
        let run_id = || "833231b71931fc95".to_owned();
        vec![
            (
                Message::Login(Login {
                    version: "0.61.1".into(),
                    os: "linux".into(),
                    arch: "amd64".into(),
                    privilege_key: "f9429a0d8e011606ef3eb1cff85dc748".into(),
                    timestamp: 1_795_381_035,
                    metas: Metas::from([("token".into(), "some_very_secure_password".into())]),
                    client_spec: ClientSpec::default(),
                    pool_count: 1,
                    ..Default::default()
                }),
                b'o',
                concat!(
                    r#"{"version":"0.61.1","os":"linux","arch":"amd64","#,
                    r#""privilege_key":"f9429a0d8e011606ef3eb1cff85dc748","timestamp":1795381035,"#,
                    r#""metas":{"token":"some_very_secure_password"},"client_spec":{},"pool_count":1}"#,
                ),
            ),
            (
                Message::LoginResp(LoginResp {
                    version: "0.61.1".into(),
                    run_id: run_id(),
                    ..Default::default()
                }),
                b'1',
                r#"{"version":"0.61.1","run_id":"833231b71931fc95"}"#,
            ),
            (
                Message::LoginResp(LoginResp {
                    version: "0.61.1".into(),
                    error: "banned".into(),
                    ..Default::default()
                }),
                b'1',
                r#"{"version":"0.61.1","error":"banned"}"#,
            ),
            (
                Message::NewWorkConn(NewWorkConn { run_id: run_id(), ..Default::default() }),
                b'w',
                r#"{"run_id":"833231b71931fc95"}"#,
            ),
            (
                Message::StartWorkConn(StartWorkConn {
                    proxy_name: "testapp".into(),
                    src_addr: "127.0.0.1".into(),
                    dst_addr: "127.0.0.1".into(),
                    src_port: 47868,
                    dst_port: 23010,
                    error: String::new(),
                }),
                b's',
                concat!(
                    r#"{"proxy_name":"testapp","src_addr":"127.0.0.1","#,
                    r#""dst_addr":"127.0.0.1","src_port":47868,"dst_port":23010}"#,
                ),
            ),
            (Message::ReqWorkConn(ReqWorkConn {}), b'r', "{}"),
        ]
    }

    fn frame(kind: u8, length: i64, body: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::new();
        bytes.put_u8(kind);
        bytes.put_i64(length);
        bytes.put_slice(body);
        bytes
    }

    #[test]
    fn captured_frames_read_and_write_the_same() {
        for (message, kind, text) in captured() {
            let length = i64::try_from(text.len()).unwrap();
            let wire = frame(kind, length, text.as_bytes());
            let mut out = BytesMut::new();
            encode(&message, &mut out);
            assert_eq!(out, wire, "{text}");
            assert_eq!(decode(&mut out).unwrap(), Some(message));
            assert!(out.is_empty());
        }
    }

    #[test]
    fn captured_lengths_hold() {
        let lengths: Vec<_> = captured().iter().map(|(_, _, text)| text.len()).collect();
        assert_eq!(lengths, [200, 48, 37, 29, 104, 2]);
    }

    #[test]
    fn a_bad_header_is_refused_before_its_body_arrives() {
        let table = [
            (frame(b'o', -1, b""), V1Error::Length(-1)),
            (frame(b'o', 10_241, b""), V1Error::Length(10_241)),
            (frame(b'v', i64::MAX, b""), V1Error::Length(i64::MAX)),
            (BytesMut::from(&b"x"[..]), V1Error::UnknownType(b'x')),
            (frame(b'o', 2, b"[]"), V1Error::Json { kind: b'o', at: 0 }),
            (frame(b'o', 2, b"{]"), V1Error::Json { kind: b'o', at: 2 }),
            (frame(b'h', 0, b""), V1Error::Json { kind: b'h', at: 0 }),
        ];
        for (mut wire, expect) in table {
            let before = wire.clone();
            assert_eq!(decode(&mut wire).unwrap_err(), expect);
            assert_eq!(wire, before, "nothing is taken on error");
        }
    }

    #[test]
    fn errors_quote_nothing_the_peer_sent() {
        let body = br#"{"metas":"hunter2"}"#;
        let error = decode(&mut frame(b'o', 19, body)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn the_longest_body_passes() {
        let text = format!(r#"{{"error":"{}"}}"#, "x".repeat(MAX_BODY - 12));
        let message = decode(&mut frame(b'4', 10_240, text.as_bytes())).unwrap();
        assert!(matches!(message, Some(Message::Pong(_))));
    }

    #[test]
    fn messages_without_use_here_are_named_and_skipped() {
        for kind in *b"v3uinm56" {
            let mut wire = frame(kind, 7, br#"{"a":1}"#);
            wire.extend_from_slice(&frame(b'r', 2, b"{}"));
            assert_eq!(decode(&mut wire), Ok(Some(Message::Other(kind))));
            assert_eq!(decode(&mut wire), Ok(Some(Message::ReqWorkConn(ReqWorkConn {}))));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let mut wire = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode(&mut wire) {}
        }

        #[test]
        fn any_body_is_survived(pick in 0usize..18, body: Vec<u8>) {
            let kind = b"o1p2cwrsh4v3uinm56"[pick];
            let length = i64::try_from(body.len()).unwrap();
            let _ = decode(&mut frame(kind, length, &body));
        }
    }
}
