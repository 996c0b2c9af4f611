//! What an operator's own tools read: the metrics that rules and dashboard are made of, and the
//! access log.

use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::LIMIT;
use crate::machine::{KEY, Machine};
use trigon::lab::namespaces::wait_until;

const REFERENCE: &str = include_str!("../../docs/reference/metrics.md");
const RULES: &str = include_str!("../../packaging/observe/rules.yml");
const DASHBOARD: &str = include_str!("../../packaging/observe/grafana.json");

/// Families that begin to be there with something that does not happen in this test.
const EVENTS: [&str; 16] = [
    "trigon_clock_skew_seconds",
    "trigon_cluster_learner_lag_entries",
    "trigon_docker_calls_total",
    "trigon_frp_login_total",
    "trigon_galera_timers_differ",
    "trigon_galera_writer",
    "trigon_nextcloud_call_seconds",
    "trigon_nextcloud_calls_total",
    "trigon_raft_replication_lag_entries",
    "trigon_raft_peer_rtt_seconds",
    "trigon_relays_total",
    "trigon_tickles_total",
    "trigon_tls_handshakes_total",
    "trigon_tunnel_waits_total",
    "trigon_upstream_errors_total",
    "trigon_ws_closed_total",
];

/// The families an expression names.
fn families(expression: &str) -> impl Iterator<Item = String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("trigon_") || word.starts_with("process_"));
    ours.map(|word| {
        let parts = ["_bucket", "_sum", "_count"];
        let whole = parts.iter().find_map(|part| word.strip_suffix(part)).unwrap_or(word);
        whole.to_owned()
    })
}

/// The expressions of the rules, each with the fields its alert has.
fn rules() -> Vec<(String, BTreeSet<String>)> {
    let mut alerts: Vec<(String, BTreeSet<String>)> = Vec::new();
    for line in RULES.lines() {
        let Some((key, value)) = line.trim_start().split_once(':') else { continue };
        match key.strip_prefix("- ") {
            Some("alert") => alerts.push((String::new(), BTreeSet::new())),
            Some(_) => {}
            None => {
                let Some((expression, fields)) = alerts.last_mut() else { continue };
                if key == "expr" {
                    value.trim().clone_into(expression);
                }
                fields.insert(key.to_owned());
            }
        }
    }
    alerts
}

fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(|e| e.as_str()).map(ToOwned::to_owned));
            fields.values().for_each(|field| expressions(field, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn rules_dashboard_and_reference_name_what_a_running_node_tells() {
    let mut machine = Machine::new();
    machine
        .write_config("[exapps]\nshared_key_file = 'KEY'\n[metrics]\nlisten = '10.66.0.1:9108'\n");
    machine.start();
    machine.holds_and_is_ready().await;
    for _ in 0..10 {
        machine.request("GET /exapps/app_api/info", "");
    }
    let told = machine.request_at(9108, "GET /metrics", "");
    machine.end(Signal::TERM);
    let live: BTreeSet<_> = told
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(ToOwned::to_owned)
        .collect();
    let documented: BTreeSet<_> = REFERENCE
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect();
    let undocumented: Vec<_> = live.difference(&documented).collect();
    assert!(undocumented.is_empty(), "not in the reference: {undocumented:?}");

    let alerts = rules();
    assert!(alerts.len() > 15, "{alerts:?}");
    let mut used = Vec::new();
    for (expression, fields) in alerts {
        for field in ["expr", "labels", "annotations", "summary", "description"] {
            assert!(fields.contains(field), "{field} of {expression}");
        }
        used.push(expression);
    }
    expressions(&serde_json::from_str(DASHBOARD).unwrap(), &mut used);
    assert!(used.len() > 50);
    for expression in used {
        let open = |c| expression.matches(c).count();
        assert_eq!(
            (open('('), open('{'), open('[')),
            (open(')'), open('}'), open(']')),
            "{expression}"
        );
        for family in families(&expression) {
            let is_there = live.contains(&family)
                || (EVENTS.contains(&family.as_str()) && documented.contains(&family));
            assert!(is_there, "{family} in {expression}\n{told}");
        }
    }
}

#[tokio::test]
async fn the_access_log_has_one_line_for_each_request_and_follows_a_moved_file() {
    let mut machine = Machine::new();
    let (log, moved) = (machine.dir().join("access.log"), machine.dir().join("access.log.1"));
    machine.write_config(&format!(
        "[exapps]\nshared_key_file = 'KEY'\n[log]\naccess = 'json'\naccess_file = '{}'\n",
        log.display()
    ));
    machine.start();
    machine.holds_and_is_ready().await;
    let head = "GET /exapps/app_api/info?token=in-the-query\nX-Request-Id: id-1\n\
                Cookie: oc_sessionPassphrase=in-the-cookie\nharp-shared-key: wrong-key";
    assert!(machine.request(head, "").starts_with("HTTP/1.1 401"));
    let head = format!("GET /exapps/app_api/info\nharp-shared-key: {KEY}");
    assert!(machine.request(&head, "").starts_with("HTTP/1.1 200"));
    let lines = |path: &std::path::Path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let parsed = text.lines().map(|line| serde_json::from_str(line).unwrap());
        parsed.collect::<Vec<serde_json::Value>>()
    };
    let has = async |path: &std::path::Path, count: usize| {
        let there = wait_until(LIMIT, || Ok::<_, std::io::Error>(lines(path).len() == count)).await;
        assert!(there.unwrap(), "{:?}", lines(path));
    };
    has(&log, 2).await;
    let first = &lines(&log)[0];
    for (field, expected) in [
        ("client_ip", "10.66.0.1"),
        ("method", "GET"),
        ("host", "trigon.test"),
        ("path", "/exapps/app_api/info?***"),
        ("request_id", "id-1"),
        ("reason", "wrong_key"),
        ("route", "refused"),
        ("end", "ok"),
    ] {
        assert_eq!(first[field], expected, "{field}: {first}");
    }
    assert_eq!(first["status"], 401);
    assert_eq!(lines(&log)[1]["route"], "control");
    assert_eq!(lines(&log)[1]["status"], 200);
    assert!(lines(&log)[1]["bytes_out"].as_u64().unwrap() > 10);

    std::fs::rename(&log, &moved).unwrap();
    machine.signal(Signal::HUP);
    machine.logs("configuration reloaded").await;
    let again = wait_until(LIMIT, || Ok::<_, std::io::Error>(log.exists())).await;
    assert!(again.unwrap(), "not opened again");
    machine.request("GET /nothing", "");
    machine.end(Signal::TERM);
    assert_eq!((lines(&moved).len(), lines(&log).len()), (2, 1));
    assert!(machine.log().contains("failure of 10.66.0.1: wrong_key"), "{}", machine.log());
    for text in [machine.log(), std::fs::read_to_string(&moved).unwrap()] {
        for secret in ["in-the-query", "in-the-cookie", "wrong-key"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}
