//! One engine: bollard's calls over a stream of our own, with limits of our own.
//!
//! Each call opens a connection. Paths carry no API version, as with HaRP: the engine then speaks
//! its newest.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::errors::Error as Cause;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use futures_util::{Stream as FutureStream, StreamExt};
use http::header::{HOST, HeaderValue};
use http::{Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::error::Error;
use super::version::Supported;
use crate::net::{Dial, Stream, Target};

/// Most bytes an engine may answer to one call. The largest answers are trust stores.
const LONGEST_ANSWER: u64 = 64 * 1024 * 1024;

/// bollard's own limit, for the head of an answer; every call here has a shorter one.
const ANY_CALL: u64 = 600;

/// Longest time for the engine to name its version: AppAPI's ping gives up after 3 s, and is to be
/// told why before (weakness W20).
const VERSION_WITHIN: Duration = Duration::from_millis(2500);

/// A way to one engine. Nothing is connected until it is asked something.
pub struct Engine {
    port: u16,
    api: Docker,
}

impl Engine {
    /// The engine at `target`, which AppAPI knows by `port`.
    pub(super) fn new(port: u16, target: Target, dial: Arc<dyn Dial>) -> Self {
        let transport = move |request| send(Arc::clone(&dial), target.clone(), request);
        let base = Some("http://docker");
        let api =
            Docker::connect_with_custom_transport(transport, base, ANY_CALL, API_DEFAULT_VERSION)
                .expect("nothing is connected yet");
        Self { port, api }
    }

    /// The port AppAPI knows it by.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// bollard's calls.
    pub(super) fn api(&self) -> &Docker {
        &self.api
    }

    /// Which versions of the API it speaks; `None` when it does not say so.
    ///
    /// # Errors
    /// What kept it from answering.
    pub async fn versions(&self) -> Result<Option<Supported>, Error> {
        let version = self.within(VERSION_WITHIN, self.call(self.api.version())).await?;
        let newest = version.api_version.as_deref();
        Ok(newest.and_then(|max| Supported::parse(version.min_api_version.as_deref(), max)))
    }

    /// One call, its failure in our words.
    pub(super) async fn call<T>(
        &self,
        answer: impl Future<Output = Result<T, Cause>>,
    ) -> Result<T, Error> {
        answer.await.map_err(|cause| Error::from_cause(self.port, cause))
    }

    /// A stream of bytes as a whole.
    pub(super) async fn whole(
        &self,
        pieces: impl FutureStream<Item = Result<bytes::Bytes, Cause>>,
    ) -> Result<Vec<u8>, Error> {
        let mut pieces = std::pin::pin!(pieces);
        let mut whole = Vec::new();
        while let Some(piece) = self.call(async { pieces.next().await.transpose() }).await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }

    /// All of this within `limit`.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        calls: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout(limit, calls).await.unwrap_or(Err(Error::Silent { port: self.port }))
    }
}

/// Sends one request over a connection of its own.
async fn send(
    dial: Arc<dyn Dial>,
    target: Target,
    mut request: BollardRequest,
) -> Result<Response<Incoming>, Cause> {
    let stream = dial.dial(&target).await?;
    let capped = Capped { stream, left: LONGEST_ANSWER };
    let (mut sender, connection) = http1::handshake(TokioIo::new(capped)).await?;
    tokio::spawn(async move {
        // Whoever sent the request hears of it.
        let _ = connection.await;
    });
    if let Some(path) = request.uri().path_and_query() {
        *request.uri_mut() = Uri::from(path.clone());
    }
    request.headers_mut().insert(HOST, HeaderValue::from_static("docker"));
    let response = sender.send_request(request).await?;
    if response.status() == StatusCode::NOT_MODIFIED {
        // bollard takes it for success, but to AppAPI "started" and "was running" are not the same.
        let message = String::new();
        return Err(Cause::DockerResponseServerError { status_code: 304, message });
    }
    Ok(response)
}

/// A stream that ends in an error once it has given too much: bollard collects answers whole.
struct Capped {
    stream: Stream,
    left: u64,
}

impl AsyncRead for Capped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = (buf.filled().len() - before) as u64;
        match self.left.checked_sub(read) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Err(io::Error::other("its answer is too long"))),
        }
        polled
    }
}

impl AsyncWrite for Capped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
