//! Nextcloud's web nodes behind a real `trigon run`: three PHP servers that share a data folder
//! and a Redis, killed, frozen, drained and put into maintenance under load; WebDAV, chunked
//! uploads and headers as clients meet them. Needs php-cli, php-redis and redis-server;
//! `tests/run --web` brings them.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot set itself up fails, and shows the logs of what it started"
)]

#[path = "../support/mod.rs"]
mod support;

mod client;
mod rig;
mod rude;
mod upload;
mod webdav;

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Ask, Load, Speaks, ask, ask_from, json, request};
use rig::{Extras, Rig};
use rustix::process::Signal;
use tokio::time::sleep;
use trigon::balance::Admin;
use trigon::balance::roster::Condition;

const QUERY: &str = r#"<?xml version="1.0"?><d:propfind xmlns:d="DAV:"><d:allprop/></d:propfind>"#;

/// What sync clients do most, and nothing that changes anything.
const IDEMPOTENT: &[Ask] = &[
    ("GET", "/whoami?{}", "", 200),
    ("PROPFIND", "/remote.php/dav/files/alice/", QUERY, 207),
    ("GET", "/slow?ms=20&{}", "", 200),
    ("HEAD", "/whoami", "", 200),
];

/// The same with uploads in between.
const EVERYTHING: &[Ask] = &[
    ("GET", "/whoami?{}", "", 200),
    ("PUT", "/remote.php/dav/files/alice/{}", "content", 201),
    ("PROPFIND", "/remote.php/dav/files/alice/", QUERY, 207),
    ("GET", "/slow?ms=50&{}", "", 200),
];

#[tokio::test]
async fn a_web_node_that_dies_fails_no_idempotent_request() {
    let mut rig = Rig::start(Extras::default()).await;
    let load = Load::start(rig.front, 200, IDEMPOTENT);
    sleep(Duration::from_secs(2)).await;
    rig.kill(1);
    rig.wait_for("web2", Condition::Down).await;
    sleep(Duration::from_secs(2)).await;
    rig.start_node(1);
    rig.wait_for("web2", Condition::Up).await;
    sleep(Duration::from_secs(1)).await;
    let harvest = load.finish().await;
    eprintln!(
        "a node killed and started: {} requests, slowest {:?}",
        harvest.sent, harvest.slowest
    );
    assert_eq!(harvest.failed, [""; 0]);
    assert!(harvest.sent >= 800, "{}", harvest.sent);
}

#[tokio::test]
async fn a_frozen_web_node_loses_its_requests_to_the_others() {
    let rig = Rig::start(Extras { config: "retry_percent = 100", ..Extras::default() }).await;
    let load = Load::start(rig.front, 100, IDEMPOTENT);
    sleep(Duration::from_secs(1)).await;
    rig.signal(0, Signal::STOP);
    rig.wait_for("web1", Condition::Down).await;
    sleep(Duration::from_secs(1)).await;
    rig.signal(0, Signal::CONT);
    rig.wait_for("web1", Condition::Up).await;
    let harvest = load.finish().await;
    eprintln!("a node frozen: {} requests, slowest {:?}", harvest.sent, harvest.slowest);
    assert_eq!(harvest.failed, [""; 0]);
}

#[tokio::test]
async fn a_rolling_restart_in_order_fails_nothing_at_all() {
    let mut rig = Rig::start(Extras::default()).await;
    let load = Load::start(rig.front, 100, EVERYTHING);
    sleep(Duration::from_secs(1)).await;
    for (at, name) in ["web1", "web2", "web3"].into_iter().enumerate() {
        rig.order(name, Admin::Drain).await;
        support::eventually("the node is idle", || async {
            rig.member(name).await.filter(|member| member.in_flight == 0)
        })
        .await;
        rig.kill(at);
        rig.wait_for(name, Condition::Down).await;
        rig.start_node(at);
        rig.wait_for(name, Condition::Up).await;
        rig.order(name, Admin::Ready).await;
        sleep(Duration::from_secs(1)).await;
    }
    let harvest = load.finish().await;
    eprintln!("a rolling restart: {} requests, slowest {:?}", harvest.sent, harvest.slowest);
    assert_eq!(harvest.failed, [""; 0]);
}

