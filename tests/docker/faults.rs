//! What goes wrong with an engine, and what AppAPI is told: the status its code expects, a text
//! that names the cause, and both before the three seconds are over after which it would give up.

use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use serde_json::json;

use crate::life::{IMAGE, app, name, nothing_secret_in, went_well};
use crate::local::{ADDRESS, Site};
use crate::machine::on_a_machine;
use crate::support::appapi::payload::App;
use crate::support::appapi::{Answer, AppApi, DIALECTS, Failure, Step};
use crate::support::http;
use crate::support::image::{self, Init};

/// AppAPI's patience with a ping.
const AT_ONCE: Duration = Duration::from_secs(3);
const LOCAL: u16 = 24_000;
/// Every call about one app.
const CALLS: [&str; 7] =
    ["exists", "create", "install_certificates", "start", "wait_for_start", "stop", "remove"];

/// An answer that must be there within AppAPI's patience.
async fn at_once(call: impl Future<Output = Result<Answer, Failure>>) -> Answer {
    went_well(tokio::time::timeout(AT_ONCE, call).await.expect("an answer at once"))
}

/// Every call, about an app of this name.
async fn all(appapi: &AppApi, name: &str, image: &str) -> Vec<(&'static str, Answer)> {
    let mut answers = Vec::new();
    for call in CALLS {
        let body = json!({ "name": name, "image_id": image, "system_certs_bundle": null });
        answers.push((call, at_once(appapi.exapp(call, body)).await));
    }
    answers
}

#[tokio::test]
async fn each_trouble_with_an_engine_is_told_at_once() {
    on_a_machine(ADDRESS, |_lan, host| async move {
        let mut site = Site::start(&host).await;
        let appapi = site.appapi(DIALECTS[1], LOCAL);
        let app = app("faulty", 23_300);
        image::import(&site.engine, IMAGE, "faulty-1", Init::Polite).await;

        no_such_container(&appapi, &app).await;
        w19_names_that_lead_elsewhere(&appapi, &site).await;
        bodies_that_are_wrong(&appapi).await;
        no_such_image(&appapi).await;
        a_taken_name_and_a_paused_container(&appapi, &site, &app).await;
        no_such_engine(&site).await;
        site.engine.stop();
        no_engine_any_more(&appapi, &app).await;
        an_engine_that_speaks_something_else(&appapi, &site).await;
        site.engine.start_again().await;
        assert_eq!(at_once(appapi.ping()).await.status, 200, "and it is back without a restart");
        a_body_that_is_too_large(&appapi, &app).await;

        nothing_secret_in(&site.trigon.log(), &[&app]);
    })
    .await;
}

