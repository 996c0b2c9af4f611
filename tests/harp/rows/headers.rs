//! What an ExApp is told beside the visitor's own words, and what Nextcloud is told (contract 1.4
//! and 2.2).

use crate::row::{Row, get, raw, reached, row, send};

pub(crate) fn towards_the_exapp() -> Vec<Row> {
    const HOPS: &str = "headers of the connection are passed on";
    vec![
        row(
            "a visitor cannot speak for the proxy",
            get("/exapps/demo{n}/public").all(&[
                ("EX-APP-ID", "forged"),
                ("ex-app-id", "forged"),
                ("EX-APP-VERSION", "9.9"),
                ("AUTHORIZATION-APP-API", "Zm9yZ2Vk"),
                ("AA-VERSION", "1"),
            ]),
            reached("/public")
                .by("")
                .saw("ex-app-id", "demo{n}")
                .saw("ex-app-version", "1.2.3")
                .saw("aa-version", "32"),
        ),
        row(
            "nor take the proxy's words away through Connection",
            get("/exapps/demo{n}/public")
                .with("Connection", "EX-APP-ID, AUTHORIZATION-APP-API, close"),
            reached("/public").by("").saw("ex-app-id", "demo{n}"),
        ),
        row(
            "host, cookies and authorization arrive",
            get("/exapps/demo{n}/public")
                .all(&[("Cookie", "a=b; c=d"), ("Authorization", "Bearer x")]),
            reached("/public")
                .saw("host", "cloud.example")
                .saw("cookie", "a=b; c=d")
                .saw("authorization", "Bearer x"),
        ),
        row(
            "forwarding headers arrive as they came and none are added",
            get("/exapps/demo{n}/public").with("X-Forwarded-Proto", "https"),
            reached("/public")
                .saw("x-forwarded-for", "{client}")
                .saw("x-forwarded-proto", "https")
                .saw_no(&["x-real-ip", "x-forwarded-host", "x-origin-ip", "via", "forwarded"]),
        ),
        row(
            "accept-encoding arrives",
            get("/exapps/demo{n}/public").with("Accept-Encoding", "br"),
            reached("/public").saw("accept-encoding", "br"),
        ),
        row(
            "an unknown header arrives",
            get("/exapps/demo{n}/public").with("X-Anything", "a, b;c"),
            reached("/public").saw("x-anything", "a, b;c"),
        ),
        row(
            "repeated headers stay repeated",
            get("/exapps/demo{n}/public").all(&[("X-Two", "1"), ("X-Two", "2")]),
            reached("/public").saw("x-two", "1|2"),
        ),
        row(
            "headers of the connection end here",
            get("/exapps/demo{n}/public").all(&[
                ("Connection", "keep-alive, X-Hop"),
                ("X-Hop", "1"),
                ("Keep-Alive", "timeout=5"),
            ]),
            reached("/public").saw_no(&["x-hop", "keep-alive", "connection"]),
        )
        .harp(HOPS, reached("/public").saw("x-hop", "1")),
        row(
            "credentials for a proxy end here",
            get("/exapps/demo{n}/public").with("Proxy-Authorization", "Basic eDp5"),
            reached("/public").saw_no(&["proxy-authorization"]),
        )
        .harp(HOPS, reached("/public").saw("proxy-authorization", "Basic eDp5")),
        row(
            "TE says that trailers are welcome",
            get("/exapps/demo{n}/public").all(&[("TE", "trailers"), ("Connection", "TE")]),
            reached("/public").saw("te", "trailers"),
        ),
        row(
            "an empty content type ends here",
            send("POST", "/exapps/demo{n}/public").with("Content-Type", ""),
            reached("/public").saw_no(&["content-type"]),
        )
        .harp(
            "passed on, which some ExApps answer 400",
            reached("/public").saw("content-type", ""),
        ),
        row(
            "a content type arrives",
            send("POST", "/exapps/demo{n}/public").with("Content-Type", "text/csv").body("a,b"),
            reached("/public").saw("content-type", "text/csv").saw("content-length", "3"),
        ),
        row(
            "an HTTP/1.0 visitor",
            raw(
                "GET /exapps/open{n}/x HTTP/1.0\r\nHost: cloud.example\r\nX-Forwarded-For: {client}\r\n\r\n",
            ),
            reached("/x").saw("host", "cloud.example"),
        ),
        row(
            "a missing host is accepted of an HTTP/1.0 visitor",
            raw("GET /exapps/open{n}/x HTTP/1.0\r\nX-Forwarded-For: {client}\r\n\r\n"),
            reached("/x").saw("host", ""),
        )
        .harp("the ExApp is spoken to in HTTP/1.0 without a host", reached("/x").saw_no(&["host"])),
    ]
}

