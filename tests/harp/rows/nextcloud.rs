//! Nextcloud answers oddly, or not at all (contract 2).

use crate::row::{Expect, Row, get, reached, refused, row, status, story};
use crate::stage::Stage;

const JSON: &str = "application/json; charset=utf-8";
const HTML: &str = "text/html; charset=UTF-8";

/// Trigon's answer when it cannot be told whether somebody may pass.
fn cannot_tell() -> Expect {
    status(503)
        .body("503 Service Unavailable")
        .has("content-type", "text/plain")
        .has("retry-after", "2")
}

/// A record as text, its port and routes as the row wants them.
fn record(stage: &Stage, port: &str, routes: &str) -> String {
    let host = &stage.recorded.0;
    format!(
        r#"{{"exapp_token":"secret-of-the-exapp","exapp_version":"1.2.3","host":"{host}","port":{port},"routes":{routes},"unknown":[1]}}"#
    )
}

fn recorded(stage: &Stage, n: &str, routes: &str) {
    let port = stage.recorded.1.to_string();
    stage.meta_says(&format!("demo{n}"), 200, JSON, &record(stage, &port, routes));
}

fn meta(name: &'static str, change: fn(&Stage, &str), expect: Expect) -> Row {
    story(name).change(change).then(get("/exapps/demo{n}/public"), expect)
}

