//! One listener's connections: HTTP/1.1 with limits, upgrades and an orderly end.
//!
//! What a request means is the service's business. Framing is hyper's, with these guarantees
//! (each has a test): differing `Content-Length` lines, a `Content-Length` beside a
//! `Transfer-Encoding` or a `Transfer-Encoding` that does not end in `chunked` get 400 and the
//! connection closes, as it does at a bad chunk; more than 100 headers (hyper's own number, which
//! it parses without an allocation, and HaRP's) or too large ones get 431. A head that is not
//! complete within the deadline closes the connection.

use std::error::Error as StdError;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::Body;
use super::framing::Tap;
use crate::net::listen;

/// Limits of a listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// Longest wait for a complete request head; also the keep-alive idle time.
    pub head: Duration,
    /// Longest time a client may leave what we send unacknowledged or unread. Without it one that
    /// stops reading keeps its place, an upstream connection and the buffers between for ever.
    pub unread: Duration,
    /// Most bytes of a request head.
    pub max_head_bytes: usize,
    /// Most connections at a time, upgraded ones included. Further ones wait in the kernel's
    /// queue instead of being refused.
    pub max_connections: usize,
    /// How long requests in flight may take after the stop before they are cut.
    pub drain: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            unread: Duration::from_secs(60),
            max_head_bytes: 64 * 1024,
            max_connections: 8192,
            drain: Duration::from_secs(30),
        }
    }
}

/// A place in the connection limit.
pub type Slot = Arc<OwnedSemaphorePermit>;

/// What a request's connection is.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The TCP peer, which may be a proxy.
    pub peer: SocketAddr,
    /// Held while the connection lives, beyond HTTP too.
    pub slot: Slot,
}

/// The service's wish to close the connection without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection dropped on purpose")]
pub struct Abort;

/// Serves the listener until `stop`, then lets requests in flight finish within
/// [`Config::drain`].
pub async fn serve<S, F>(
    listener: TcpListener,
    config: &Config,
    stop: CancellationToken,
    service: S,
) where
    S: Fn(Request<Incoming>, Connection) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<Body>, Abort>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(config.max_connections));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let builder = builder(config);

    let accepting = async {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let (stream, peer) = listen::accept(&listener).await;
            // The kernel keeps this clock, also over a window that stays shut. A socket that
            // refuses the option works without.
            let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(config.unread));
            let connection = Connection { peer, slot: Arc::new(place) };
            let one = one(builder.clone(), stream, connection, stop.clone(), service.clone());
            let cut = cut.clone();
            connections.spawn(async move {
                tokio::select! {
                    () = one => {}
                    () = cut.cancelled() => {}
                }
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop.cancelled() => {}
    }
    drop(listener);
    connections.close();
    if timeout(config.drain, connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "requests still in flight were cut");
        cut.cancel();
        connections.wait().await;
    }
}

fn builder(config: &Config) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(config.head)
        .max_header_size(config.max_head_bytes)
        // Bounds what an unfinished head may pile up; also the largest single read of a body.
        .max_buf_size(config.max_head_bytes.saturating_mul(2).max(8192))
        // A proxy passes the origin's Date on and adds none of its own, as HaRP.
        .auto_date_header(false);
    builder
}

async fn one<S, F>(
    builder: http1::Builder,
    stream: TcpStream,
    connection: Connection,
    stop: CancellationToken,
    service: S,
) where
    S: Fn(Request<Incoming>, Connection) -> F,
    F: Future<Output = Result<Response<Body>, Abort>> + Send + 'static,
{
    let peer = connection.peer;
    let (stream, doubt) = Tap::new(stream);
    let service = service_fn(|request| {
        let accepted = !doubt.is_raised();
        let served = accepted.then(|| service(request, connection.clone()));
        async move {
            match served {
                Some(served) => served.await,
                None => Ok(refuse_and_close()),
            }
        }
    });
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        let aborted = error.source().is_some_and(|source| source.is::<Abort>());
        tracing::debug!(client.addr = %peer, aborted, %error, "connection ended early");
    }
}

fn refuse_and_close() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
