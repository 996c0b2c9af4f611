//! The request path end to end, over loopback: visitor, frontend, ExApp, Nextcloud stand-in.

mod access;
mod edges;
mod http2;
mod limits;
mod public_name;
mod streaming;
mod tls;

use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

mod tenants;
mod trust;
mod upstreams;

use super::*;
use crate::docker::testing::Stub;
use crate::guard;
use crate::http::door::Door;
use crate::http::tls::Certificate;
use crate::http::tls::certificates::Certificates;
use crate::nextcloud::testing::{KEY, Nextcloud, TestBody, full};
use crate::proxy::testing::{ExApp, Tunnels, body_of, json_of, raw, send, try_send};
use crate::secret::Secret;

mod docker;

const LONG: Duration = Duration::from_secs(10);
const ROUTES: [(&str, u8); 4] =
    [("^/public", 0), ("^/user", 1), ("^/admin", 2), ("^/(echo|whole|ws|sse|status|break)", 0)];
const ALICE: &str = "oc_sessionPassphrase=p; nc_sameSiteCookielax=true; ocinstance=alice-session";
const ADMIN: &str = "oc_sessionPassphrase=p; nc_sameSiteCookielax=true; ocinstance=admin-session";

type Headers<'h> = &'h [(&'h str, &'h str)];

/// A frontend with everything around it.
struct Bed {
    address: SocketAddr,
    nextcloud: Arc<Nextcloud>,
    exapp: ExApp,
    tunnels: Arc<Tunnels>,
    cluster: Handle,
    /// The engine of port 24000.
    engine: Stub,
    dir: tempfile::TempDir,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
    frontend: Arc<Frontend>,
    tls: Option<(SocketAddr, Certificate)>,
    /// HTTPS and plain HTTP of the public listener.
    public: Option<[SocketAddr; 2]>,
}

impl Bed {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With ExApp `demo` behind tunnel 23001.
    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { drain: LONG, ..Config::default() };
        config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        change(&mut config);
        let (nextcloud, url) = Nextcloud::start().await;
        let exapp = ExApp::start().await;
        nextcloud.register("demo", "127.0.0.1", 23001, &ROUTES);
        let tunnels = Arc::new(Tunnels::default());
        tunnels.up(23001, exapp.address);

        let cluster = Handle::in_memory(1);
        let shared_key = Secret::new(KEY);
        let guard = Guard::new(
            guard::Config {
                keys: guard::SharedKeys::new(shared_key.clone()),
                count: 10,
                window: Duration::from_secs(300),
                never_ban: Vec::new(),
            },
            cluster.clone(),
        );
        let client = nextcloud::Client::new(nextcloud::Config::new(url, shared_key)).unwrap();
        let dial: Arc<dyn Dial> = Arc::<Tunnels>::clone(&tunnels);
        let certificate = config.tls.clone().map(|tls| Certificate::open(tls.files).unwrap());
        let public_config = config.public.clone();
        let dir = tempfile::tempdir().unwrap();
        let engine = Stub::default();
        engine.listen(&dir.path().join("docker.sock"));
        let docker = docker::calls(&Tenant::default(), &dir, &tunnels);
        let served = Served {
            tenant: Tenant::default(),
            hosts: Vec::new(),
            nextcloud: client,
            docker,
            dial,
        };
        let frontend = Frontend::new(config, served, Vec::new(), guard, &cluster);
        let frontend = Arc::new(frontend);
        let listener = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
        let mut listeners = Listeners::from(listener().await);
        let address = listeners.plain.local_addr().unwrap();
        let mut tls = None;
        if let Some(certificate) = certificate {
            let listener = listener().await;
            tls = Some((listener.local_addr().unwrap(), certificate.clone()));
            listeners.tls = Some((listener, certificate.acceptor().unwrap()));
        }
        let mut public = None;
        if let Some(config) = public_config {
            let certificates = Certificates::open(config.certificates.clone()).unwrap();
            let (https, http) = (listener().await, listener().await);
            public = Some([&https, &http].map(|listener| listener.local_addr().unwrap()));
            let https = Door::from((https, certificates.acceptor().unwrap()));
            let doors = public::Doors { https, http: Some(Door::from(http)) };
            listeners.public = Some(doors.on_terms_of(&config));
        }
        let stop = CancellationToken::new();
        let (token, serving) = (stop.clone(), Arc::clone(&frontend));
        let served = tokio::spawn(async move { serving.serve(listeners, token).await });
        Self {
            address,
            nextcloud,
            exapp,
            tunnels,
            cluster,
            engine,
            dir,
            stop,
            served,
            frontend,
            tls,
            public,
        }
    }

    async fn get(&self, path: &str, headers: Headers<'_>) -> Response<Incoming> {
        send(self.address, request("GET", path, headers)).await
    }

    async fn status(&self, path: &str, headers: Headers<'_>) -> u16 {
        self.get(path, headers).await.status().as_u16()
    }

    /// Whether the connection ends without a byte.
    async fn dropped(&self, path: &str, headers: Headers<'_>) -> bool {
        let mut head = format!("GET {path} HTTP/1.1\r\nhost: cloud.example\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        raw(self.address, head.as_bytes()).await.is_empty()
    }
}

