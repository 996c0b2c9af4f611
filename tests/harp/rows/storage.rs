//! Nextcloud pushes and takes back records (contract 3.1).

use crate::row::{Row, Send, get, reached, refused, row, send, status, story};

const RECORD: &str = r#"{"exapp_token":"secret-of-the-exapp","exapp_version":"3.0.0","host":"{host}","port":{port},"routes":[{"url":"^/pushed","access_level":0,"bruteforce_protection":[]}]}"#;

fn push(id: &str) -> Send {
    send("POST", &format!("/exapps/app_api/exapp_storage/{id}{{n}}"))
        .key()
        .with("Content-Type", "application/json")
}

fn take_back(id: &str) -> Send {
    send("DELETE", &format!("/exapps/app_api/exapp_storage/{id}{{n}}")).key()
}

pub(crate) fn pushes() -> Vec<Row> {
    vec![
        story("a pushed record is in force at once, and nobody is asked")
            .then(push("pushed").body(RECORD), status(204).body("").asked(0, 0))
            .then(
                get("/exapps/pushed{n}/pushed"),
                reached("/pushed").by("").saw("ex-app-version", "3.0.0").asked(0, 0),
            ),
        story("a push replaces what was fetched")
            .then(get("/exapps/demo{n}/public"), reached("/public").asked(1, 0))
            .then(push("demo").body(RECORD), status(204))
            .then(get("/exapps/demo{n}/public"), refused(404))
            .then(get("/exapps/demo{n}/pushed"), reached("/pushed").asked(0, 0))
            .strikes(1),
        story("a push ends the memory that there was none")
            .then(get("/exapps/late{n}/pushed").key(), refused(404).asked(1, 0))
            .then(push("late").body(RECORD), status(204))
            .then(get("/exapps/late{n}/pushed"), reached("/pushed").asked(0, 0)),
        story("the id is put in lower case")
            .then(push("Mixed").body(RECORD), status(204))
            .then(get("/exapps/mixed{n}/pushed"), reached("/pushed").asked(0, 0)),
        story("no content type is needed")
            .then(
                send("POST", "/exapps/app_api/exapp_storage/plain{n}").key().body(RECORD),
                status(204),
            )
            .then(get("/exapps/plain{n}/pushed"), reached("/pushed")),
        story("routes may be missing")
            .then(
                push("bare").body(
                    r#"{"exapp_token":"t","exapp_version":"1","host":"{host}","port":{port}}"#,
                ),
                status(204),
            )
            .then(get("/exapps/bare{n}/x"), refused(404).asked(0, 0))
            .strikes(1),
        story("a record can be taken back once")
            .then(push("gone").body(RECORD), status(204))
            .then(take_back("gone"), status(204).body(""))
            .then(take_back("gone"), status(404)),
        row("what was never there cannot be taken back", take_back("never"), status(404)),
    ]
}

/// What is pushed before a restart, and can be taken back after it because it is still there.
pub(crate) fn over_a_restart() -> (Row, Row) {
    let lasting = |method| send(method, "/exapps/app_api/exapp_storage/lasting").key();
    (
        row("a record is pushed", lasting("POST").body(RECORD), status(204)),
        row("it is still there", lasting("DELETE"), status(204)),
    )
}

/// A push and a removal are newer than whatever was asked before them (weakness W16).
pub(crate) fn removals() -> Vec<Row> {
    vec![
        story("what was taken back is gone, though Nextcloud describes disabled ExApps too")
            .then(get("/exapps/demo{n}/public"), reached("/public").asked(1, 0))
            .then(take_back("demo"), status(204))
            .then(get("/exapps/demo{n}/public"), refused(404).asked(0, 0))
            .harp("it is fetched again, and served (W16)", reached("/public").asked(1, 0))
            .then(get("/exapps/demo{n}/heartbeat").signed(), reached("/heartbeat")),
        story("a push after a removal counts")
            .then(push("back").body(RECORD), status(204))
            .then(take_back("back"), status(204))
            .then(push("back").body(RECORD), status(204))
            .then(get("/exapps/back{n}/pushed"), reached("/pushed").asked(0, 0)),
    ]
}

pub(crate) fn malformed() -> Vec<Row> {
    const FAULT: &str = "bodies that are no JSON are a fault (W22)";
    let bad = |name, body: &'static str| {
        story(name)
            .then(push("bad").body(body), status(400))
            .then(get("/exapps/bad{n}/pushed").key(), refused(404).asked(1, 0))
    };
    let no_json = |name, body: &'static str| {
        row(name, push("bad").body(body), status(400)).harp(FAULT, status(500))
    };
    vec![
        no_json("a push that is no JSON", "{"),
        no_json("a push without a body", ""),
        no_json("a push of text", "not json"),
        bad("a push of a list", "[]"),
        bad("a push of null", "null"),
        bad(
            "a push without a token",
            r#"{"exapp_version":"1","host":"h","port":23000,"routes":[]}"#,
        ),
        bad(
            "a push without a version",
            r#"{"exapp_token":"t","host":"h","port":23000,"routes":[]}"#,
        ),
        bad(
            "a push without a host",
            r#"{"exapp_token":"t","exapp_version":"1","port":23000,"routes":[]}"#,
        ),
        bad(
            "a push without a port",
            r#"{"exapp_token":"t","exapp_version":"1","host":"h","routes":[]}"#,
        ),
        bad(
            "a push with a word for a port",
            r#"{"exapp_token":"t","exapp_version":"1","host":"h","port":"web","routes":[]}"#,
        ),
        bad(
            "a push with an object for routes",
            r#"{"exapp_token":"t","exapp_version":"1","host":"h","port":23000,"routes":{}}"#,
        ),
        bad(
            "a push with a number for a token",
            r#"{"exapp_token":7,"exapp_version":"1","host":"h","port":23000,"routes":[]}"#,
        ),
        row(
            "a push with a wrong key",
            send("POST", "/exapps/app_api/exapp_storage/demo{n}")
                .with("harp-shared-key", "guess")
                .body(RECORD),
            refused(401),
        )
        .strikes(1),
        row(
            "a push with a wrong method",
            send("PUT", "/exapps/app_api/exapp_storage/demo{n}").key().body(RECORD),
            status(405),
        ),
        row(
            "a push to no id",
            send("POST", "/exapps/app_api/exapp_storage/").key().body(RECORD),
            status(404),
        ),
        row(
            "a push to a path",
            send("POST", "/exapps/app_api/exapp_storage/a/b").key().body(RECORD),
            status(404),
        ),
    ]
}

/// HaRP's limit of 1 MiB broke whatever is larger; 16 MiB are enough (weakness W21).
pub(crate) fn sizes() -> Vec<Row> {
    let padded = |length: usize| {
        let filler = "x".repeat(length);
        RECORD.replacen("\"exapp_token\"", &format!("\"filler\":\"{filler}\",\"exapp_token\""), 1)
    };
    vec![
        row("a body of 2 MiB", push("large").body(padded(2 << 20)), status(204))
            .harp("bodies end at 1 MiB (W21)", status(413)),
        row("a body above 16 MiB", push("larger").body(padded((16 << 20) + 1)), status(413)),
    ]
}
