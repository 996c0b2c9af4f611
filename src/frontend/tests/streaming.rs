//! Bodies and their ends: any size, both ways, slow, broken off, and what keeps a connection.

use super::edges::{blunt_exapp, read_head};
use super::*;

/// What is far too much to lie in the sockets and buffers between visitor and ExApp.
const FLOOD: usize = 256 * 1024 * 1024;

async fn connect(bed: &Bed, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(bed.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn rest(mut stream: TcpStream) -> String {
    let mut rest = Vec::new();
    timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test]
async fn chunked_stays_chunked_and_trailers_travel_both_ways() {
    let bed = Bed::start().await;
    let words = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                  3\r\none\r\n3\r\ntwo\r\n0\r\nx-sum: 6\r\nx-unannounced: 1\r\n\r\n";
    let (exapp, heard) = blunt_exapp(b"x-count: 5\r\n\r\n", words).await;
    bed.tunnels.up(23001, exapp);
    let head = "POST /exapps/demo/public HTTP/1.1\r\nhost: h\r\nte: trailers\r\n\
                connection: te, close\r\ntrailer: x-count\r\ntransfer-encoding: chunked\r\n\r\n\
                5\r\nhello\r\n0\r\nx-count: 5\r\n\r\n";
    let answer = rest(connect(&bed, head).await).await;
    assert!(answer.contains("transfer-encoding: chunked\r\n"), "{answer}");
    assert!(
        answer.contains("trailer: x-sum\r\n") && !answer.contains("content-length"),
        "{answer}"
    );
    assert!(answer.ends_with("0\r\nx-sum: 6\r\n\r\n"), "{answer}");
    let heard = String::from_utf8(heard.await.unwrap().0).unwrap();
    assert!(heard.contains("transfer-encoding: chunked\r\n"), "{heard}");
    assert!(heard.contains("te: trailers\r\n") && heard.contains("connection: te\r\n"), "{heard}");
    assert!(heard.ends_with("5\r\nhello\r\n0\r\nx-count: 5\r\n\r\n"), "{heard}");
}

#[tokio::test]
async fn trailers_do_not_cost_the_exapps_connection() {
    let bed = Bed::start().await;
    let words = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n\
                  0\r\nx: 1\r\n\r\n";
    let (exapp, heard) = blunt_exapp(b"\r\n\r\n", words).await;
    bed.tunnels.up(23001, exapp);
    let head = "GET /exapps/demo/public HTTP/1.1\r\nhost: h\r\nte: trailers\r\n\r\n";
    let mut stream = connect(&bed, head).await;
    let (_, mut exapp) = heard.await.unwrap();
    for _ in 0..3 {
        read_head(&mut stream).await;
        assert_eq!(read_head(&mut stream).await, "0\r\nx: 1\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // Again on the same connection; there is nobody to accept another.
        read_head(&mut exapp).await;
        exapp.write_all(words).await.unwrap();
    }
}

#[tokio::test]
async fn an_http_1_0_client_gets_a_stream_up_to_the_end_of_the_connection() {
    let bed = Bed::start().await;
    let mut stream = connect(&bed, "GET /exapps/demo/sse HTTP/1.0\r\n\r\n").await;
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n") && !head.contains("chunked"), "{head}");
    let mut first = [0; 11];
    timeout(LONG, stream.read_exact(&mut first)).await.unwrap().unwrap();
    bed.exapp.go_on.notify_one();
    assert_eq!(rest(stream).await, "data: two\n\n");
}

#[tokio::test]
async fn a_kept_connection_is_kept_for_the_next_request() {
    let bed = Bed::start().await;
    let head = "GET /exapps/demo/status/200 HTTP/1.1\r\nhost: h\r\n\r\n";
    let mut stream = connect(&bed, head).await;
    for _ in 0..3 {
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
        let mut body = [0; 6];
        timeout(LONG, stream.read_exact(&mut body)).await.unwrap().unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn a_refused_upload_hears_the_refusal_and_not_a_reset() {
    let bed = Bed::start().await;
    let size = 32 * 1024 * 1024;
    let head =
        format!("POST /exapps/demo/user HTTP/1.1\r\nhost: h\r\ncontent-length: {size}\r\n\r\n");
    let mut stream = connect(&bed, &head).await;
    let chunk = vec![b'x'; 64 * 1024];
    for _ in 0..size / chunk.len() {
        stream.write_all(&chunk).await.unwrap();
    }
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.ends_with("403 Forbidden"), "{answer}");
}

#[tokio::test]
async fn nobody_is_asked_for_a_body_that_will_be_refused() {
    let bed = Bed::start().await;
    let head = "POST /exapps/demo/user HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n\
                content-length: 5\r\nconnection: close\r\n\r\n";
    let answer = rest(connect(&bed, head).await).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");

    let heard_head = "POST /exapps/demo/public HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n\
                      content-length: 5\r\nconnection: close\r\n\r\nhello";
    let words = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let (exapp, heard) = blunt_exapp(b"hello", words).await;
    bed.tunnels.up(23001, exapp);
    assert!(rest(connect(&bed, heard_head).await).await.contains("HTTP/1.1 200 OK\r\n"));
    let heard = String::from_utf8(heard.await.unwrap().0).unwrap();
    assert!(heard.contains("expect: 100-continue\r\n"), "handed on as HaRP does: {heard}");
}

/// Writes until nothing is taken any more; tells how much was.
async fn flood(stream: &mut TcpStream) -> usize {
    let chunk = vec![b'x'; 64 * 1024];
    let mut taken = 0;
    while taken < FLOOD
        && let Ok(written) = timeout(Duration::from_millis(500), stream.write(&chunk)).await
    {
        taken += written.unwrap();
    }
    taken
}

#[tokio::test]
async fn an_upload_nobody_reads_stops_at_the_visitor() {
    let bed = Bed::start().await;
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bed.tunnels.up(23001, deaf.local_addr().unwrap());
    let head =
        format!("PUT /exapps/demo/public HTTP/1.1\r\nhost: h\r\ncontent-length: {FLOOD}\r\n\r\n");
    let mut stream = connect(&bed, &head).await;
    let (taken, _accepted) = tokio::join!(flood(&mut stream), deaf.accept());
    assert!(taken < FLOOD / 4, "{taken} bytes lie somewhere in between");
}

#[tokio::test]
async fn a_download_nobody_reads_stops_at_the_exapp() {
    let bed = Bed::start().await;
    let exapp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bed.tunnels.up(23001, exapp.local_addr().unwrap());
    let _deaf = connect(&bed, "GET /exapps/demo/public HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let (mut stream, _) = timeout(LONG, exapp.accept()).await.unwrap().unwrap();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {FLOOD}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let taken = flood(&mut stream).await;
    assert!(taken < FLOOD / 4, "{taken} bytes lie somewhere in between");
}

#[tokio::test]
async fn a_stalled_upload_is_told_so() {
    let bed = Bed::with(|config| config.timeouts.client = Duration::from_millis(100)).await;
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bed.tunnels.up(23001, deaf.local_addr().unwrap());
    let head = "PUT /exapps/demo/public HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhe";
    let (answer, _accepted) =
        tokio::join!(async { rest(connect(&bed, head).await).await }, deaf.accept());
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.ends_with("408 Request Timeout"), "{answer}");
}

#[tokio::test]
async fn a_visitor_that_leaves_early_ends_the_exapps_connection() {
    let bed = Bed::start().await;
    let waiting = "GET /exapps/demo/public HTTP/1.1\r\nhost: h\r\n\r\n";
    let uploading = "PUT /exapps/demo/public HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n12";
    for head in [waiting, uploading] {
        let exapp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        bed.tunnels.up(23001, exapp.local_addr().unwrap());
        let visitor = connect(&bed, head).await;
        let (mut stream, _) = timeout(LONG, exapp.accept()).await.unwrap().unwrap();
        read_head(&mut stream).await;
        drop(visitor);
        let mut rest = Vec::new();
        timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_visitor_that_closes_its_half_has_left() {
    let bed = Bed::start().await;
    let exapp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bed.tunnels.up(23001, exapp.local_addr().unwrap());
    let mut visitor = connect(&bed, "GET /exapps/demo/public HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let (mut stream, _) = timeout(LONG, exapp.accept()).await.unwrap().unwrap();
    visitor.shutdown().await.unwrap();
    let mut heard = Vec::new();
    timeout(LONG, stream.read_to_end(&mut heard)).await.unwrap().unwrap();
    assert_eq!(rest(visitor).await, "");
}

#[tokio::test]
async fn an_event_stream_may_be_idle_for_longer_than_a_client() {
    let bed = Bed::with(|config| config.timeouts.client = Duration::from_millis(50)).await;
    let mut body = bed.get("/exapps/demo/sse", &[]).await.into_body();
    body.frame().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    bed.exapp.go_on.notify_one();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "data: two\n\n");
}

#[tokio::test]
async fn an_event_stream_ends_after_the_time_of_servers() {
    let bed = Bed::with(|config| config.timeouts.server = Duration::from_millis(200)).await;
    let mut body = bed.get("/exapps/demo/sse", &[]).await.into_body();
    body.frame().await.unwrap().unwrap();
    assert!(timeout(LONG, body.frame()).await.unwrap().unwrap().is_err(), "no end in sight");
}

const UPGRADE: &str = "GET /exapps/demo/ws HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn a_websocket_may_be_idle_for_the_time_of_tunnels_and_no_longer() {
    let bed = Bed::with(|config| {
        config.timeouts.client = Duration::from_millis(50);
        config.timeouts.server = Duration::from_millis(50);
        config.timeouts.tunnel = Duration::from_millis(600);
    })
    .await;
    let mut stream = connect(&bed, UPGRADE).await;
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101"));
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    socket.send(Message::text("still there")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still there"));
    timeout(LONG, async { while let Some(Ok(_)) = socket.next().await {} }).await.unwrap();
}

#[tokio::test]
async fn words_that_come_with_the_switch_are_not_lost() {
    let bed = Bed::start().await;
    let words =
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: own\r\n\r\nhello";
    let (exapp, heard) = blunt_exapp(b"\r\n\r\n", words).await;
    bed.tunnels.up(23001, exapp);
    let head = "GET /exapps/demo/public HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\n\
                upgrade: own\r\n\r\nearly";
    let mut stream = connect(&bed, head).await;
    assert!(read_head(&mut stream).await.contains("upgrade: own\r\n"));
    let mut hello = [0; 5];
    timeout(LONG, stream.read_exact(&mut hello)).await.unwrap().unwrap();
    assert_eq!(&hello, b"hello");
    stream.write_all(b" and late").await.unwrap();
    drop(stream);
    let (mut heard, mut exapp) = heard.await.unwrap();
    timeout(LONG, exapp.read_to_end(&mut heard)).await.unwrap().unwrap();
    assert!(heard.ends_with(b"\r\n\r\nearly and late"), "{}", String::from_utf8_lossy(&heard));
}