fn request(method: &str, path: &str, headers: Headers<'_>) -> Request<TestBody> {
    request_with(method, path, headers, "")
}

fn request_with(
    method: &str,
    path: &str,
    headers: Headers<'_>,
    body: impl Into<bytes::Bytes>,
) -> Request<TestBody> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(full(body)).unwrap()
}

fn signed<'h>() -> Vec<(&'h str, &'h str)> {
    vec![
        ("ex-app-version", "1.2.3"),
        ("ex-app-id", "demo"),
        ("ex-app-host", "127.0.0.1"),
        ("ex-app-port", "23001"),
        ("authorization-app-api", "c2lnbmVk"),
        ("harp-shared-key", KEY),
    ]
}

fn calls(count: &std::sync::atomic::AtomicUsize) -> usize {
    count.load(Ordering::SeqCst)
}

#[tokio::test]
async fn websocket_messages_come_back() {
    let bed = Bed::start().await;
    let headers = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut response = bed.get("/exapps/demo/ws", &headers).await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let upgraded = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
    for size in [1, 125, 70_000] {
        let message = Message::binary(vec![7; size]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    timeout(LONG, async { while socket.next().await.is_some() {} }).await.unwrap();
}

#[tokio::test]
async fn an_event_arrives_before_the_response_has_ended() {
    let bed = Bed::start().await;
    let mut body = bed.get("/exapps/demo/sse", &[]).await.into_body();
    let first = timeout(LONG, body.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "data: one\n\n");
    bed.exapp.go_on.notify_one();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "data: two\n\n");
}

#[tokio::test]
async fn eight_mebibytes_go_up_and_come_back_intact() {
    let bed = Bed::start().await;
    let sent: Vec<u8> =
        (0..8 * 1024 * 1024_u32).map(|n| n.wrapping_mul(31).to_le_bytes()[1]).collect();
    let with_length = request_with("POST", "/exapps/demo/echo", &[], sent.clone());
    assert!(body_of(send(bed.address, with_length).await).await == sent);
    let mut chunked = request_with("PUT", "/exapps/demo/echo", &[], sent.clone());
    chunked.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
    assert!(body_of(send(bed.address, chunked).await).await == sent);
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let bed = Bed::start().await;
    let expected = bed.get("/exapps/demo/public", &[]).await.headers()["content-length"].clone();
    let answer = raw(
        bed.address,
        b"HEAD /exapps/demo/public HTTP/1.1\r\nhost: cloud.example\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    // The description differs by the method's and the Connection header's length only.
    assert!(answer.contains("content-length: "), "{expected:?} {answer}");
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it() {
    let bed = Bed::start().await;
    let mut stream = TcpStream::connect(bed.address).await.unwrap();
    let head = "POST /exapps/demo/echo HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n\
                content-length: 5\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    timeout(LONG, stream.read_exact(&mut interim)).await.unwrap().unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.contains("hello"), "{rest}");
}

#[tokio::test]
async fn oversized_heads_get_431_and_the_connection_ends() {
    let bed = Bed::start().await;
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(1024 * 1024));
    let answer = raw(bed.address, long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let just_over = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(65 * 1024));
    assert!(raw(bed.address, just_over.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101));
    assert!(raw(bed.address, many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let allowed = "x: y\r\n".repeat(99);
    let allowed = format!("GET /exapps/demo/public HTTP/1.1\r\nconnection: close\r\n{allowed}\r\n");
    assert!(raw(bed.address, allowed.as_bytes()).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn smuggling_shapes_are_refused_and_the_connection_closes() {
    let bed = Bed::start().await;
    let inner = "GET /exapps/demo/public HTTP/1.1\r\nhost: h\r\n\r\n";
    for head in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: +5\r\n",
        "content-length: -1\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding : chunked\r\n",
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "x: y\r\n folded: z\r\n",
    ] {
        let bytes =
            format!("POST /exapps/demo/echo HTTP/1.1\r\nhost: h\r\n{head}\r\n0\r\n\r\n{inner}");
        let answer = raw(bed.address, bytes.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{head:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head:?}: {answer}");
    }
    assert_eq!(calls(&bed.exapp.requests), 0);
}

#[tokio::test]
async fn a_broken_chunk_ends_both_connections() {
    let bed = Bed::start().await;
    let bytes = "POST /exapps/demo/echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n\
                 zz\r\nhello\r\n0\r\n\r\nGET /exapps/demo/public HTTP/1.1\r\nhost: h\r\n\r\n";
    let answer = raw(bed.address, bytes.as_bytes()).await;
    assert!(!answer.contains("public"), "{answer}");
    assert_eq!(bed.status("/exapps/demo/public", &[]).await, 200);
}

#[tokio::test]
async fn the_control_api_answers_as_harp() {
    let bed = Bed::start().await;
    let key = ("harp-shared-key", KEY);
    let info = json_of(bed.get("/exapps/app_api/info", &[key]).await).await;
    assert_eq!(info["version"], "0.4.4");
    assert_eq!(info["kubernetes"]["enabled"], false);
    let heartbeat = bed.get("/exapps/app_api/heartbeat", &[key]).await;
    assert_eq!(body_of(heartbeat).await, r#"{"status":"ok"}"#);

    let record = r#"{"exapp_token":"t","exapp_version":"9","host":"127.0.0.1","port":"23001",
        "routes":[{"url":".*","access_level":0,"bruteforce_protection":[]}],"more":1}"#;
    let engine = ("docker-engine-port", "24000");
    type Row<'r> = (&'r str, &'r str, Headers<'r>, &'r str, u16);
    let rows: &[Row<'_>] = &[
        ("POST", "/exapp_storage/Pushed", &[key], record, 204),
        ("DELETE", "/exapp_storage/pushed", &[key], "", 204),
        ("DELETE", "/exapp_storage/pushed", &[key], "", 404),
        ("POST", "/exapp_storage/pushed", &[key], "{}", 400),
        ("POST", "/exapp_storage/pushed", &[key], "no json", 400),
        ("PUT", "/exapp_storage/pushed", &[key], record, 405),
        ("POST", "/info", &[key], "", 405),
        ("GET", "/info/", &[key], "", 404),
        ("GET", "/nothing", &[key], "", 404),
        ("GET", "", &[key], "", 404),
        ("POST", "/docker/exapp/exists", &[key, engine], "{}", 400),
        ("GET", "/v1.44/_ping", &[key, ("docker-engine-port", "24001")], "", 503),
        ("GET", "/info", &[("harp-shared-key", "guess")], "", 401),
        ("GET", "/info", &[], "", 401),
    ];
    for (method, path, headers, body, expected) in rows {
        let path = format!("/exapps/app_api{path}");
        let request = request_with(method, &path, headers, (*body).to_owned());
        let response = send(bed.address, request).await;
        assert_eq!(response.status(), *expected, "{method} {path}");
        assert_eq!(response.headers().contains_key("allow"), *expected == 405);
    }
}

#[tokio::test]
async fn a_control_body_over_16_mib_is_refused() {
    let bed = Bed::start().await;
    let head = format!(
        "POST /exapps/app_api/exapp_storage/x HTTP/1.1\r\nhost: h\r\nharp-shared-key: {KEY}\r\n\
         content-length: 16777217\r\n\r\n"
    );
    assert!(raw(bed.address, head.as_bytes()).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn a_pushed_record_is_in_force_at_once_and_on_the_cluster() {
    let bed = Bed::start().await;
    assert_eq!(bed.status("/exapps/pushed/x", &[]).await, 404);
    let record = r#"{"exapp_token":"t","exapp_version":"9","host":"127.0.0.1","port":23001,
        "routes":[{"url":".*","access_level":0,"bruteforce_protection":[]}]}"#;
    let push = request_with(
        "POST",
        "/exapps/app_api/exapp_storage/Pushed",
        &[("harp-shared-key", KEY)],
        record,
    );
    assert_eq!(send(bed.address, push).await.status(), 204);
    let seen = json_of(bed.get("/exapps/pushed/x", &[]).await).await;
    assert_eq!(seen["headers"]["ex-app-version"], "9");
    assert_eq!(bed.cluster.view().exapp(&Tenant::default(), "pushed").unwrap().version, "9");
}

/// What a request is until it is answered is moved into its connection as a whole. What only some
/// requests need is boxed, so that the others do not pay for it.
#[test]
fn the_state_of_a_request_is_small() {
    fn size<'a, F: Future>(_: fn(&'a Rooms, Request<Incoming>, Connection) -> F) -> usize {
        size_of::<F>()
    }
    let size = size(Rooms::handle);
    assert!(size < 5 * 1024, "{size} bytes");
}
