//! One HTTP/1.1 request over one connection, for the load client. Not a client library: it
//! connects, asks, reads the whole answer, and says whether the connection may be used again.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// An open connection that waits for its next request.
pub(super) type Connection = SendRequest<Empty<Bytes>>;

/// What to ask for.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) path: String,
    /// The value of the cookie header, for routes that want a user.
    pub(super) cookie: Option<String>,
    /// Whether the connection may be kept.
    pub(super) keep: bool,
}

/// Why a request failed, in few words, so that equal failures can be counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(super) enum Failure {
    #[error("connect: {0}")]
    Connect(String),
    /// The connection ended before the first byte of an answer.
    #[error("no answer: {0}")]
    NoAnswer(String),
    #[error("the answer broke off: {0}")]
    Broken(String),
    #[error("status {0}")]
    Status(u16),
    #[error("no answer within the limit")]
    Timeout,
    /// A transaction that was not confirmed.
    #[error("database: {0}")]
    Database(String),
}

/// Opens a connection.
pub(super) async fn connect(to: SocketAddr) -> Result<Connection, Failure> {
    let stream =
        TcpStream::connect(to).await.map_err(|error| Failure::Connect(error.to_string()))?;
    stream.set_nodelay(true).map_err(|error| Failure::Connect(error.to_string()))?;
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::Connect(error.to_string()))?;
    // Ends with the connection; what goes wrong there the request reports.
    tokio::spawn(connection);
    Ok(sender)
}

/// Sends one request and reads its answer to the end. Only 200 is success.
pub(super) async fn exchange(
    connection: &mut Connection,
    host: SocketAddr,
    ask: &Ask,
) -> Result<Bytes, Failure> {
    let no_answer = |error: hyper::Error| Failure::NoAnswer(cause(&error));
    connection.ready().await.map_err(no_answer)?;
    let mut request = Request::get(&ask.path).header(header::HOST, host.to_string());
    if let Some(cookie) = &ask.cookie {
        request = request.header(header::COOKIE, cookie);
    }
    if !ask.keep {
        request = request.header(header::CONNECTION, "close");
    }
    let request =
        request.body(Empty::new()).map_err(|error| Failure::NoAnswer(error.to_string()))?;
    let answer = connection.send_request(request).await.map_err(no_answer)?;
    let status = answer.status();
    let body = answer.into_body().collect().await;
    let body = body.map_err(|error| Failure::Broken(cause(&error)))?.to_bytes();
    if status == StatusCode::OK { Ok(body) } else { Err(Failure::Status(status.as_u16())) }
}

/// The innermost reason: hyper's own text alone says only "connection error".
fn cause(error: &hyper::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
