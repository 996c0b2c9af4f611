//! Requests at the edge of HTTP, and ExApps that do not answer as they should.

use super::*;

/// The status line and the body of the answer to one request on a connection of its own.
async fn answer(bed: &Bed, head: &[u8]) -> (String, String) {
    let answer = raw(bed.address, head).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

#[tokio::test]
async fn targets_that_are_none_are_answered_here() {
    let bed = Bed::start().await;
    for (line, status, body) in [
        (&b"GET /exapps/demo/public#x"[..], "HTTP/1.1 400 Bad Request", ""),
        (b"GET /exapps/demo/public?a#x", "HTTP/1.1 400 Bad Request", ""),
        (b"GET /exapps/demo/public?\xc3\xa9", "HTTP/1.1 400 Bad Request", "400 Bad Request"),
        (b"GET /exapps/demo/public\xc3\xa9", "HTTP/1.1 400 Bad Request", "400 Bad Request"),
        (b"OPTIONS *", "HTTP/1.1 204 No Content", ""),
        (
            b"CONNECT cloud.example:443",
            "HTTP/1.1 501 Not Implemented",
            "501 Not Implemented: this is no forward proxy",
        ),
    ] {
        let head = [line, b" HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"].concat();
        let (found, text) = answer(&bed, &head).await;
        let line = String::from_utf8_lossy(line);
        assert_eq!((found.as_str(), text.as_str()), (status, body), "{line}");
    }
    assert_eq!(calls(&bed.exapp.requests), 0);
    // None of them is a failure.
    assert_eq!(bed.cluster.read(|state| state.strikes(bed.address.ip(), 0, 99)), 0);
}

#[tokio::test]
async fn every_method_is_carried() {
    let bed = Bed::start().await;
    for method in ["OPTIONS", "PROPFIND", "MKCOL", "TRACE", "PURGE", "X-OWN", "DELETE"] {
        let request = request(method, "/exapps/demo/public", &[]);
        assert_eq!(json_of(send(bed.address, request).await).await["method"], method);
    }
}

/// An ExApp that accepts one connection, reads until it has seen `until`, and says `words`. What it
/// has read by then comes back with the connection, which stays open until that is dropped.
pub(super) async fn blunt_exapp(
    until: &'static [u8],
    words: &'static [u8],
) -> (SocketAddr, tokio::task::JoinHandle<(Vec<u8>, TcpStream)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        while !heard.windows(until.len()).any(|window| window == until) {
            assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0, "ended early");
        }
        stream.write_all(words).await.unwrap();
        (heard, stream)
    });
    (address, heard)
}

#[tokio::test]
async fn w13_non_ascii_header_values_pass_end_to_end_with_a_right_and_a_wrong_key() {
    let bed = Bed::start().await;
    let words = b"HTTP/1.1 200 OK\r\nx-odd: na\xefve\r\ncontent-length: 2\r\n\r\nok";
    let signed = |key| {
        format!(
            "ex-app-version: 1.2.3\r\nex-app-id: demo\r\nex-app-host: 127.0.0.1\r\n\
             ex-app-port: 23001\r\nauthorization-app-api: c2lnbmVk\r\nharp-shared-key: {key}\r\n"
        )
    };
    for lines in [String::new(), signed(KEY)] {
        let bed = Bed::start().await;
        let (exapp, heard) = blunt_exapp(b"\r\n\r\n", words).await;
        bed.tunnels.up(23001, exapp);
        let head = [
            b"GET /exapps/demo/public HTTP/1.1\r\nhost: h\r\nx-odd: caf\xe9 \xff\r\n",
            lines.as_bytes(),
            b"connection: close\r\n\r\n",
        ]
        .concat();
        let mut stream = TcpStream::connect(bed.address).await.unwrap();
        stream.write_all(&head).await.unwrap();
        let mut answer = Vec::new();
        timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let has = |bytes: &[u8], line: &[u8]| bytes.windows(line.len()).any(|part| part == line);
        assert!(has(&answer, b"\r\nx-odd: na\xefve\r\n"), "{}", String::from_utf8_lossy(&answer));
        let (heard, _) = heard.await.unwrap();
        assert!(has(&heard, b"\r\nx-odd: caf\xe9 \xff\r\n"), "{}", String::from_utf8_lossy(&heard));
    }
    // A wrong key is refused at once, whatever else the request says.
    let wrong = format!("{}x-odd: \u{e9}\r\n", signed("guess"));
    let head = format!("GET /exapps/demo/public HTTP/1.1\r\nhost: h\r\n{wrong}\r\n");
    assert_eq!(raw(bed.address, head.as_bytes()).await, "");
    // And so is one that is not text itself.
    let head = [
        b"GET /exapps/app_api/info HTTP/1.1\r\nhost: h\r\nconnection: close\r\n",
        &b"harp-shared-key: \xe9\r\n\r\n"[..],
    ]
    .concat();
    assert_eq!(answer(&bed, &head).await.0, "HTTP/1.1 401 Unauthorized");
}

