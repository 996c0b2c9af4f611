//! `trigon doctor` beside a real node on loopback, with one thing after the other broken.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use axum::Router;
use axum::routing::get;
use serde_json::Value;
use trigon::secret::Secret;

use super::support::node::{APP, KEY, Node};

/// What the doctor says of a node: exit code, and each leg's outcome with what was found and
/// advised.
fn examine(node: &Node, arguments: &[&str]) -> (i32, BTreeMap<String, String>) {
    let output = Command::new(env!("CARGO_BIN_EXE_trigon"))
        .args(["doctor", "--json", "--config"])
        .arg(node.dir().join("trigon.toml"))
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains(KEY) && !said.contains(KEY) && said.is_empty(), "{said}{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let told = |leg: &Value, key: &str| leg[key].as_str().unwrap().to_owned();
    let legs = report["legs"].as_array().unwrap().iter().map(|leg| {
        let rest = ["outcome", "found", "advice"].map(|key| told(leg, key)).join(" ");
        (told(leg, "leg"), rest)
    });
    (output.status.code().unwrap(), legs.collect())
}

/// Legs that are neither well nor only worth a look.
fn failed(legs: &BTreeMap<String, String>) -> Vec<&str> {
    let failed = legs.iter().filter(|(_, told)| told.starts_with("fail"));
    failed.map(|(leg, _)| leg.as_str()).collect()
}

fn expect(legs: &BTreeMap<String, String>, leg: &str, words: &str) {
    assert!(legs[leg].contains(words), "{leg}: {words}\n{legs:#?}");
}

/// A Docker engine as far as a ping can tell.
fn engine(socket: &Path) {
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    let ping = get(|| async { ([("api-version", "1.41")], "OK") });
    let routes = Router::new().route("/_ping", ping.clone()).route("/{version}/_ping", ping);
    tokio::spawn(async move { axum::serve(listener, routes).await });
}

/// A node whose local engine is at this socket.
async fn node(socket: &Path) -> Node {
    Node::start(&format!("[docker]\nsocket = '{}'\n", socket.display())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_well_with_a_node_nextcloud_and_an_engine() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    engine(&socket);
    let node = node(&socket).await;
    let (code, legs) = examine(&node, &["--app", APP]);
    assert_eq!((code, failed(&legs)), (0, vec![]), "{legs:#?}");
    for (leg, words) in [
        ("configuration", "ok no problem found"),
        ("node", "is ready"),
        ("http", "ok 200"),
        ("frp certificate", "ok valid for "),
        ("frp login", "ok logged in with TLS and client certificate"),
        ("nextcloud name", "ok 127.0.0.1"),
        ("nextcloud", "ok Nextcloud 32.0.1"),
        ("appapi", "ok knows labapp and accepts the key"),
        ("engine 24000", "ok answers, API 1.41"),
    ] {
        expect(&legs, leg, words);
    }
    assert_eq!(node.nextcloud.calls().attempts, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_broken_leg_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = node(&dir.path().join("docker.sock")).await;

    // No engine.
    let (code, legs) = examine(&node, &[]);
    assert_eq!((code, failed(&legs)), (1, vec!["engine 24000"]), "{legs:#?}");
    expect(&legs, "engine 24000", "is Docker running");
    expect(&legs, "appapi", "ok AppAPI answers; no ExApp is on record");

    // A daemon that was registered with another key: told with one call.
    let before = node.nextcloud.calls();
    node.nextcloud.change(|known| known.shared_key = Secret::new("another"));
    let (code, legs) = examine(&node, &["--app", APP]);
    assert_eq!((code, failed(&legs)), (1, vec!["appapi", "engine 24000"]), "{legs:#?}");
    expect(&legs, "appapi", "the shared key is not the one of labapp's deploy daemon");
    let after = node.nextcloud.calls();
    assert_eq!(after.exapp_meta - before.exapp_meta, 1);
    assert_eq!(after.attempts - before.attempts, 2);

    // A key that was changed without a restart: Nextcloud is not bothered with it.
    let key = node.dir().join("shared.key");
    std::fs::write(&key, "changed\n").unwrap();
    let (code, legs) = examine(&node, &["--app", APP]);
    assert_eq!((code, failed(&legs)), (1, vec!["http"]), "{legs:#?}");
    expect(&legs, "http", "another shared key");
    expect(&legs, "frp login", "skip not tried");
    assert_eq!(node.nextcloud.calls(), after);
    std::fs::write(&key, format!("{KEY}\n")).unwrap();

    // Maintenance is no failure of the way there.
    node.nextcloud.change(|known| known.maintenance = true);
    let (_, legs) = examine(&node, &["--app", APP]);
    expect(&legs, "nextcloud", "warn Nextcloud 32.0.1 is in maintenance");
    expect(&legs, "appapi", "skip not tried");

    // Nobody at Nextcloud's address.
    let config = node.dir().join("trigon.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let url = text.lines().find(|line| line.starts_with("url = ")).unwrap();
    let away = format!("url = \"http://127.0.0.1:{}\"", super::support::free_port());
    std::fs::write(&config, text.replace(url, &away)).unwrap();
    let (code, legs) = examine(&node, &[]);
    assert_eq!((code, failed(&legs)), (1, vec!["engine 24000", "nextcloud port"]), "{legs:#?}");
    expect(&legs, "nextcloud port", "see whether Nextcloud's web server runs");

    // A stopped node, and then a wrong configuration.
    node.kill();
    let (code, legs) = examine(&node, &[]);
    assert_eq!(code, 1);
    assert_eq!(failed(&legs), ["frp login", "http", "nextcloud port", "node"], "{legs:#?}");
    expect(&legs, "node", "systemctl start trigon");
    expect(&legs, "engine 24000", "skip not tried");
    std::fs::write(&config, "[exapps]\nlisten = 1\n").unwrap();
    let (code, legs) = examine(&node, &[]);
    assert_eq!((code, failed(&legs)), (2, vec!["configuration"]), "{legs:#?}");
}
