//! Requests AppAPI signs (contract 1.2, step 6, and 1.4).

use crate::row::{Row, dropped, get, reached, refused, row, send, status, story};

const SIGNATURE: &str = "c2lnbmF0dXJlLW9mLWFwcGFwaQ==";

pub(crate) fn known() -> Vec<Row> {
    let mut rows: Vec<Row> = [
        ("signed: the heartbeat", "/heartbeat"),
        ("signed: an admin route", "/admin"),
        ("signed: a path without a route", "/trigger?providerId=x"),
    ]
    .into_iter()
    .map(|(name, tail)| {
        let send = get(&format!("/exapps/demo{{n}}{tail}")).signed();
        let seen =
            reached(tail).saw("authorization-app-api", SIGNATURE).saw("ex-app-version", "1.2.3");
        row(name, send, seen.saw("aa-version", "32").saw("ex-app-id", "demo{n}").asked(1, 0))
    })
    .collect();
    rows.extend([
        row(
            "signed: init without a body",
            send("POST", "/exapps/demo{n}/init").signed(),
            reached("/init").saw_method("POST"),
        ),
        row(
            "signed: enabled",
            send("PUT", "/exapps/demo{n}/enabled?enabled=1").signed(),
            reached("/enabled?enabled=1").saw_method("PUT"),
        ),
        row("signed: an ExApp without routes", get("/exapps/closed{n}/x").signed(), reached("/x")),
        row(
            "signed: no visitor is asked about",
            get("/exapps/demo{n}/user").signed().session("alice"),
            reached("/user").asked(1, 0),
        ),
        row(
            "signed: AppAPI's own AA-VERSION is replaced",
            get("/exapps/demo{n}/x").signed().with("AA-VERSION", "35.0.0"),
            reached("/x").saw("aa-version", "32"),
        ),
        row(
            "signed: the request id travels on",
            get("/exapps/demo{n}/x").signed().with("AA-REQUEST-ID", "CLI"),
            reached("/x").saw("aa-request-id", "CLI"),
        ),
        row(
            "signed: ex-app-id is not compared with the URL, which wins",
            get("/exapps/demo{n}/x").signed_but("ex-app-id", Some("other")),
            reached("/x").saw("ex-app-id", "demo{n}"),
        ),
        row(
            "signed: the id in the URL as typed",
            get("/exapps/DEMO{n}/x").signed(),
            reached("/x").saw("ex-app-id", "DEMO{n}"),
        ),
        row(
            "signed: the record's port wins over a bad one",
            get("/exapps/demo{n}/x").signed_but("ex-app-port", Some("http")),
            reached("/x"),
        ),
        row(
            "signed: the record's host wins",
            get("/exapps/demo{n}/x").signed_but("ex-app-host", Some("exapp.invalid")),
            reached("/x"),
        ),
        row(
            "signed: listed statuses do not count",
            get("/exapps/listed{n}/status/401").signed(),
            reached("/status/401").status(401),
        ),
    ]);
    rows
}

pub(crate) fn announced() -> Vec<Row> {
    vec![
        row(
            "an ExApp Nextcloud does not describe yet is where AppAPI says",
            send("POST", "/exapps/fresh{n}/init").signed(),
            reached("/init").saw("ex-app-id", "fresh{n}").saw("ex-app-version", "1.2.3"),
        ),
        story("so it is when Nextcloud fails")
            .change(|stage, n| stage.meta_says(&format!("outage{n}"), 500, "text/html", "<html>"))
            .then(get("/exapps/outage{n}/heartbeat").signed(), reached("/heartbeat")),
        row(
            "announced: a port that is no number",
            get("/exapps/fresh{n}/x").signed_but("ex-app-port", Some("http")),
            status(503).has("content-type", "text/plain"),
        ),
        row(
            "announced: an empty port",
            get("/exapps/fresh{n}/x").signed_but("ex-app-port", Some("")),
            status(503),
        ),
        row(
            "announced: port 70000",
            get("/exapps/fresh{n}/x").signed_but("ex-app-port", Some("70000")),
            status(503),
        ),
        row(
            "announced: spaces around the port",
            get("/exapps/fresh{n}/x").signed_but("ex-app-port", Some("  {port} ")),
            reached("/x"),
        ),
        row(
            "announced: an empty host",
            get("/exapps/fresh{n}/x").signed_but("ex-app-host", Some("")),
            refused(404),
        ),
    ]
}

pub(crate) fn broken() -> Vec<Row> {
    let mut rows = vec![
        row(
            "an empty signature is none: routes apply",
            get("/exapps/demo{n}/public").signed_but("authorization-app-api", Some("")),
            reached("/public").by(""),
        ),
        row(
            "an empty signature opens no internal endpoint",
            get("/exapps/demo{n}/init").signed_but("authorization-app-api", Some("")),
            dropped(),
        )
        .strikes(1),
    ];
    for (name, without) in [
        ("without ex-app-version it is not signed", "ex-app-version"),
        ("without ex-app-id it is not signed", "ex-app-id"),
        ("without ex-app-host it is not signed", "ex-app-host"),
        ("without ex-app-port it is not signed", "ex-app-port"),
        ("without a signature it is not signed", "authorization-app-api"),
        ("without the key it is not signed", "harp-shared-key"),
    ] {
        rows.push(
            row(name, get("/exapps/demo{n}/heartbeat").signed_but(without, None), dropped())
                .strikes(1),
        );
    }
    rows.push(
        story("five of six headers on a public route")
            .then(
                get("/exapps/demo{n}/public").signed_but("ex-app-port", None),
                reached("/public").by(""),
            )
            .then(get("/exapps/demo{n}/admin").signed_but("ex-app-id", None), refused(403))
            .strikes(1),
    );
    rows
}

/// Behind a proxy it was the proxy that got banned (weakness W5).
pub(crate) fn wrong_keys() -> Vec<Row> {
    const PEER: &str = "the TCP peer is charged, not the client (W5)";
    vec![
        row(
            "a signed request with a wrong key is dropped, and the client charged",
            get("/exapps/demo{n}/public").signed_but("harp-shared-key", Some("guess")),
            dropped().asked(0, 0),
        )
        .strikes(1)
        .harp_strikes(PEER, Some(0)),
        row(
            "so it is with an empty key",
            get("/exapps/demo{n}/public").signed_but("harp-shared-key", Some("")),
            dropped().asked(0, 0),
        )
        .strikes(1)
        .harp_strikes(PEER, Some(0)),
    ]
}

/// Records grow old (weakness W16).
pub(crate) fn stale() -> Vec<Row> {
    const EVER: &str = "records never expire (W16)";
    vec![
        story("a newer version in a signed request fetches the record again")
            .then(get("/exapps/demo{n}/public"), reached("/public").saw("ex-app-version", "1.2.3"))
            .change(|stage, n| {
                stage.edit(&format!("demo{n}"), |app| app.exapp_version = "2.0.0".into())
            })
            .then(
                get("/exapps/demo{n}/x").signed_but("ex-app-version", Some("2.0.0")),
                reached("/x").saw("ex-app-version", "2.0.0").asked(1, 0),
            )
            .harp(EVER, reached("/x").saw("ex-app-version", "1.2.3").asked(0, 0)),
        story("an agreeing signed request does not")
            .then(get("/exapps/demo{n}/public"), reached("/public"))
            .then(get("/exapps/demo{n}/x").signed(), reached("/x").asked(0, 0)),
    ]
}