pub(crate) fn records() -> Vec<Row> {
    const WHOLE: &str = "one malformed route costs the app its record";
    let odd = |name, change, expect| meta(name, change, expect).harp(WHOLE, refused(404));
    vec![
        meta(
            "numbers may be written as text",
            |stage, n| {
                let port = format!(r#""{}""#, stage.recorded.1);
                let routes =
                    r#"[{"url":"^/public","access_level":"0","bruteforce_protection":["401"]}]"#;
                stage.meta_says(&format!("demo{n}"), 200, JSON, &record(stage, &port, routes));
            },
            reached("/public"),
        ),
        meta(
            "unknown keys in a route are nothing",
            |stage, n| {
                recorded(
                    stage,
                    n,
                    r#"[{"url":"^/public","access_level":0,"bruteforce_protection":[],"verb":"GET"}]"#,
                )
            },
            reached("/public"),
        ),
        meta("no routes: nothing is open", |stage, n| recorded(stage, n, "[]"), refused(404))
            .strikes(1),
        odd(
            "a route without a pattern is left out",
            |stage, n| {
                recorded(
                    stage,
                    n,
                    r#"[{"access_level":0},{"url":"^/public","access_level":0,"bruteforce_protection":[]}]"#,
                )
            },
            reached("/public"),
        ),
        odd(
            "an unknown level is for administrators",
            |stage, n| {
                recorded(
                    stage,
                    n,
                    r#"[{"url":"^/public","access_level":7,"bruteforce_protection":[]}]"#,
                )
            },
            refused(403),
        )
        .strikes(1)
        .harp_strikes(WHOLE, Some(0)),
        odd(
            "an unreadable status is left out",
            |stage, n| {
                recorded(
                    stage,
                    n,
                    r#"[{"url":"^/public","access_level":0,"bruteforce_protection":["x"]}]"#,
                )
            },
            reached("/public"),
        ),
        story("a port that cannot be")
            .change(|stage, n| stage.edit(&format!("demo{n}"), |app| app.port = 0))
            .then(get("/exapps/demo{n}/public"), status(503))
            .strikes(0),
    ]
}

/// Nobody must be punished, or sent away for good, because Nextcloud is ill (weakness W15).
pub(crate) fn failures() -> Vec<Row> {
    const GONE: &str = "404 when Nextcloud fails (W15)";
    const LOGIN: &str = "401 on every route when Nextcloud fails (W15)";
    let meta =
        |name, change| meta(name, change, cannot_tell().asked(1, 0)).harp(GONE, refused(404));
    let user = |name, path: &str, change, expect: Expect| {
        let send = get(&format!("/exapps/demo{{n}}{path}")).session("alice");
        story(name).change(change).then(send, expect).harp(LOGIN, refused(401))
    };
    vec![
        meta("exapp-meta: a fault", |stage, n| {
            stage.meta_says(&format!("demo{n}"), 500, HTML, "<html>")
        }),
        meta("exapp-meta: maintenance", |stage, n| {
            stage.meta_says(&format!("demo{n}"), 503, HTML, "<html>")
        }),
        meta("exapp-meta: forbidden", |stage, n| {
            stage.meta_says(&format!("demo{n}"), 403, JSON, "{}")
        }),
        meta("exapp-meta: a login page", |stage, n| {
            stage.meta_says(&format!("demo{n}"), 200, HTML, "<html>")
        }),
        meta("exapp-meta: no JSON", |stage, n| {
            stage.meta_says(&format!("demo{n}"), 200, JSON, "{")
        }),
        meta("exapp-meta: another shape", |stage, n| {
            stage.meta_says(&format!("demo{n}"), 200, JSON, "[1]")
        }),
        meta("exapp-meta: no port", |stage, n| {
            stage.meta_says(
                &format!("demo{n}"),
                200,
                JSON,
                r#"{"exapp_token":"t","exapp_version":"1","host":"h"}"#,
            )
        }),
        row("user-info: a fault, public route", get("/"), refused(404)).strikes(1),
        user(
            "user-info: a fault on a public route is nobody",
            "/public",
            |stage, n| stage.user_says(&format!("demo{n}"), 500, HTML, "<html>"),
            reached("/public").by("").asked(1, 1),
        ),
        user(
            "user-info: a fault on a user route",
            "/user",
            |stage, n| stage.user_says(&format!("demo{n}"), 500, HTML, "<html>"),
            cannot_tell(),
        ),
        user(
            "user-info: maintenance on a user route",
            "/user",
            |stage, n| stage.user_says(&format!("demo{n}"), 503, JSON, "{}"),
            cannot_tell(),
        ),
        user(
            "user-info: a login page on a user route",
            "/user",
            |stage, n| stage.user_says(&format!("demo{n}"), 200, HTML, "<html>"),
            cannot_tell(),
        ),
        user(
            "user-info: no JSON on a public route",
            "/public",
            |stage, n| stage.user_says(&format!("demo{n}"), 200, JSON, "{"),
            reached("/public").by(""),
        ),
        user(
            "user-info: a level that does not exist",
            "/user",
            |stage, n| {
                stage.user_says(
                    &format!("demo{n}"),
                    200,
                    JSON,
                    r#"{"user_id":"x","access_level":7}"#,
                )
            },
            cannot_tell(),
        ),
        user(
            "user-info: no name",
            "/user",
            |stage, n| {
                stage.user_says(
                    &format!("demo{n}"),
                    200,
                    JSON,
                    r#"{"user_id":null,"access_level":1}"#,
                )
            },
            cannot_tell(),
        ),
        row(
            "cookies that do not suffice to tell, public route",
            get("/exapps/demo{n}/public")
                .with("cookie", "oc_sessionPassphrase=passphrase-of-alice-{n}"),
            reached("/public").by("").asked(1, 1),
        )
        .harp("follows the redirect ten times, then 401", refused(401)),
        row(
            "cookies that do not suffice to tell, user route",
            get("/exapps/demo{n}/user")
                .with("cookie", "oc_sessionPassphrase=passphrase-of-alice-{n}"),
            cannot_tell().asked(1, 1),
        )
        .harp("follows the redirect ten times, then 401", refused(401)),
    ]
}

pub(crate) fn refusals() -> Vec<Row> {
    let user = |name, change, path: &str, expect: Expect| {
        story(name)
            .change(change)
            .then(get(&format!("/exapps/demo{{n}}{path}")).session("alice"), expect)
    };
    vec![
        user(
            "user-info 401 is nobody",
            |stage, n| stage.user_says(&format!("demo{n}"), 401, JSON, "{}"),
            "/public",
            reached("/public").by(""),
        ),
        user(
            "user-info 403 is nobody",
            |stage, n| stage.user_says(&format!("demo{n}"), 403, JSON, "{}"),
            "/user",
            refused(403),
        )
        .strikes(1),
        user(
            "user-info 429 is nobody",
            |stage, n| stage.user_says(&format!("demo{n}"), 429, JSON, "{}"),
            "/public",
            reached("/public").by(""),
        ),
        meta(
            "exapp-meta 404: unknown",
            |stage, n| stage.meta_says(&format!("demo{n}"), 404, JSON, "{}"),
            refused(404),
        )
        .strikes(1),
    ]
}

pub(crate) fn caches() -> Vec<Row> {
    vec![
        story("a record is fetched once")
            .then(get("/exapps/demo{n}/public"), reached("/public").asked(1, 0))
            .then(get("/exapps/demo{n}/exact"), reached("/exact").asked(0, 0)),
        story("that there is none is remembered")
            .then(get("/exapps/ghost{n}/x").key(), refused(404).asked(1, 0))
            .then(get("/exapps/ghost{n}/x").key(), refused(404).asked(0, 0)),
        story("a fault is not remembered")
            .change(|stage, n| stage.meta_says(&format!("demo{n}"), 500, HTML, "<html>"))
            .then(get("/exapps/demo{n}/public"), cannot_tell().asked(1, 0))
            .harp("404 when Nextcloud fails (W15)", refused(404).asked(1, 0))
            .change(|stage, n| stage.heal(&format!("demo{n}")))
            .then(get("/exapps/demo{n}/public"), reached("/public").asked(1, 0)),
        story("a known record survives an outage")
            .then(get("/exapps/demo{n}/public"), reached("/public"))
            .change(|stage, n| stage.meta_says(&format!("demo{n}"), 503, HTML, "<html>"))
            .then(get("/exapps/demo{n}/public"), reached("/public").asked(0, 0)),
    ]
}
