//! Visitors that speak HTTP/2; ExApps never do.

use hyper::client::conn::http2::{self, SendRequest};
use hyper::ext::Protocol;
use hyper_util::rt::TokioExecutor;

use super::*;

/// A connection, and the task that ends with it.
async fn connect(to: SocketAddr) -> (SendRequest<TestBody>, tokio::task::JoinHandle<()>) {
    let stream = TokioIo::new(TcpStream::connect(to).await.unwrap());
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let ended = tokio::spawn(async move {
        let _ = connection.await;
    });
    (sender, ended)
}

/// A request as HTTP/2 has it: the authority is no header.
fn ask(method: &str, path: &str, headers: Headers<'_>) -> Request<TestBody> {
    request(method, &format!("http://cloud.example{path}"), headers)
}

#[tokio::test]
async fn the_exapp_meets_an_ordinary_http_1_1_request() {
    let bed = Bed::start().await;
    let (mut sender, _) = connect(bed.address).await;
    let mut request = ask("GET", "/exapps/Demo/user/a%2Fb?x=%20&y", &[("te", "trailers")]);
    // Browsers send a line for each cookie.
    for crumb in ALICE.split("; ") {
        request.headers_mut().append("cookie", crumb.parse().unwrap());
    }
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    let seen = json_of(response).await;
    assert_eq!((&seen["method"], &seen["target"]), (&"GET".into(), &"/user/a%2Fb?x=%20&y".into()));
    let seen = &seen["headers"];
    assert_eq!(seen["host"], "cloud.example");
    assert_eq!(seen["cookie"], ALICE);
    assert_eq!(seen["te"], "trailers");
    assert_eq!(seen["ex-app-id"], "Demo");
    assert!(seen.get("transfer-encoding").is_none() && seen.get("content-length").is_none());
}

#[tokio::test]
async fn bodies_stream_both_ways_on_many_streams_of_one_connection() {
    let bed = Bed::start().await;
    let (sender, _) = connect(bed.address).await;
    let sent = vec![7_u8; 2 * 1024 * 1024];
    let echoes = (0..8).map(|_| {
        let (mut sender, body) = (sender.clone(), full(sent.clone()));
        async move {
            let request = ask("POST", "/exapps/demo/echo", &[]).map(|_| body);
            body_of(sender.send_request(request).await.unwrap()).await
        }
    });
    let mut events = sender.clone();
    let mut events =
        events.send_request(ask("GET", "/exapps/demo/sse", &[])).await.unwrap().into_body();
    let first = timeout(LONG, events.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "data: one\n\n");
    for echo in futures_util::future::join_all(echoes).await {
        assert!(echo == sent);
    }
    bed.exapp.go_on.notify_one();
    assert_eq!(events.collect().await.unwrap().to_bytes(), "data: two\n\n");
}

#[tokio::test]
async fn refusals_are_the_same_as_over_http_1() {
    let bed = Bed::start().await;
    let (mut sender, _) = connect(bed.address).await;
    let odd = "x".repeat(80 * 1024);
    let rows: &[(&str, &str, Headers<'_>, u16)] = &[
        ("GET", "/exapps/demo/user", &[], 403),
        ("GET", "/exapps/demo/none", &[], 404),
        ("GET", "/exapps/app_api/info", &[], 401),
        ("GET", "/exapps/app_api/info", &[("harp-shared-key", KEY)], 200),
        ("HEAD", "/exapps/demo/public", &[], 200),
        ("GET", "/exapps/demo/status/204", &[], 204),
        ("GET", "/exapps/demo/public", &[("x-odd", &odd)], 431),
        ("GET", "/exapps/demo/public", &[], 200),
    ];
    for (method, path, headers, status) in rows {
        let response = sender.send_request(ask(method, path, headers)).await.unwrap();
        assert_eq!(response.status(), *status, "{method} {path}");
    }
}

#[tokio::test]
async fn trailers_come_back() {
    let bed = Bed::start().await;
    let words =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n";
    let (exapp, _heard) = edges::blunt_exapp(b"\r\n\r\n", words).await;
    bed.tunnels.up(23001, exapp);
    let (mut sender, _) = connect(bed.address).await;
    let response = sender.send_request(ask("GET", "/exapps/demo/public", &[])).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "2");
    assert_eq!(collected.to_bytes(), "ok");
}

