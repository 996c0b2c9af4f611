//! A small ExApp for the lab and for tests, on TCP or on a unix socket.
//!
//! | path (also below `/public`, `/user` and `/admin`) | answer |
//! |---|---|
//! | `/` | a small JSON page |
//! | `/headers` | method, path and every header as received, as JSON; any method |
//! | `/ws` | WebSocket that echoes text and binary |
//! | `/events` | server-sent events, the clock each 100 ms |
//! | `/sink` (POST) | length and SHA-256 of the body, as JSON |
//! | `/source?bytes=N` | N bytes, always the same ([`source_byte`]) |
//! | `/echo` | the body as it came |
//! | `/status/N` | status N |
//! | `/heartbeat` | `{"status":"ok"}` as AppAPI expects |
//!
//! Who keeps a journal of it ([`serve_tcp_noting`]) gets the page for every other path too.

use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::journal::Journal;
use crate::net::listen::accept;

/// What `/` answers; a load client can tell from it that the ExApp itself was reached.
pub const PAGE: &str = r#"{"app":"lab","hello":"world"}"#;
/// Largest piece of `/source`.
const PIECE: usize = 64 * 1024;
const TICK: Duration = Duration::from_millis(100);

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Serves on TCP until dropped.
pub async fn serve_tcp(listener: TcpListener) -> Infallible {
    loop {
        let (stream, _peer) = accept(&listener).await;
        tokio::spawn(serve_connection(stream, None));
    }
}

/// A request as it arrived, before it was answered.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Path and query, undecoded.
    pub target: String,
    /// Its version.
    pub version: Version,
    /// Its headers.
    pub headers: HeaderMap,
}

/// As [`serve_tcp`], and notes every request.
pub async fn serve_tcp_noting(listener: TcpListener, journal: Journal<Seen>) -> Infallible {
    loop {
        let (stream, _peer) = accept(&listener).await;
        tokio::spawn(serve_connection(stream, Some(journal.clone())));
    }
}

/// Serves on a unix socket until dropped; an old socket file at `path` is replaced.
///
/// # Errors
/// The socket could not be bound, or accepting failed for good.
pub async fn serve_unix(path: &Path) -> io::Result<Infallible> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    loop {
        let (stream, _peer) = listener.accept().await?;
        tokio::spawn(serve_connection(stream, None));
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    journal: Option<Journal<Seen>>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        if let Some(journal) = &journal {
            journal.note(Seen {
                method: request.method().clone(),
                target: request.uri().to_string(),
                version: request.version(),
                headers: request.headers().clone(),
            });
        }
        answer(request, journal.is_some())
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::trace!(%error, "connection ended early");
    }
}

/// The byte of `/source` at `offset`. Neighbouring pages differ, so that a piece that was lost,
/// doubled or moved shows.
pub fn source_byte(offset: u64) -> u8 {
    let mixed = offset.wrapping_mul(31).wrapping_add(offset >> 8).wrapping_add(offset >> 16);
    mixed.to_le_bytes()[0]
}

/// SHA-256 in hexadecimal of the first `length` bytes of `/source`, to compare a download with.
pub fn source_sha256(length: u64) -> String {
    let mut context = Context::new(&SHA256);
    let mut offset = 0;
    while let Some(piece) = source_piece(offset, length) {
        context.update(&piece);
        offset += PIECE as u64;
    }
    hexadecimal(context.finish().as_ref())
}

fn source_piece(offset: u64, length: u64) -> Option<Bytes> {
    let end = length.min(offset.saturating_add(PIECE as u64));
    (offset < end).then(|| (offset..end).map(source_byte).collect())
}

async fn answer(
    request: Request<Incoming>,
    page_for_all: bool,
) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path();
    let path = ["/public", "/user", "/admin"]
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix).filter(|r| r.is_empty() || r.starts_with('/')))
        .unwrap_or(path);
    Ok(match path {
        "" | "/" => json(PAGE.into()),
        "/headers" => headers(&request),
        "/ws" => web_socket(request),
        "/events" => events(),
        "/sink" if request.method() == Method::POST => sink(request.into_body()).await?,
        "/source" => source(request.uri().query()),
        "/echo" => Response::new(request.into_body().boxed_unsync()),
        "/heartbeat" => json(r#"{"status":"ok"}"#.into()),
        _ if path.starts_with("/status/") => status(path),
        _ if page_for_all => json(PAGE.into()),
        _ => plain(StatusCode::NOT_FOUND, "no such page\n"),
    })
}

fn headers(request: &Request<Incoming>) -> Response<Body> {
    let headers: Vec<(&str, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let uri = request.uri();
    let text = serde_json::json!({
        "method": request.method().as_str(),
        "path": uri.path_and_query().map_or("", |both| both.as_str()),
        "version": format!("{:?}", request.version()),
        "headers": headers,
    });
    json(text.to_string())
}

fn web_socket(mut request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return plain(StatusCode::BAD_REQUEST, "a WebSocket handshake is expected here\n");
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let config = Some(WebSocketConfig::default());
        let socket =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, config).await;
        let (mut send, mut receive) = socket.split();
        while let Some(Ok(message)) = receive.next().await {
            let content = message.is_text() || message.is_binary();
            if content && send.send(message).await.is_err() {
                break;
            }
        }
    });
    let mut answer = plain(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = answer.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(value) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, value);
    }
    answer
}

fn events() -> Response<Body> {
    let clock = stream::unfold(tokio::time::interval(TICK), |mut ticks| async {
        ticks.tick().await;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let event = format!("data: {}\n\n", now.as_millis());
        Some((Ok(Frame::data(Bytes::from(event))), ticks))
    });
    let mut answer = Response::new(StreamBody::new(clock).boxed_unsync());
    set_type(&mut answer, "text/event-stream");
    answer
}

async fn sink(mut body: Incoming) -> Result<Response<Body>, hyper::Error> {
    let mut context = Context::new(&SHA256);
    let mut length = 0u64;
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            context.update(data);
            length += data.len() as u64;
        }
    }
    let sha256 = hexadecimal(context.finish().as_ref());
    Ok(json(serde_json::json!({ "length": length, "sha256": sha256 }).to_string()))
}

fn source(query: Option<&str>) -> Response<Body> {
    let length = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("bytes="));
    let Some(length) = length.and_then(|digits| digits.parse::<u64>().ok()) else {
        return plain(StatusCode::BAD_REQUEST, "say how many: ?bytes=N\n");
    };
    let pieces = (0..length)
        .step_by(PIECE)
        .filter_map(move |offset| source_piece(offset, length).map(|piece| Ok(Frame::data(piece))));
    let mut answer = Response::new(StreamBody::new(stream::iter(pieces)).boxed_unsync());
    set_type(&mut answer, "application/octet-stream");
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    answer
}

fn status(path: &str) -> Response<Body> {
    let wanted = path.rsplit('/').next().and_then(|digits| digits.parse::<u16>().ok());
    match wanted.map(StatusCode::from_u16) {
        Some(Ok(status)) => plain(status, "as you wish\n"),
        _ => plain(StatusCode::BAD_REQUEST, "say which: /status/N\n"),
    }
}

fn json(text: String) -> Response<Body> {
    let mut answer = full(text.into());
    set_type(&mut answer, "application/json");
    answer
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut answer = full(Bytes::from_static(text.as_bytes()));
    *answer.status_mut() = status;
    set_type(&mut answer, "text/plain");
    answer
}

fn full(bytes: Bytes) -> Response<Body> {
    Response::new(Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
}

fn set_type(answer: &mut Response<Body>, kind: &'static str) {
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
