//! Bodies both ways, upgrades, and ExApps that are not there (contract 1.3 and 6).

use crate::row::{Row, get, reached, refused, row, send, status};

pub(crate) fn bodies() -> Vec<Row> {
    let large = "0123456789abcdef".repeat(20_000);
    vec![
        row(
            "HEAD has the length and no body",
            send("HEAD", "/exapps/demo{n}/public"),
            reached("/public").saw_method("HEAD").body("").has("content-length", "29"),
        ),
        row(
            "a response keeps its length",
            get("/exapps/demo{n}/public"),
            reached("/public").has("content-length", "29").lacks("transfer-encoding"),
        ),
        row(
            "a body goes up and comes back",
            send("POST", "/exapps/demo{n}/echo").body("hello"),
            reached("/echo").body("hello").saw("content-length", "5"),
        ),
        row(
            "a large one too",
            send("PUT", "/exapps/demo{n}/echo").body(&large),
            reached("/echo").body(&large),
        ),
        row(
            "chunks stay chunks",
            send("POST", "/exapps/demo{n}/echo")
                .with("Transfer-Encoding", "chunked")
                .body("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
            reached("/echo")
                .body("hello world")
                .saw("transfer-encoding", "chunked")
                .saw_no(&["content-length"]),
        ),
        row(
            "a client may ask before it sends",
            send("POST", "/exapps/demo{n}/echo").with("Expect", "100-continue").body("hello"),
            reached("/echo").body("hello"),
        ),
        row(
            "a GET may have a body",
            get("/exapps/demo{n}/echo").body("hello"),
            reached("/echo").body("hello"),
        ),
        row(
            "three megabytes come down",
            get("/exapps/demo{n}/source?bytes=3000000"),
            reached("/source?bytes=3000000").has("content-length", "3000000"),
        ),
        row(
            "a 204 has no body",
            get("/exapps/demo{n}/status/304"),
            reached("/status/304").status(304),
        ),
        row(
            "an error of the ExApp arrives as it is",
            get("/exapps/demo{n}/status/500"),
            reached("/status/500").status(500).body("as you wish\n"),
        ),
    ]
}

pub(crate) fn upgrades() -> Vec<Row> {
    let handshake = |path: &str| {
        get(path).all(&[
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ])
    };
    vec![
        row(
            "a WebSocket opens",
            handshake("/exapps/demo{n}/ws"),
            reached("/ws")
                .status(101)
                .has("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
                .has("upgrade", "websocket"),
        ),
        row(
            "for those who may",
            handshake("/exapps/demo{n}/user/ws").session("alice"),
            reached("/user/ws").status(101).by("alice"),
        ),
        row("and for nobody else", handshake("/exapps/demo{n}/user/ws"), refused(403)).strikes(1),
        row(
            "an upgrade the ExApp does not know is an ordinary request",
            get("/exapps/demo{n}/public").all(&[("Connection", "Upgrade"), ("Upgrade", "h9")]),
            reached("/public"),
        ),
    ]
}

/// At once and in words (weakness W20): AppAPI's own limit is three seconds.
pub(crate) fn absent() -> Vec<Row> {
    const SLOW: &str = "HTML after three seconds of trying (W20)";
    vec![
        row(
            "an ExApp without a tunnel",
            get("/exapps/shut{n}/x"),
            status(503).has("content-type", "text/plain").says("503 Service Unavailable"),
        )
        .harp(SLOW, status(503).says("<html>")),
        row(
            "a signed request for it",
            get("/exapps/shut{n}/heartbeat").signed(),
            status(503).has("content-type", "text/plain"),
        )
        .harp(SLOW, status(503).says("<html>")),
        row(
            "a name that does not exist",
            get("/exapps/nowhere{n}/x"),
            status(503).has("content-type", "text/plain"),
        )
        .harp("404 when the name cannot be resolved", refused(404)),
    ]
}