#[tokio::test]
async fn maintenance_mode_is_told_to_clients_and_keeps_every_node_in() {
    let rig = Rig::start(Extras::default()).await;
    std::fs::write(rig.data().join("maintenance"), "").unwrap();
    for method in ["GET", "PROPFIND", "PUT"] {
        for _ in 0..10 {
            let asked = request(method, "/remote.php/dav/files/alice/x", &[], "");
            let answer = ask(rig.front, Speaks::Http1, asked).await.unwrap();
            assert_eq!(answer.status(), 503);
            assert_eq!(answer.headers()["x-nextcloud-maintenance-mode"], "1");
            assert_eq!(answer.headers()["retry-after"], "120");
        }
    }
    support::eventually("the checks see it", || async {
        rig.member("web1").await.filter(|member| member.note.contains("maintenance"))
    })
    .await;
    for name in ["web1", "web2", "web3"] {
        let member = rig.member(name).await.unwrap();
        assert_eq!((member.health, member.failed), (Condition::Up, 0), "{name}");
    }
    std::fs::remove_file(rig.data().join("maintenance")).unwrap();
    let answer = ask(rig.front, Speaks::Http1, request("GET", "/whoami", &[], "")).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_session_goes_on_at_every_node() {
    let rig = Rig::start(Extras::default()).await;
    let first = ask(rig.front, Speaks::Http1, request("GET", "/count", &[], "")).await.unwrap();
    let cookie = first.headers()["set-cookie"].to_str().unwrap().to_owned();
    let cookie = cookie.split(';').next().unwrap();
    let mut nodes = BTreeMap::new();
    for expected in 2..=12 {
        let asked = request("GET", "/count", &[("cookie", cookie)], "");
        let counted = json(&ask(rig.front, Speaks::Http1, asked).await.unwrap());
        assert_eq!(counted["count"], expected, "{counted}");
        *nodes.entry(counted["node"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(nodes.len(), 3, "{nodes:?}");
}

#[tokio::test]
async fn the_web_node_learns_who_asks_and_a_stranger_cannot_lie() {
    let rig = Rig::start(Extras::default()).await;
    let lies = [
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("x_forwarded_for", "1.2.3.4"),
        ("forwarded", "for=1.2.3.4"),
        ("connection", "x-forwarded-for, x-real-ip"),
    ];
    for (from, expected) in [
        ([127, 0, 0, 1], ["127.0.0.1", "http", "cloud.example", "127.0.0.1"]),
        ([127, 0, 0, 2], ["1.2.3.4, 127.0.0.2", "https", "evil.example", "1.2.3.4"]),
    ] {
        // A trusted proxy names no header of these in `Connection`.
        let lies = if from[3] == 1 { &lies[..] } else { &lies[..5] };
        let answer = ask_from(from, rig.front, request("GET", "/whoami", lies, "")).await;
        let told = json(&answer)["headers"].clone();
        let names = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip"];
        assert_eq!(names.map(|name| told[name].as_str().unwrap_or_default()), expected, "{told}");
        assert_eq!(told["host"], "cloud.example");
        if from[3] == 1 {
            assert!(told.get("forwarded").is_none(), "{told}");
        }
    }
}

#[tokio::test]
async fn services_are_found_and_exapps_stay_with_the_exapps() {
    let rig = Rig::start(Extras::default()).await;
    for (path, expected) in [
        ("/.well-known/caldav", "/remote.php/dav/"),
        ("/.well-known/nodeinfo", "/index.php/.well-known/nodeinfo"),
    ] {
        let answer = ask(rig.front, Speaks::Http1, request("PROPFIND", path, &[], "")).await;
        let answer = answer.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["location"]),
            (301, &expected.parse().unwrap())
        );
    }
    let asked = request("GET", "/exapps/nothing/", &[], "");
    let answer = ask(rig.front, Speaks::Http1, asked).await.unwrap();
    assert!(!answer.headers().contains_key("x-node"), "{answer:?}");
}
