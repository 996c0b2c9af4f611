//! Stand-ins for tests of the request path: an ExApp that shows what reached it, a dial whose
//! tunnels are loopback sockets, and a plain client. Nextcloud's is in `nextcloud::testing`.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1 as client;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::net::{BoxFuture, Dial, Stream, Target, TcpDial};
use crate::nextcloud::testing::{TestBody, full, html, json, serve};

/// An ExApp. `/echo` sends the body back, `/whole` tells its length once it is there, `/ws` echoes messages, `/sse` sends one event and
/// another after `go_on`, `/status/N` answers N, `/break` closes; anything else is described.
pub(crate) struct ExApp {
    pub(crate) address: SocketAddr,
    pub(crate) go_on: Arc<Notify>,
    pub(crate) requests: Arc<AtomicUsize>,
    /// Event streams that are open.
    pub(crate) streams: Arc<AtomicUsize>,
}

impl ExApp {
    pub(crate) async fn start() -> Self {
        let go_on = Arc::new(Notify::new());
        let requests = Arc::new(AtomicUsize::new(0));
        let streams = Arc::new(AtomicUsize::new(0));
        let shared = (Arc::clone(&go_on), Arc::clone(&requests), Arc::clone(&streams));
        let address = serve(move |request| {
            let (wait, count, streams) = shared.clone();
            count.fetch_add(1, Ordering::SeqCst);
            exapp_answer(request, wait, streams)
        })
        .await;
        Self { address, go_on, requests, streams }
    }
}

async fn exapp_answer(
    request: Request<Incoming>,
    go_on: Arc<Notify>,
    streams: Arc<AtomicUsize>,
) -> Result<Response<TestBody>, io::Error> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/echo" => {
            let frames = request.into_body().into_data_stream();
            let frames = frames.map(|data| Ok(Frame::data(data.unwrap())));
            Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
        }
        "/whole" => {
            let (head, body) = request.into_parts();
            let whole = body.collect().await.unwrap().to_bytes();
            let text = format!("{} {}", head.method, whole.len());
            Ok(Response::new(full(text)))
        }
        "/ws" => Ok(websocket(request)),
        "/sse" => {
            let (send, receive) = mpsc::channel::<Bytes>(1);
            streams.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                send.send("data: one\n\n".into()).await.unwrap();
                tokio::select! {
                    () = go_on.notified() => {
                        let _ = send.send("data: two\n\n".into()).await;
                    }
                    () = send.closed() => {}
                }
                streams.fetch_sub(1, Ordering::SeqCst);
            });
            let frames = futures_util::stream::unfold(receive, |mut receive| async {
                Some((Ok(Frame::data(receive.recv().await?)), receive))
            });
            let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
            let kind = "text/event-stream".parse().unwrap();
            response.headers_mut().insert(CONTENT_TYPE, kind);
            Ok(response)
        }
        "/break" => Err(io::ErrorKind::Other.into()),
        _ => match path.strip_prefix("/status/") {
            Some(status) => Ok(html(status.parse().unwrap())),
            None => Ok(describe(&request)),
        },
    }
}

fn describe(request: &Request<Incoming>) -> Response<TestBody> {
    let headers: HashMap<_, _> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let seen = serde_json::json!({
        "method": request.method().as_str(), "target": request.uri().to_string(),
        "headers": headers,
    });
    json(StatusCode::OK, &seen)
}

fn websocket(mut request: Request<Incoming>) -> Response<TestBody> {
    let accept = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
    tokio::spawn(async move {
        let upgraded = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() || socket.send(message).await.is_err() {
                break;
            }
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header("sec-websocket-accept", accept)
        .body(full(""))
        .unwrap()
}

/// Tunnels that are loopback sockets. A tunnel can be known but absent, as after a takeover.
#[derive(Default)]
pub(crate) struct Tunnels {
    live: Mutex<HashMap<u16, SocketAddr>>,
    absent: Mutex<Vec<u16>>,
    changed: Notify,
    pub(crate) dials: AtomicUsize,
}

impl Tunnels {
    /// How long a known tunnel is waited for.
    pub(crate) const PATIENCE: Duration = Duration::from_millis(400);

    pub(crate) fn up(&self, port: u16, to: SocketAddr) {
        self.live.lock().unwrap().insert(port, to);
        self.changed.notify_waiters();
    }

    pub(crate) fn lost(&self, port: u16) {
        self.live.lock().unwrap().remove(&port);
        self.absent.lock().unwrap().push(port);
    }

    pub(crate) fn is_known(&self, port: u16) -> bool {
        self.live.lock().unwrap().contains_key(&port) || self.absent.lock().unwrap().contains(&port)
    }

    async fn live(&self, port: u16) -> io::Result<SocketAddr> {
        loop {
            let changed = self.changed.notified();
            if let Some(address) = self.live.lock().unwrap().get(&port) {
                return Ok(*address);
            }
            if !self.absent.lock().unwrap().contains(&port) {
                return Err(io::ErrorKind::NotFound.into());
            }
            tokio::time::timeout(Self::PATIENCE, changed).await?;
        }
    }
}

impl Dial for Tunnels {
    fn dial<'a>(&'a self, to: &'a Target) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            self.dials.fetch_add(1, Ordering::SeqCst);
            match to {
                Target::Tunnel(port) => {
                    let address = self.live(*port).await?;
                    Ok(Stream::new(TcpStream::connect(address).await?))
                }
                Target::Tcp { .. } | Target::Unix(_) => {
                    let within = Duration::from_secs(1);
                    TcpDial { within, refuse_loopback: false }.dial(to).await
                }
            }
        })
    }
}

/// One request on a connection of its own.
pub(crate) async fn send(to: SocketAddr, request: Request<TestBody>) -> Response<Incoming> {
    try_send(to, request).await.unwrap()
}

/// Like [`send`]; an error when the connection ends without an answer.
pub(crate) async fn try_send(
    to: SocketAddr,
    mut request: Request<TestBody>,
) -> hyper::Result<Response<Incoming>> {
    request.headers_mut().entry("host").or_insert("cloud.example".parse().unwrap());
    let stream = TokioIo::new(TcpStream::connect(to).await.unwrap());
    let (mut sender, connection) = client::handshake(stream).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await
}

/// Writes `bytes` and returns whatever came back until the connection ended.
pub(crate) async fn raw(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    // The other end may have had enough before it has seen everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(Ok(n @ 1..)) =
        tokio::time::timeout(Duration::from_secs(10), stream.read(&mut chunk)).await
    {
        answer.extend_from_slice(&chunk[..n]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) async fn body_of(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

pub(crate) async fn json_of(response: Response<Incoming>) -> serde_json::Value {
    serde_json::from_slice(&body_of(response).await).unwrap()
}