/// The shared key makes its holder the administrator of every ExApp (weakness W3).
pub(crate) fn secrets() -> Vec<Row> {
    const W3: &str = "the shared key reaches the ExApp (W3)";
    const OURS: [&str; 3] = ["harp-shared-key", "ex-app-host", "ex-app-port"];
    vec![
        row(
            "a signed request leaves the key here",
            get("/exapps/demo{n}/x").signed(),
            reached("/x").saw_no(&OURS),
        )
        .harp(W3, reached("/x").saw("harp-shared-key", "{key}").saw("ex-app-port", "{port}")),
        row(
            "an ordinary one with the key does too",
            get("/exapps/demo{n}/public").key(),
            reached("/public").saw_no(&OURS),
        )
        .harp(W3, reached("/public").saw("harp-shared-key", "{key}")),
        row(
            "a wrong key does not arrive either",
            get("/exapps/demo{n}/public").with("harp-shared-key", "guess"),
            reached("/public").saw_no(&OURS),
        )
        .harp(W3, reached("/public").saw("harp-shared-key", "guess")),
    ]
}

/// Copied headers harmed the call they were copied to (weakness W14).
pub(crate) fn towards_nextcloud() -> Vec<Row> {
    const ALL: &str = "every header of the visitor is copied (W14)";
    vec![
        row(
            "Nextcloud is told what identifies a visitor",
            get("/exapps/demo{n}/public").session("alice").all(&[
                ("User-Agent", "Browser/1"),
                ("Accept-Language", "de"),
                ("requesttoken", "r"),
                ("OCS-APIRequest", "true"),
            ]),
            reached("/public")
                .asked_with("harp-shared-key", "{key}")
                .asked_with("user-agent", "Browser/1")
                .asked_with("accept-language", "de")
                .asked_with("requesttoken", "r")
                .asked_with("ocs-apirequest", "true")
                .asked_with("x-forwarded-for", "{client}"),
        ),
        row(
            "and nothing that concerns another message",
            send("POST", "/exapps/demo{n}/echo")
                .session("alice")
                .all(&[
                    ("Transfer-Encoding", "chunked"),
                    ("Range", "bytes=0-"),
                    ("If-None-Match", "x"),
                    ("X-Other", "1"),
                ])
                .body("0\r\n\r\n"),
            reached("/echo").asked_without(&[
                "transfer-encoding",
                "content-length",
                "range",
                "if-none-match",
                "x-other",
                "ex-app-id",
            ]),
        )
        .not_for_harp("Nextcloud would wait for the body of a GET (W14)"),
        row(
            "a range is the ExApp's business",
            get("/exapps/demo{n}/public").session("alice").with("Range", "bytes=0-"),
            reached("/public").saw("range", "bytes=0-").asked_without(&["range"]),
        )
        .harp(ALL, reached("/public").asked_with("range", "bytes=0-")),
        row(
            "cookie lines are joined",
            get("/exapps/demo{n}/public")
                .with("Cookie", "oc_sessionPassphrase=passphrase-of-alice-{n}")
                .with("Cookie", "nc_sameSiteCookielax=true"),
            reached("/public").by("alice").asked_with(
                "cookie",
                "oc_sessionPassphrase=passphrase-of-alice-{n}; nc_sameSiteCookielax=true",
            ),
        )
        .harp(
            "only the last line is copied (W14)",
            reached("/public").by("").asked_with("cookie", "nc_sameSiteCookielax=true"),
        ),
        row(
            "a wrong key of the visitor is replaced by ours",
            get("/exapps/demo{n}/public").session("alice").with("harp-shared-key", "guess"),
            reached("/public").by("alice").asked_with("harp-shared-key", "{key}"),
        ),
        row(
            "the true client is named, whatever the list said",
            get("/exapps/demo{n}/public")
                .session("alice")
                .with("X-Forwarded-For", "{decoy}, {client}"),
            reached("/public").asked_with("x-forwarded-for", "{client}"),
        )
        .harp(ALL, reached("/public").asked_with("x-forwarded-for", "{decoy}, {client}")),
    ]
}

/// One byte above 0x7f in any header held a request for half a minute (weakness W13).
pub(crate) fn beyond_ascii() -> Vec<Row> {
    const HANGS: &str = "its agent fails on the byte and HAProxy waits 30 s (W13)";
    let head = |line: &[u8]| {
        let start = b"GET /exapps/demo{n}/public HTTP/1.1\r\nHost: cloud.example\r\nX-Forwarded-For: {client}\r\n";
        [&start[..], line, b"\r\n\r\n"].concat()
    };
    vec![
        row("a byte beyond ASCII in a header arrives", raw(head(b"X-Name: caf\xe9")), reached("/public")).not_for_harp(HANGS),
        row("UTF-8 in a header arrives", raw(head("X-Name: caf\u{e9}".as_bytes())), reached("/public")).not_for_harp(HANGS),
        row("in a cookie", raw(head(b"Cookie: name=\xff; oc_sessionPassphrase=\xfe")), reached("/public").by("")).not_for_harp(HANGS),
        row("in the shared key it is a wrong key", raw(head(b"harp-shared-key: \xe9")), reached("/public")).not_for_harp(HANGS),
        row("in front of the address a proxy appended", raw([
            &b"GET /exapps/demo{n}/none HTTP/1.1\r\nHost: cloud.example\r\nX-Forwarded-For: \xe9\xe9, {client}\r\n\r\n"[..],
        ].concat()), crate::row::refused(404)).strikes(1).not_for_harp(HANGS),
    ]
}