async fn no_such_container(appapi: &AppApi, app: &App) {
    for (call, answer) in all(appapi, &app.id, "x/y:z").await {
        let (status, text) = (answer.status.as_u16(), answer.text());
        match call {
            "exists" => assert_eq!((status, text.as_str()), (200, r#"{"exists":false}"#)),
            "wait_for_start" => {
                assert_eq!(status, 200);
                let said = answer.json();
                assert_eq!(said["started"], false);
                assert_eq!(said["status"], "not_found");
                assert_eq!(said["reason"], "container not found");
            }
            "remove" => assert_eq!(status, 204, "{text}"),
            "create" => assert_eq!(status, 503, "there is no such image either: {text}"),
            _ => assert_eq!(status, 404, "{call}: {text}"),
        }
    }
    for path in ["json", "logs?stdout=true&stderr=true&tail=all"] {
        let path = format!("/containers/{}/{path}", name(app));
        let answer = at_once(appapi.docker("GET", &path)).await;
        assert_eq!(answer.status, 404, "{path}");
        let said = answer.json()["message"].as_str().unwrap_or_default().to_lowercase();
        assert!(said.contains("no such container"), "Docker's own answer: {said}");
    }
}

/// HaRP puts the name into the engine's URL as it is.
async fn w19_names_that_lead_elsewhere(appapi: &AppApi, site: &Site) {
    let other = json!({ "Image": format!("{IMAGE}:faulty-1"), "Cmd": ["/bin/cat"] }).to_string();
    let headers = [("content-type", "application/json")];
    let other = http::request("POST", "/containers/create?name=other", &headers, other);
    assert_eq!(site.engine.call(other).await.status(), 201);
    for name in ["x/../../containers/other", "../other", "x%2f..%2f..%2fother", "x?force=1", ""] {
        for (call, answer) in all(appapi, name, "x/y:z").await {
            assert_eq!(answer.status, 400, "{call} {name:?}: {}", answer.text());
        }
    }
    for path in ["/containers/other/json", "/containers/nc_app_x/../other/json", "/version"] {
        let answer = tokio::time::timeout(AT_ONCE, appapi.docker("GET", path)).await;
        let refused = match answer {
            Ok(Ok(answer)) => answer.status != 200,
            // Parent segments are dropped without an answer.
            Ok(Err(_)) | Err(_) => true,
        };
        assert!(refused, "{path}");
    }
    assert!(site.engine.container("other").await.is_some(), "nobody touched it");
}

async fn bodies_that_are_wrong(appapi: &AppApi) {
    for call in CALLS {
        for body in ["", "{", "[]", "null", r#"{"name":7}"#, r#"{"name":null}"#, "{}"] {
            let answer = at_once(appapi.exapp_raw(call, body.to_owned(), AT_ONCE)).await;
            assert_eq!(answer.status, 400, "{call} {body:?}: {}", answer.text());
        }
    }
}

/// W21: refused without being kept, and without breaking the connection under the caller's hands.
async fn a_body_that_is_too_large(appapi: &AppApi, app: &App) {
    let padding = "-".repeat(17 << 20);
    let body = json!({ "name": app.id, "system_certs_bundle": padding }).to_string();
    let answer = at_once(appapi.exapp_raw("install_certificates", body, AT_ONCE)).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
}

async fn no_such_image(appapi: &AppApi) {
    let body = json!({ "name": "faulty", "image_id": "no/such:image" });
    let answer = at_once(appapi.exapp("create", body)).await;
    assert_eq!(answer.status, 503);
    let text = answer.text();
    assert!(text.contains("no/such:image") && text.contains("24000"), "{text}");
    let answer = at_once(appapi.docker("GET", "/images/no/such:image/json")).await;
    assert_eq!(answer.status, 404);
    let said = answer.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(said.contains("No such image: no/such:image"), "Docker's own answer: {said}");
    let removed = at_once(appapi.exapp("image_remove", json!({ "image_ref": "no/such:image" })));
    let said = removed.await.json();
    assert_eq!((&said["deleted"], &said["reason"]), (&json!(true), &json!("not_found")));
}

async fn a_taken_name_and_a_paused_container(appapi: &AppApi, site: &Site, app: &App) {
    went_well(appapi.take(app, Step::Create).await);
    let again = json!({ "name": app.id, "image_id": app.image });
    let again = at_once(appapi.exapp("create", again)).await;
    assert_eq!(again.status, 409, "{}", again.text());
    let in_use = at_once(appapi.exapp("image_remove", json!({ "image_ref": app.image }))).await;
    assert_eq!(in_use.json()["reason"], "in_use", "{}", in_use.text());

    went_well(appapi.take(app, Step::FirstStart).await);
    let path = format!("/containers/{}/pause", name(app));
    let paused = site.engine.call(http::request("POST", &path, &[], "")).await;
    assert_eq!(paused.status(), 204);
    let waited = at_once(appapi.exapp("wait_for_start", json!({ "name": app.id }))).await.json();
    assert_eq!(waited["started"], false);
    assert_eq!(waited["reason"], "non-recoverable state: paused");
    went_well(appapi.take(app, Step::Remove { data: true }).await);
}

async fn no_such_engine(site: &Site) {
    for port in [24_050, 23_300, 22] {
        let appapi = site.appapi(DIALECTS[1], port);
        let ping = at_once(appapi.ping()).await;
        assert_eq!(ping.status, 503, "{port}: {}", ping.text());
        assert!(ping.text().contains(&port.to_string()), "{}", ping.text());
        for (call, answer) in all(&appapi, "faulty", "x/y:z").await {
            let text = answer.text();
            assert_eq!(answer.status, 503, "{call} {port}: {text}");
            assert!(text.contains(&format!("port {port}")), "{text}");
        }
    }
}

/// W20 and W22: HaRP answered after three seconds, and `exists` with 500.
async fn no_engine_any_more(appapi: &AppApi, app: &App) {
    let ping = at_once(appapi.ping()).await;
    assert_eq!(ping.status, 503, "{}", ping.text());
    for (call, answer) in all(appapi, &app.id, &app.image).await {
        let text = answer.text();
        assert_eq!(answer.status, 503, "{call}: {text}");
        assert!(text.contains("port 24000"), "{text}");
    }
}

/// Something else has taken the engine's place.
async fn an_engine_that_speaks_something_else(appapi: &AppApi, site: &Site) {
    let socket = site.engine.socket();
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
    let listener = UnixListener::bind(&socket).unwrap();
    let imposter = std::thread::spawn(move || {
        // One connection for each call and for the ping, and one more that ends it.
        while let Ok((mut stream, _)) = listener.accept() {
            let mut first = [0];
            if stream.read(&mut first).unwrap_or(0) == 0 {
                return;
            }
            let _ = stream.write_all(b"220 mail.example.org ESMTP\r\n\r\n");
        }
    });
    let ping = at_once(appapi.ping()).await;
    assert!(ping.status.is_server_error(), "{}", ping.status);
    for (call, answer) in all(appapi, "faulty", "x/y:z").await {
        let text = answer.text();
        assert!(matches!(answer.status.as_u16(), 502 | 503), "{call}: {} {text}", answer.status);
        assert!(text.contains("port 24000"), "{text}");
    }
    drop(std::os::unix::net::UnixStream::connect(&socket).unwrap());
    imposter.join().unwrap();
    std::fs::remove_file(&socket).unwrap();
}
