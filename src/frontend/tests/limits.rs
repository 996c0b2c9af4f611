//! Limits of connections and of time, and the orderly stop.

use super::*;

#[tokio::test]
async fn stopping_finishes_what_is_in_flight_and_takes_no_more() {
    let bed = Bed::start().await;
    let mut streaming = bed.get("/exapps/demo/sse", &[]).await.into_body();
    streaming.frame().await.unwrap().unwrap();
    bed.stop.cancel();
    timeout(LONG, async {
        while TcpStream::connect(bed.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    bed.exapp.go_on.notify_one();
    assert_eq!(streaming.collect().await.unwrap().to_bytes(), "data: two\n\n");
    timeout(LONG, bed.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_place() {
    let bed = Bed::with(|config| config.max_connections = 1).await;
    let first = TcpStream::connect(bed.address).await.unwrap();
    // Accepted by then, because the second request is only answered once the first has gone.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let waiting = tokio::spawn(try_send(bed.address, request("GET", "/exapps/demo/public", &[])));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    drop(first);
    let response = timeout(LONG, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(response.status(), 200);
    drop::<HeaderMap>(response.into_parts().0.headers);
}

#[tokio::test]
async fn a_visitor_that_leaves_takes_its_request_along() {
    let bed = Bed::start().await;
    let mut body = bed.get("/exapps/demo/sse", &[]).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    timeout(LONG, async {
        while bed.exapp.streams.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn slow_heads_and_stalled_bodies_are_ended() {
    let bed = Bed::with(|config| config.timeouts.client = Duration::from_millis(100)).await;
    let answer = raw(bed.address, b"GET /exapps/demo/public HTTP/1.1\r\nhost: h\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n408 Request Timeout"), "{answer}");
    assert_eq!(raw(bed.address, b"").await, "", "nothing was begun, nothing is said");
    let stalled = b"POST /exapps/demo/echo HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhe";
    let answer = raw(bed.address, stalled).await;
    assert!(answer.is_empty() || !answer.contains("hello"), "{answer}");
    let stalled = b"POST /exapps/demo/public HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhe";
    raw(bed.address, stalled).await;
    assert_eq!(bed.status("/exapps/demo/public", &[]).await, 200);
}

#[tokio::test]
async fn a_slow_upload_is_not_a_slow_exapp() {
    let bed = Bed::with(|config| config.timeouts.server = Duration::from_millis(400)).await;
    let mut stream = TcpStream::connect(bed.address).await.unwrap();
    let head = b"POST /exapps/demo/whole HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\
        content-length: 10\r\n\r\n";
    stream.write_all(head).await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(b"x").await.unwrap();
    }
    let mut answer = String::new();
    timeout(LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("POST 10"), "{answer}");
}

#[tokio::test]
async fn a_visitor_that_does_not_read_is_let_go() {
    let bed = Bed::with(|config| config.timeouts.unread = Duration::from_millis(300)).await;
    let mut stream = TcpStream::connect(bed.address).await.unwrap();
    let head = b"POST /exapps/demo/echo HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000000\r\n\r\n";
    stream.write_all(head).await.unwrap();
    // The echo fills every buffer on the way, then nothing can move any more.
    let chunk = vec![b'x'; 64 * 1024];
    let ended = timeout(LONG, async { while stream.write_all(&chunk).await.is_ok() {} }).await;
    assert!(ended.is_ok(), "the connection outlived a visitor that reads nothing");
}

#[tokio::test]
async fn old_and_odd_clients_are_served() {
    let bed = Bed::start().await;
    for (head, status) in [
        (&b"GET /exapps/demo/public HTTP/1.0\r\nhost: h\r\n\r\n"[..], "200 OK"),
        (b"GET /exapps/demo/public HTTP/1.0\r\n\r\n", "200 OK"),
        (b"GET /exapps/demo/public HTTP/1.1\r\nconnection: close\r\n\r\n", "200 OK"),
        (b"GET http://h/exapps/demo/public HTTP/1.1\r\nconnection: close\r\n\r\n", "200 OK"),
        (b"PROPFIND /exapps/demo/public HTTP/1.1\r\nconnection: close\r\n\r\n", "200 OK"),
        // One such byte costs HaRP half a minute (weakness W13).
        (b"GET /exapps/demo/public HTTP/1.1\r\nx: \xe9\r\nconnection: close\r\n\r\n", "200 OK"),
        (
            b"GET /exapps/demo/public/\xc3\xa9 HTTP/1.1\r\nconnection: close\r\n\r\n",
            "400 Bad Request",
        ),
    ] {
        let answer = raw(bed.address, head).await;
        let first = answer.lines().next().unwrap_or_default();
        assert!(first.ends_with(status), "{:?}: {answer}", String::from_utf8_lossy(head));
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let bed = Bed::start().await;
    let both = b"GET /exapps/demo/public?1 HTTP/1.1\r\nhost: h\r\n\r\n\
        GET /exapps/demo/public?2 HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    let answer = raw(bed.address, both).await;
    let (first, second) = (answer.find("/public?1"), answer.find("/public?2"));
    assert!(first.is_some() && first < second, "{answer}");
}

#[tokio::test]
async fn a_stop_announces_itself_on_answers_that_are_still_due() {
    let bed = Bed::start().await;
    bed.tunnels.lost(23001);
    let waiting = bed.get("/exapps/demo/public", &[]);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        bed.stop.cancel();
        tokio::time::sleep(Duration::from_millis(50)).await;
        bed.tunnels.up(23001, bed.exapp.address);
    };
    let response = tokio::join!(waiting, stop).0;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["connection"], "close");
    timeout(LONG, bed.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn upgraded_connections_count_against_the_limit_and_end_with_the_drain() {
    let bed = Bed::with(|config| {
        config.max_connections = 1;
        config.drain = Duration::from_millis(100);
    })
    .await;
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut response = bed.get("/exapps/demo/ws", &headers).await;
    let upgraded = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
    let second = bed.get("/exapps/demo/public", &[]);
    assert!(timeout(Duration::from_millis(100), second).await.is_err());
    bed.stop.cancel();
    timeout(LONG, async { while let Some(Ok(_)) = socket.next().await {} }).await.unwrap();
    timeout(LONG, bed.served).await.unwrap().unwrap();
}
