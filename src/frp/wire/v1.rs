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
    #[error("body of message type {kind:#04x} is not the JSON expected, at byte {at}")]
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
