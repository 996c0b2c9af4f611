//! WebSockets over HTTP/2 (RFC 8441) as the HTTP/1.1 upgrade an ExApp understands (RFC 6455
//! section 4), and its answer on the way back. Sans-io.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use hyper::ext::Protocol;

/// What RFC 6455 appends to the key before it is digested.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// Headers of the upgrade that HTTP/2 does not know.
const HTTP1_ONLY: [HeaderName; 3] = [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT];

/// An upgrade asked for in place of an extended CONNECT.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// The `Sec-WebSocket-Accept` of a server that understood.
    accept: HeaderValue,
}

/// The upstream's answer cannot stand for the extended CONNECT's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("extended CONNECT: the upstream neither switched to WebSocket nor refused")]
pub struct NotSwitched;

/// Whether the request is a CONNECT this proxy can serve. A plain one asks for a forward proxy,
/// and of the protocols an extended one may name only WebSocket is known.
pub fn is_websocket(head: &Parts) -> bool {
    let protocol = head.extensions.get::<Protocol>().map(|protocol| protocol.as_str());
    protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

impl Bridge {
    /// Turns an extended CONNECT into an upgrade request; `None` leaves any other request as it
    /// is. `nonce` must be random (RFC 6455 section 4.1). Call it after `headers` has been over
    /// the head, which takes hop-by-hop headers away.
    pub fn build(head: &mut Parts, nonce: impl FnOnce() -> [u8; 16]) -> Option<Self> {
        if !is_websocket(head) {
            return None;
        }
        let key = STANDARD.encode(nonce());
        let accept = accept(key.as_bytes());
        head.extensions.remove::<Protocol>();
        head.method = Method::GET;
        let headers = &mut head.headers;
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, WEBSOCKET);
        headers.insert(SEC_WEBSOCKET_KEY, text(&key));
        headers.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
        Some(Self { accept: text(&accept) })
    }

    /// Turns the upstream's answer into that of the extended CONNECT: 101 becomes 200, a refusal
    /// stays what it is.
    ///
    /// # Errors
    /// [`NotSwitched`]: a 2xx would mean something else than it says, and so would a 101
    /// that proves nothing.
    pub fn answer(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
    ) -> Result<StatusCode, NotSwitched> {
        if status == StatusCode::SWITCHING_PROTOCOLS {
            if headers.get(SEC_WEBSOCKET_ACCEPT) != Some(&self.accept) {
                return Err(NotSwitched);
            }
            for name in &HTTP1_ONLY {
                headers.remove(name);
            }
            return Ok(StatusCode::OK);
        }
        if status.is_success() { Err(NotSwitched) } else { Ok(status) }
    }
}

fn accept(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()))
}

fn text(base64: &str) -> HeaderValue {
    // The alphabet of base64 may stand in a header.
    HeaderValue::from_str(base64).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(protocol: &'static str) -> Parts {
        let mut request = Request::builder().method(Method::CONNECT).uri("https://h/exapps/a/ws");
        if !protocol.is_empty() {
            request = request.extension(Protocol::from_static(protocol));
        }
        request.header("sec-websocket-protocol", "chat").body(()).unwrap().into_parts().0
    }

    fn bridge() -> (Bridge, Parts) {
        let mut head = head("websocket");
        let bridge = Bridge::build(&mut head, || *b"the sample nonce").unwrap();
        (bridge, head)
    }

    #[test]
    fn an_extended_connect_becomes_an_upgrade() {
        let (bridge, head) = bridge();
        assert_eq!(head.method, Method::GET);
        assert_eq!(head.headers[CONNECTION], "upgrade");
        assert_eq!(head.headers[UPGRADE], "websocket");
        // The example of RFC 6455 section 1.3.
        assert_eq!(head.headers[SEC_WEBSOCKET_KEY], "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(bridge.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(head.headers[SEC_WEBSOCKET_VERSION], "13");
        assert_eq!(head.headers["sec-websocket-protocol"], "chat");
    }

    #[test]
    fn anything_else_is_left_alone() {
        for protocol in ["", "connect-udp"] {
            let mut head = head(protocol);
            assert!(Bridge::build(&mut head, || [0; 16]).is_none(), "{protocol}");
            assert_eq!(head.method, Method::CONNECT);
        }
    }

    #[test]
    fn a_switch_is_success_and_a_refusal_is_itself() {
        let (bridge, _) = bridge();
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, WEBSOCKET);
        headers.insert(SEC_WEBSOCKET_ACCEPT, bridge.accept.clone());
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("chat"));
        let switched = bridge.answer(StatusCode::SWITCHING_PROTOCOLS, &mut headers);
        assert_eq!(switched, Ok(StatusCode::OK));
        assert_eq!(headers.len(), 1);
        for status in [StatusCode::FORBIDDEN, StatusCode::FOUND, StatusCode::BAD_GATEWAY] {
            assert_eq!(bridge.answer(status, &mut HeaderMap::new()), Ok(status));
        }
    }

    #[test]
    fn what_would_be_taken_for_an_open_websocket_is_none() {
        let (bridge, _) = bridge();
        let mut forged = HeaderMap::new();
        forged.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("guessed"));
        assert!(bridge.answer(StatusCode::SWITCHING_PROTOCOLS, &mut forged).is_err());
        assert!(bridge.answer(StatusCode::OK, &mut HeaderMap::new()).is_err());
    }
}