fn extended_connect(protocol: &'static str, path: &str) -> Request<TestBody> {
    let mut request = ask("CONNECT", path, &[("sec-websocket-version", "13")]);
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request
}

#[tokio::test]
async fn websockets_are_bridged_to_an_upgrade() {
    let bed = Bed::start().await;
    let (mut sender, _) = connect(bed.address).await;
    // The server's permission comes with its first settings.
    sender.send_request(ask("GET", "/exapps/demo/public", &[])).await.unwrap();
    let mut response =
        timeout(LONG, sender.send_request(extended_connect("websocket", "/exapps/demo/ws")))
            .await
            .unwrap()
            .unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let upgraded = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
    for size in [1, 125, 300_000] {
        let message = Message::binary(vec![7; size]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(timeout(LONG, socket.next()).await.unwrap().unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    timeout(LONG, async { while let Some(Ok(_)) = socket.next().await {} }).await.unwrap();
}

#[tokio::test]
async fn a_websocket_that_only_listens_is_not_standing_still() {
    let bed = Bed::with(|config| {
        config.timeouts.server = Duration::from_millis(50);
        config.timeouts.unread = Duration::from_millis(50);
        config.timeouts.tunnel = Duration::from_millis(500);
    })
    .await;
    let words =
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    let exapp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = exapp.local_addr().unwrap();
    let (mut sender, _) = connect(bed.address).await;
    sender.send_request(ask("GET", "/exapps/demo/public", &[])).await.unwrap();
    bed.nextcloud.register("quiet", "127.0.0.1", 23009, &[(".*", 0)]);
    bed.tunnels.up(23009, address);
    let opening =
        tokio::spawn(sender.send_request(extended_connect("websocket", "/exapps/quiet/ws")));
    let (mut stream, _) = timeout(LONG, exapp.accept()).await.unwrap().unwrap();
    let head = edges::read_head(&mut stream).await;
    let key = head.split("sec-websocket-key: ").nth(1).unwrap().lines().next().unwrap();
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    stream.write_all(words).await.unwrap();
    stream.write_all(format!("sec-websocket-accept: {accept}\r\n\r\n").as_bytes()).await.unwrap();
    let mut response = opening.await.unwrap().unwrap();
    let mut upgraded = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    // Longer than any stream may stand still, and the ExApp says nothing.
    for _ in 0..10 {
        upgraded.write_all(b"x").await.unwrap();
        upgraded.flush().await.unwrap();
        timeout(LONG, stream.read_u8()).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stream.write_all(b"y").await.unwrap();
    assert_eq!(timeout(LONG, upgraded.read_u8()).await.unwrap().unwrap(), b'y');
}

#[tokio::test]
async fn a_websocket_that_is_refused_or_none_is_answered_plainly() {
    let bed = Bed::start().await;
    let (mut sender, _) = connect(bed.address).await;
    sender.send_request(ask("GET", "/exapps/demo/public", &[])).await.unwrap();
    for (protocol, path, status) in [
        ("websocket", "/exapps/demo/user", 403),
        ("websocket", "/exapps/demo/status/426", 426),
        // To an extended CONNECT a 200 would say that the WebSocket is open.
        ("websocket", "/exapps/demo/public", 502),
        ("connect-udp", "/exapps/demo/public", 501),
    ] {
        let response = sender.send_request(extended_connect(protocol, path)).await.unwrap();
        assert_eq!(response.status(), status, "{protocol} {path}");
    }
}

#[tokio::test]
async fn a_dropped_request_takes_the_connection_along() {
    let bed = Bed::with(|config| config.trusted_proxies = Vec::new()).await;
    let (mut sender, ended) = connect(bed.address).await;
    let mut events = sender.clone();
    let events = events.send_request(ask("GET", "/exapps/demo/sse", &[])).await.unwrap();
    let dropped = sender.send_request(ask("GET", "/exapps/demo/heartbeat", &[])).await;
    assert!(dropped.is_err());
    assert!(timeout(LONG, events.into_body().collect()).await.unwrap().is_err());
    timeout(LONG, ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn others_behind_the_same_proxy_are_not_dropped_along() {
    let bed = Bed::start().await;
    let (mut sender, _) = connect(bed.address).await;
    let mut events = sender.clone();
    let events = events.send_request(ask("GET", "/exapps/demo/sse", &[])).await.unwrap();
    let dropped = sender.send_request(ask("GET", "/exapps/demo/heartbeat", &[])).await;
    assert!(dropped.is_err());
    bed.exapp.go_on.notify_one();
    let events = events.into_body().collect().await.unwrap().to_bytes();
    assert!(events.ends_with(b"data: two\n\n"));
}

#[tokio::test]
async fn a_stream_that_is_reset_takes_its_request_along() {
    let bed = Bed::start().await;
    let (mut sender, _) = connect(bed.address).await;
    let mut body =
        sender.send_request(ask("GET", "/exapps/demo/sse", &[])).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    timeout(LONG, async {
        while bed.exapp.streams.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    let again = sender.send_request(ask("GET", "/exapps/demo/public", &[])).await.unwrap();
    assert_eq!(again.status(), 200);
}

#[tokio::test]
async fn a_stop_lets_streams_end_and_takes_no_more() {
    let bed = Bed::start().await;
    let (mut sender, ended) = connect(bed.address).await;
    let events = sender.send_request(ask("GET", "/exapps/demo/sse", &[])).await.unwrap();
    bed.stop.cancel();
    timeout(LONG, async {
        while let Ok(response) = sender.send_request(ask("GET", "/exapps/demo/public", &[])).await {
            drop(response);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    bed.exapp.go_on.notify_one();
    let events = events.into_body().collect().await.unwrap().to_bytes();
    assert!(events.ends_with(b"data: two\n\n"));
    timeout(LONG, ended).await.unwrap().unwrap();
    timeout(LONG, bed.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let bed = Bed::with(|config| config.timeouts.client = Duration::from_millis(100)).await;
    let (_idle, ended) = connect(bed.address).await;
    let (mut busy, still) = connect(bed.address).await;
    let events = busy.send_request(ask("GET", "/exapps/demo/sse", &[])).await.unwrap();
    timeout(LONG, ended).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    bed.exapp.go_on.notify_one();
    let events = events.into_body().collect().await.unwrap().to_bytes();
    assert!(events.ends_with(b"data: two\n\n"));
    timeout(LONG, still).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_preface_may_come_in_pieces() {
    let bed = Bed::with(|config| config.timeouts.client = Duration::from_millis(400)).await;
    let mut stream = TcpStream::connect(bed.address).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for piece in preface.chunks(3) {
        stream.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut frame = [0; 9];
    timeout(LONG, stream.read_exact(&mut frame)).await.unwrap().unwrap();
    assert_eq!(frame[3], 4, "settings come first: {frame:?}");
    // The beginning of one is no request, and no reason to wait for ever.
    assert_eq!(raw(bed.address, b"PR").await, "");
    assert!(raw(bed.address, b"PRX / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_stream_whose_client_allows_no_more_is_given_up() {
    let bed = Bed::with(|config| {
        config.timeouts.server = Duration::from_millis(300);
        config.timeouts.tunnel = Duration::from_millis(300);
        config.timeouts.unread = Duration::from_millis(300);
    })
    .await;
    let exapp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bed.tunnels.up(23001, exapp.local_addr().unwrap());
    let (mut sender, _) = connect(bed.address).await;
    let waiting = tokio::spawn(sender.send_request(ask("GET", "/exapps/demo/public", &[])));
    let (mut stream, _) = timeout(LONG, exapp.accept()).await.unwrap().unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await.unwrap();
    // The client goes on reading frames; nobody takes what is in them.
    let _untaken = waiting.await.unwrap().unwrap();
    let chunk = vec![b'x'; 64 * 1024];
    let ended = timeout(LONG, async { while stream.write_all(&chunk).await.is_ok() {} }).await;
    assert!(ended.is_ok(), "the stream outlived a visitor that takes nothing");
    bed.tunnels.up(23001, bed.exapp.address);
    let again = sender.send_request(ask("GET", "/exapps/demo/public", &[])).await.unwrap();
    assert_eq!(again.status(), 200, "the connection is none the worse");
}
