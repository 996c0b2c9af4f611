//! Clients of the front: one that asks once, one over HTTP/2, and a steady load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::http;

/// What every request names.
pub(crate) const HOST: &str = "cloud.example";

/// How HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

/// A request for the host of the rig.
pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut request = http::request(method, path, headers, body);
    request.headers_mut().insert("host", HOST.parse().unwrap());
    request
}

/// One request on a connection of its own.
pub(crate) async fn ask(
    front: SocketAddr,
    speaks: Speaks,
    mut request: Request<Full<Bytes>>,
) -> Option<Response<Bytes>> {
    if speaks == Speaks::Http1 {
        return http::send(front, request).await;
    }
    let path = request.uri().path_and_query()?.as_str();
    *request.uri_mut() = format!("http://{HOST}{path}").parse().ok()?;
    request.headers_mut().remove("host");
    let stream = TokioIo::new(TcpStream::connect(front).await.ok()?);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.ok()?;
    let driver = tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.ok()?.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    driver.abort();
    Some(Response::from_parts(head, body))
}

/// One request from this address of the machine.
pub(crate) async fn ask_from(
    from: [u8; 4],
    front: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Response<Bytes> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    http::exchange(socket.connect(front).await.unwrap(), request).await.unwrap()
}

/// An answer in JSON.
pub(crate) fn json(answer: &Response<Bytes>) -> Value {
    serde_json::from_slice(answer.body()).unwrap()
}

/// Requests at a steady rate, each on a connection of its own, whatever becomes of those before.
pub(crate) struct Load {
    quit: CancellationToken,
    run: tokio::task::JoinHandle<Harvest>,
}

/// What became of them.
#[derive(Debug, Default)]
pub(crate) struct Harvest {
    pub(crate) sent: usize,
    /// Those without the answer that was expected.
    pub(crate) failed: Vec<String>,
    pub(crate) slowest: Duration,
}

/// A request of a load: method, path, body, and the status it is to get.
pub(crate) type Ask = (&'static str, &'static str, &'static str, u16);

impl Load {
    pub(crate) fn start(front: SocketAddr, per_second: u32, asks: &'static [Ask]) -> Self {
        let quit = CancellationToken::new();
        let until = quit.clone();
        let run = tokio::spawn(async move {
            let mut every = tokio::time::interval(Duration::from_secs(1) / per_second);
            let mut running = JoinSet::new();
            let number = Arc::new(AtomicUsize::new(0));
            while !until.is_cancelled() {
                every.tick().await;
                let at = number.fetch_add(1, Ordering::Relaxed);
                running.spawn(one(front, at, asks[at % asks.len()]));
            }
            let mut harvest = Harvest::default();
            while let Some(done) = running.join_next().await {
                let (took, failed) = done.unwrap();
                harvest.sent += 1;
                harvest.slowest = harvest.slowest.max(took);
                harvest.failed.extend(failed);
            }
            harvest
        });
        Self { quit, run }
    }

    /// Sends nothing more and waits for what is under way.
    pub(crate) async fn finish(self) -> Harvest {
        self.quit.cancel();
        self.run.await.unwrap()
    }
}

async fn one(front: SocketAddr, at: usize, ask: Ask) -> (Duration, Option<String>) {
    let (method, path, body, expected) = ask;
    let path = path.replace("{}", &at.to_string());
    let begun = Instant::now();
    let answer = http::send(front, request(method, &path, &[], body)).await;
    let failed = match answer {
        Some(answer) if answer.status() == expected => None,
        Some(answer) => Some(format!("{method} {path}: {} {:?}", answer.status(), answer.body())),
        None => Some(format!("{method} {path}: no answer")),
    };
    (begun.elapsed(), failed)
}
