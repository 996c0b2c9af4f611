//! | path | answer |
//! |---|---|
//! | `GET /heartbeat` | `{"status":"ok"}`, to anybody |
//! | `POST /init` | 501: nothing to prepare |
//! | `PUT /enabled?enabled=1` | notes it on the volume |
//! | `/public/` | who this is, and when the volume was first used |
//! | `/public/trust` | which certificates were installed |
//! | `/user/headers` | the headers as received |
//! | `/public/ws` | WebSocket echo |
//!
//! All but the heartbeat insist on AppAPI's signature, as the library of real ExApps does.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::app::App;
use crate::encoding::{from_base64, json};
use crate::http::{Answer, Request};
use crate::{tools, websocket};

pub fn answer(app: &App, request: &Request) -> Answer {
    if request.path() == "/heartbeat" {
        return page(r#"{"status":"ok"}"#.to_owned());
    }
    if !is_signed(app, request) {
        return refuse("401 Unauthorized");
    }
    match (request.method.as_str(), request.path()) {
        ("POST", "/init") => refuse("501 Not Implemented"),
        ("PUT", "/enabled") => enabled(app, request),
        ("GET" | "HEAD", "/public/") => about(app),
        ("GET", "/public/trust") => trust(),
        ("GET", "/public/ws") => websocket::accept(request),
        ("GET", "/user/headers") => headers(request),
        _ => refuse("404 Not Found"),
    }
}

/// Id, version and secret must be this app's own; who the user is does not matter here.
fn is_signed(app: &App, request: &Request) -> bool {
    let signature = from_base64(request.header("authorization-app-api"));
    let secret = signature.as_deref().and_then(|pair| pair.split_once(':')).map(|pair| pair.1);
    secret == Some(&app.secret)
        && request.header("ex-app-id") == app.id
        && request.header("ex-app-version") == app.version
        && !request.header("aa-version").is_empty()
}

fn enabled(app: &App, request: &Request) -> Answer {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    match fs::write(app.data.join("enabled"), query) {
        Ok(()) => page(r#"{"error":""}"#.to_owned()),
        Err(error) => page(format!(r#"{{"error":{}}}"#, json(&error.to_string()))),
    }
}

fn about(app: &App) -> Answer {
    let enabled = fs::read_to_string(app.data.join("enabled")).unwrap_or_default();
    match app.first_start() {
        Ok(first) => page(format!(
            r#"{{"app":{},"version":{},"first_start":{},"enabled":{}}}"#,
            json(&app.id),
            json(&app.version),
            json(&first),
            json(&enabled),
        )),
        Err(_) => refuse("500 Internal Server Error"),
    }
}

fn trust() -> Answer {
    let added = fs::read_dir(tools::ADDED).map_or(0, Iterator::count);
    let bundle = fs::read_to_string(tools::BUNDLE).unwrap_or_default();
    let mode = |file: &str| fs::metadata(format!("/certs/frp/{file}")).map_or(0, |m| m.mode());
    page(format!(
        r#"{{"added":{added},"trusted":{},"frp_key_mode":"{:o}"}}"#,
        bundle.matches("BEGIN CERTIFICATE").count(),
        mode("client.key") & 0o777,
    ))
}

fn headers(request: &Request) -> Answer {
    let pairs = request.headers.iter();
    let pairs: Vec<String> =
        pairs.map(|(name, value)| format!("[{},{}]", json(name), json(value))).collect();
    page(format!(r#"{{"target":{},"headers":[{}]}}"#, json(&request.target), pairs.join(",")))
}

fn page(text: String) -> Answer {
    Answer::Page("200 OK", "application/json", text)
}

fn refuse(status: &'static str) -> Answer {
    Answer::Page(status, "text/plain", format!("{status}\n"))
}
