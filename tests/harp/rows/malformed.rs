//! What is no proper request (contract 1.3). Nothing of it reaches an ExApp, and it costs no
//! more than the connection.

use crate::row::{Row, get, raw, reached, refused, row, status};

/// A head for a public page with these lines more.
fn head(lines: &str) -> String {
    format!(
        "GET /exapps/demo{{n}}/public HTTP/1.1\r\nHost: cloud.example\r\nX-Forwarded-For: {{client}}\r\n{lines}\r\n"
    )
}

fn post(lines: &str, body: &str) -> String {
    let head = head(lines).replacen("GET", "POST", 1);
    format!("{head}{body}")
}

pub(crate) fn heads() -> Vec<Row> {
    const VERSION: &str = "HAProxy takes it for HTTP/1.1";
    let bad = |name, bytes: &str| row(name, raw(bytes), status(400));
    vec![
        bad("no request line", "GARBAGE\r\n\r\n"),
        row(
            "a version that does not exist",
            raw("GET / HTTP/9.9\r\nHost: h\r\nX-Forwarded-For: {client}\r\n\r\n"),
            status(400),
        )
        .harp(VERSION, refused(404))
        .harp_strikes(VERSION, Some(1)),
        bad("no version", "GET /exapps/demo{n}/public\r\n\r\n"),
        bad("a space in the target", "GET /exapps/demo{n}/a b HTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("a line without a colon", &head("nonsense\r\n")),
        bad("a space in a header's name", &head("X Name: 1\r\n")),
        bad("a space in front of the colon", &head("X-Name : 1\r\n")),
        bad("an empty header name", &head(": 1\r\n")),
        bad("a null byte in a value", &head("X-Name: a\0b\r\n")),
        bad("a control character in a method", "G\u{1}T / HTTP/1.1\r\n\r\n"),
        row(
            "a byte beyond ASCII in the target",
            raw(b"GET /exapps/demo{n}/\xe9 HTTP/1.1\r\nHost: h\r\n\r\n"),
            status(400),
        ),
        row(
            "UTF-8 in the target",
            raw("GET /exapps/demo{n}/\u{e9} HTTP/1.1\r\nHost: h\r\n\r\n"),
            status(400),
        ),
    ]
}

pub(crate) fn targets() -> Vec<Row> {
    const AGENT: &str = "its agent has no path to look at";
    let failed = || status(503).body("503 Service Unavailable (HaRP)");
    let lines = |host: &str| format!("Host: {host}\r\nX-Forwarded-For: {{client}}\r\n\r\n");
    vec![
        row(
            "OPTIONS of the server",
            raw(format!("OPTIONS * HTTP/1.1\r\n{}", lines("h"))),
            status(204),
        )
        .harp(AGENT, failed()),
        row(
            "CONNECT",
            raw(format!("CONNECT example:443 HTTP/1.1\r\n{}", lines("example:443"))),
            status(501).says("no forward proxy"),
        )
        .harp(AGENT, failed()),
    ]
}

pub(crate) fn lengths() -> Vec<Row> {
    let bad = |name, bytes: &str| row(name, raw(bytes), status(400));
    const TIDIED: &str = "HAProxy goes by the encoding and drops the length";
    vec![
        bad("two lengths that differ", &post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd")),
        bad("a length that is no number", &post("Content-Length: x\r\n", "")),
        bad("a negative length", &post("Content-Length: -1\r\n", "")),
        row(
            "a length beside an encoding",
            raw(post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
            status(400),
        )
        .harp(TIDIED, reached("/public")),
    ]
}

pub(crate) fn sizes() -> Vec<Row> {
    let lines =
        |count: usize| head(&(0..count).map(|at| format!("X-{at}: 1\r\n")).collect::<String>());
    let large = |bytes: usize| head(&format!("X-Large: {}\r\n", "x".repeat(bytes)));
    let cookie = format!("oc_sessionPassphrase={}", "x".repeat(9000));
    vec![
        row("ninety lines", raw(lines(90)), reached("/public")),
        row("more than a hundred lines", raw(lines(120)), status(431))
            .harp("too many lines are a bad request", status(400)),
        row("a head of 12 KB", raw(large(12_000)), reached("/public")),
        row("a head of 40 KB", raw(large(40_000)), reached("/public"))
            .harp("heads end at 15 KB", status(431).or(400)),
        row("a head of 200 KB", raw(large(200_000)), status(431))
            .harp("HAProxy 2.6 calls it a bad request", status(431).or(400)),
        row(
            "a passphrase of 9 KB",
            get("/exapps/demo{n}/public").with("cookie", &cookie),
            reached("/public"),
        )
        .not_for_harp("it does not fit a frame of its agent: 503, and HAProxy 2.6 stalls"),
    ]
}

/// Another protocol altogether.
pub(crate) fn strangers() -> Vec<Row> {
    vec![row(
        "a TLS greeting on the plain port",
        raw(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n\r\n"),
        status(400),
    )]
}