#[tokio::test]
async fn w20_an_exapp_that_refuses_is_told_at_once_and_in_words() {
    let bed = Bed::start().await;
    // Bound and not listening: refused by the kernel.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    bed.tunnels.up(23001, socket.local_addr().unwrap());
    let response = bed.get("/exapps/demo/public", &[]).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["content-type"], "text/plain");
    assert_eq!(
        body_of(response).await,
        "503 Service Unavailable: the ExApp does not accept connections"
    );
    assert_eq!(calls(&bed.tunnels.dials), 1, "nothing is gained by asking again");
}

#[tokio::test]
async fn what_is_no_http_is_a_bad_gateway() {
    let bed = Bed::start().await;
    for words in [
        &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ] {
        let (exapp, _heard) = blunt_exapp(b"\r\n\r\n", words).await;
        bed.tunnels.up(23001, exapp);
        let response = bed.get("/exapps/demo/public", &[]).await;
        assert_eq!(response.status(), 502, "{}", String::from_utf8_lossy(words));
        assert_eq!(response.headers()["content-type"], "text/plain");
    }
}

#[tokio::test]
async fn informational_answers_are_not_taken_for_the_answer() {
    let bed = Bed::start().await;
    let words = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                  HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (exapp, _heard) = blunt_exapp(b"\r\n\r\n", words).await;
    bed.tunnels.up(23001, exapp);
    let response = bed.get("/exapps/demo/public", &[]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(body_of(response).await, "ok");
}

#[tokio::test]
async fn answers_without_a_body_leave_the_connection_usable() {
    for (words, status) in [
        (&b"HTTP/1.1 204 No Content\r\n\r\n"[..], "204 No Content"),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\netag: x\r\n\r\n", "304 Not Modified"),
    ] {
        let bed = Bed::start().await;
        let (exapp, _heard) = blunt_exapp(b"\r\n\r\n", words).await;
        bed.tunnels.up(23001, exapp);
        let mut stream = TcpStream::connect(bed.address).await.unwrap();
        let head = b"GET /exapps/demo/public HTTP/1.1\r\nhost: h\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let first = read_head(&mut stream).await;
        assert!(first.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{first}");
        assert!(!first.contains("transfer-encoding"), "{first}");
        stream
            .write_all(b"OPTIONS * HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut second = String::new();
        timeout(LONG, stream.read_to_string(&mut second)).await.unwrap().unwrap();
        assert!(second.starts_with("HTTP/1.1 204"), "{second}");
    }
}

/// Reads to the empty line and no further.
pub(super) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(LONG, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn believed_proxies_can_be_changed_while_serving() {
    let bed = Bed::with(|config| config.trusted_proxies = Vec::new()).await;
    let from = [("cookie", ALICE), ("x-forwarded-for", "192.0.2.7")];
    let asked_for = || bed.nextcloud.last_user_headers.lock().unwrap()["x-forwarded-for"].clone();
    assert_eq!(bed.status("/exapps/demo/user", &from).await, 200);
    assert_eq!(asked_for(), "127.0.0.1");
    bed.frontend.trust(vec!["127.0.0.0/8".parse().unwrap()], Vec::new());
    let from = [("cookie", ADMIN), ("x-forwarded-for", "192.0.2.7")];
    assert_eq!(bed.status("/exapps/demo/user", &from).await, 200);
    assert_eq!(asked_for(), "192.0.2.7");
}
