//! Stand-ins for tests of the request path: a Nextcloud that answers as contract 2 says, an ExApp
//! that shows what reached it, a dial whose tunnels are loopback sockets, and a plain client.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, CONTENT_TYPE, COOKIE, HeaderMap, LOCATION, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::net::{BoxFuture, Dial, Stream, Target, TcpDial};

pub(crate) const KEY: &str = "the shared key";

pub(crate) type TestBody = UnsyncBoxBody<Bytes, Infallible>;

pub(crate) fn full(bytes: impl Into<Bytes>) -> TestBody {
    Full::new(bytes.into()).boxed_unsync()
}

/// Accepts for ever and answers with `handler`.
async fn serve<H, F>(handler: H) -> SocketAddr
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<TestBody>, io::Error>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let handler = handler.clone();
            tokio::spawn(
                server::Builder::new()
                    .max_headers(300)
                    .serve_connection(TokioIo::new(stream), service_fn(handler))
                    .with_upgrades(),
            );
        }
    });
    address
}

/// Nextcloud with AppAPI, as far as a proxy can tell.
#[derive(Default)]
pub(crate) struct Nextcloud {
    pub(crate) apps: Mutex<HashMap<String, serde_json::Value>>,
    pub(crate) meta_calls: AtomicUsize,
    pub(crate) user_calls: AtomicUsize,
    /// When not 0, every call is answered with this status.
    pub(crate) fault: AtomicU16,
    /// The headers of the last `user-info` call.
    pub(crate) last_user_headers: Mutex<HeaderMap>,
}

impl Nextcloud {
    pub(crate) async fn start() -> (Arc<Self>, String) {
        let nextcloud = Arc::new(Self::default());
        let shared = Arc::clone(&nextcloud);
        let address = serve(move |request| {
            let answer = shared.answer(&request);
            async move {
                // Long enough for simultaneous calls to meet.
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(answer)
            }
        })
        .await;
        (nextcloud, format!("http://{address}/index.php/"))
    }

    pub(crate) fn register(&self, id: &str, host: &str, port: u16, routes: &[(&str, u8)]) {
        let routes: Vec<_> = routes
            .iter()
            .map(|(url, level)| {
                serde_json::json!({
                    "url": url, "access_level": level, "bruteforce_protection": [401],
                })
            })
            .collect();
        let record = serde_json::json!({
            "exapp_token": "secret", "exapp_version": "1.2.3", "host": host, "port": port,
            "routes": routes,
        });
        self.apps.lock().unwrap().insert(id.to_owned(), record);
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<TestBody> {
        let headers = request.headers();
        let meta = request.uri().path() == "/index.php/apps/app_api/harp/exapp-meta";
        let calls = if meta { &self.meta_calls } else { &self.user_calls };
        calls.fetch_add(1, Ordering::SeqCst);
        let fault = self.fault.load(Ordering::SeqCst);
        if fault != 0 {
            return html(StatusCode::from_u16(fault).unwrap());
        }
        let id = request.uri().query().unwrap().strip_prefix("appId=").unwrap();
        let record = self.apps.lock().unwrap().get(id).cloned();
        let Some(record) = record.filter(|_| headers["harp-shared-key"] == KEY) else {
            let text = serde_json::json!({"message": "Harp shared key is not valid"});
            return json(StatusCode::UNAUTHORIZED, &text);
        };
        if meta {
            return json(StatusCode::OK, &record);
        }
        *self.last_user_headers.lock().unwrap() = headers.clone();
        user(headers)
    }
}

/// Sessions are cookies `ocinstance=<user>-session`; any password but `wrong` is right.
fn user(headers: &HeaderMap) -> Response<TestBody> {
    let who = |id: &str| {
        let level = match id {
            "" => 0,
            "admin" => 2,
            _ => 1,
        };
        json(StatusCode::OK, &serde_json::json!({"user_id": id, "access_level": level}))
    };
    if let Some(basic) = headers.get("authorization") {
        let pair = STANDARD.decode(basic.to_str().unwrap().replace("Basic ", "")).unwrap();
        let pair = String::from_utf8(pair).unwrap();
        return match pair.split_once(':').unwrap() {
            (_, "wrong") => json(StatusCode::UNAUTHORIZED, &serde_json::json!({"message": ""})),
            (id, _) => who(id),
        };
    }
    let cookies = headers.get(COOKIE).map_or("", |line| line.to_str().unwrap());
    if !cookies.contains("nc_sameSiteCookielax=true") {
        let mut response = html(StatusCode::FOUND);
        response.headers_mut().insert(LOCATION, "/index.php".parse().unwrap());
        return response;
    }
    let session = cookies.split("; ").find_map(|pair| pair.strip_prefix("ocinstance="));
    who(session.and_then(|value| value.strip_suffix("-session")).unwrap_or_default())
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<TestBody> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = status;
    let kind = "application/json; charset=utf-8".parse().unwrap();
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn html(status: StatusCode) -> Response<TestBody> {
    let mut response = Response::new(full("<html>"));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, "text/html".parse().unwrap());
    response
}

/// An ExApp. `/echo` sends the body back, `/ws` echoes messages, `/sse` sends one event and
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
                Target::Tcp { .. } => TcpDial { within: Duration::from_secs(1) }.dial(to).await,
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
