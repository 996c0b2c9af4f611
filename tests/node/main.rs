//! One node as its administrator meets it: a real `trigon run` with a virtual address on an
//! interface of its own namespace, killed, stopped, started twice, and wrongly configured.
//! Needs root and iproute2.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot set itself up fails, and shows the logs of what it started"
)]

#[path = "../support/mod.rs"]
mod support;

mod backup;
mod doctor;
mod machine;
mod membership;
mod observe;

use std::time::Duration;

use machine::{KEY, Machine, VIP};
use rustix::process::Signal;
use trigon::lab::namespaces::wait_until;

const LIMIT: Duration = Duration::from_secs(40);

#[tokio::test]
async fn killed_with_its_guardian_it_keeps_the_address_no_longer_than_the_lease() {
    let mut machine = Machine::new();
    machine.start();
    machine.holds_and_is_ready().await;
    machine.crash();
    let gone = wait_until(LIMIT, || machine.host.holds(VIP).map(|holds| !holds)).await;
    assert!(gone.unwrap(), "nobody renews the lease");
}

#[tokio::test]
async fn vip_release_takes_the_address_that_a_killed_node_left_at_once() {
    let mut machine = Machine::new();
    machine.start();
    machine.holds_and_is_ready().await;
    machine.crash();
    // Whatever else became of the configuration meanwhile.
    machine.write_config("[exapps]\nshared_key_file = '/nowhere'\n[frp]\nlisten = 'wrong'\n");
    let (code, told) = machine.call("vip-release");
    assert!(!machine.host.holds(VIP).unwrap(), "{told}");
    assert_eq!(code, 0, "{told}");
    let (code, told) = machine.call("vip-release");
    assert_eq!((code, told.trim()), (0, "virtual addresses removed: 0"), "harmless again");
}

#[tokio::test]
async fn restarted_after_a_kill_it_holds_the_address_once_and_as_its_own() {
    let mut machine = Machine::new();
    machine.start();
    machine.holds_and_is_ready().await;
    machine.end(Signal::KILL);
    machine.start();
    machine.holds_and_is_ready().await;
    assert_eq!(machine.end(Signal::TERM), Some(0));
    assert!(!machine.host.holds(VIP).unwrap(), "gone before the process");
}

#[tokio::test]
async fn threads_that_serve_requests_cannot_administer_the_machine() {
    const SYS_ADMIN: u64 = 1 << 21;
    const SYS_NICE: u64 = 1 << 23;
    let mut machine = Machine::new();
    machine.start();
    machine.holds_and_is_ready().await;
    let threads = machine.capabilities_by_thread();
    let named = |name: &str| {
        let of_name = threads.iter().filter(|(thread, _)| thread == name);
        of_name.map(|(_, held)| *held).collect::<Vec<_>>()
    };
    assert!(!named("tokio-rt-worker").is_empty(), "{threads:?}");
    for held in named("tokio-rt-worker") {
        assert_eq!(held & (SYS_ADMIN | SYS_NICE), 0, "{threads:?}");
    }
    for held in named("vrrp") {
        assert_eq!(held & SYS_NICE, SYS_NICE, "{threads:?}");
    }
    machine.end(Signal::TERM);
}

#[tokio::test]
async fn w23_a_hang_up_applies_the_file_and_names_what_needs_a_restart() {
    let key = "[exapps]\nshared_key_file = 'KEY'\n";
    let mut machine = Machine::new();
    machine.start();
    machine.holds_and_is_ready().await;

    machine.write_config(&format!(
        "{key}ban_count = 5\ntrusted_proxies = ['10.66.0.2']\n[frp]\ntunnel_wait = '9s'\n\
         [log]\nlevel = 'debug'\n"
    ));
    machine.signal(Signal::HUP);
    machine.logs("changes that need a restart keys=\"frp.tunnel_wait\"").await;
    machine.logs("changed=\"exapps.ban_count, exapps.trusted_proxies, log.level\"").await;

    // Back to what it was started with: nothing is left to wait for.
    machine.write_config(key);
    machine.signal(Signal::HUP);
    // The first reload says nearly the same; the file must not change again under the second.
    let twice = || {
        let said = machine.log();
        Ok::<_, std::io::Error>(said.matches("configuration reloaded changed").count() == 2)
    };
    assert!(wait_until(LIMIT, twice).await.unwrap(), "{}", machine.log());
    assert_eq!(machine.log().matches("changes that need a restart").count(), 1);

    machine.write_config("[exapps]\nshared_key_file = '/nowhere'\n[frp]\ntunnel_wait = 9\n");
    machine.signal(Signal::HUP);
    machine.logs("the configuration in force stays as it is").await;
    for wrong in [":12: frp.tunnel_wait: found 9", ":10: exapps.shared_key_file: found /nowhere"] {
        assert!(machine.log().contains(wrong), "{}", machine.log());
    }

    machine.write_key("another-key");
    machine.write_config(key);
    machine.signal(Signal::HUP);
    machine.logs("changes that need a restart keys=\"exapps.shared_key_file\"").await;
    assert!(machine.host.holds(VIP).unwrap(), "{}", machine.log());
    assert_eq!(machine.end(Signal::TERM), Some(0));
}

#[tokio::test]
async fn a_second_one_started_by_mistake_touches_nothing() {
    let mut machine = Machine::new();
    machine.start();
    machine.holds_and_is_ready().await;
    let (code, told) = machine.call("run");
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("admin.sock: another trigon answers here"), "{told}");
    assert!(machine.host.holds(VIP).unwrap());
    assert!(!machine.log().contains("removed by someone else"), "{}", machine.log());
}

#[tokio::test]
async fn w07_list_and_unban_by_command() {
    let mut machine = Machine::new();
    let (code, _, complaint) = machine.ask(&["bans", "list"]);
    assert_eq!(code, 1);
    assert!(complaint.contains("no trigon answers here"), "{complaint}");
    machine.start();
    machine.holds_and_is_ready().await;
    let json = |command: &[&str]| -> serde_json::Value {
        let (code, said, complaint) = machine.ask(&[command, &["--json"]].concat());
        assert_eq!(code, 0, "{complaint}");
        serde_json::from_str(&said).unwrap()
    };

    for attempt in 0..10 {
        let answer = machine.request("GET /exapps/app_api/info", "");
        assert!(answer.starts_with("HTTP/1.1 401"), "{attempt}: {answer}");
    }
    assert_eq!(machine.request("GET /exapps/app_api/info", ""), "", "dropped");
    let listed = json(&["bans", "list"]);
    let ends = listed[0]["ends_in_seconds"].as_u64().unwrap();
    assert!((1..=300).contains(&ends), "{listed}");
    assert_eq!(
        listed,
        serde_json::json!([{
            "address": "10.66.0.1", "banned": true, "source": "failures", "failures": 10,
            "nodes": [1], "ends_in_seconds": ends, "since_seconds": null, "reason": null,
        }])
    );
    let (code, said, _) = machine.ask(&["bans", "remove", "10.66.0.1"]);
    assert_eq!((code, said.starts_with("10.66.0.1: let in again")), (0, true), "{said}");
    assert!(machine.request("GET /exapps/app_api/info", "").starts_with("HTTP/1.1 401"));
    assert_eq!(json(&["bans", "list"]), serde_json::json!([]));
    assert_eq!(json(&["bans", "list", "--all"])[0]["failures"], 1);

    let (code, ..) =
        machine.ask(&["bans", "add", "10.66.0.1/24", "--for", "1h", "--reason", "by hand"]);
    assert_eq!(code, 0);
    assert_eq!(machine.request("GET /exapps/app_api/info", ""), "", "dropped");
    let (_, said, _) = machine.ask(&["bans", "list"]);
    let row = said.lines().nth(1).unwrap();
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!((cells[0], cells[4], cells[5]), ("10.66.0.0/24", "admin", "1"), "{said}");
    assert!(row.ends_with("by hand"), "{said}");
    let (code, _, complaint) = machine.ask(&["bans", "remove", "10.66.0.1"]);
    assert_eq!(code, 1);
    assert!(complaint.contains("still kept out by the ban of 10.66.0.0/24"), "{complaint}");
    assert_eq!(machine.ask(&["bans", "remove", "10.66.0.0/24"]).0, 0);
    assert!(machine.request("GET /exapps/app_api/info", "").starts_with("HTTP/1.1 401"));

    let (code, _, complaint) = machine.ask(&["bans", "remove", "192.0.2.7"]);
    assert_eq!((code, complaint.contains("192.0.2.7: no ban and no failure")), (3, true));
    assert_eq!(machine.ask(&["bans", "add", "example.org"]).0, 2, "no address");
    let (code, _, complaint) = machine.ask(&["bans", "add", "192.0.2.7", "--reason", "a\nb"]);
    assert_eq!((code, complaint.contains("reason: expected one line")), (1, true), "{complaint}");
}

#[tokio::test]
async fn w26_a_node_tells_how_it_is_and_what_it_did() {
    let mut machine = Machine::new();
    machine.write_config(
        "[exapps]\nshared_key_file = 'KEY'\n[metrics]\nlisten = '10.66.0.1:9108'\n\
         [log]\nlevel = 'info,trigon::access=debug'\n",
    );
    machine.start();
    machine.holds_and_is_ready().await;
    for _ in 0..3 {
        let head = "GET /exapps/app_api/info?token=in-the-query\nAA-Request-Id: id-1\n\
                    Cookie: oc_sessionPassphrase=in-the-cookie\nharp-shared-key: wrong-key";
        assert!(machine.request(head, "").starts_with("HTTP/1.1 401"));
    }
    let head = format!("GET /exapps/app_api/info\nharp-shared-key: {KEY}");
    assert!(machine.request(&head, "").starts_with("HTTP/1.1 200"));
    let told = machine.request_at(9108, "GET /metrics", "");
    for line in [
        r#"trigon_http_requests_total{listener="http",route="refused",method="GET",code="401"} 3"#,
        r#"trigon_http_requests_total{listener="http",route="control",method="GET",code="200"} 1"#,
        r#"trigon_exapp_auth_total{result="wrong_key"} 3"#,
        r#"trigon_exapp_auth_total{result="control"} 1"#,
        r#"trigon_control_calls_total{endpoint="info",status="2xx"} 1"#,
        r#"trigon_http_first_byte_seconds_count 4"#,
        "trigon_strikes_total 3",
        r#"trigon_vrrp_state{router="eth0-66",interface="eth0",vrid="66",family="ipv4",state="active"} 1"#,
        r#"trigon_vrrp_transitions_total{router="eth0-66",to="active"} 1"#,
        "trigon_cluster_quorum 1",
        "trigon_ready 1",
    ] {
        assert!(told.lines().any(|found| found == line), "{line}\n{told}");
    }
    assert!(told.contains(r#"name="frp_server""#), "{told}");
    assert!(machine.request_at(9108, "GET /readyz", "").starts_with("HTTP/1.1 200"));
    assert!(machine.request_at(9108, "GET /healthz", "").starts_with("HTTP/1.1 200"));
    machine.end(Signal::TERM);
    let log = machine.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("trigon::access")).collect();
    assert_eq!(lines.len(), 4, "{log}");
    for word in ["id-1", "10.66.0.1", "/exapps/app_api/info", "401", "wrong_key"] {
        assert!(lines[0].contains(word), "{word}: {}", lines[0]);
    }
    for secret in ["in-the-query", "in-the-cookie", "wrong-key"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[tokio::test]
async fn records_are_listed_without_their_secrets() {
    let mut machine = Machine::new();
    machine.start();
    machine.holds_and_is_ready().await;
    let record = r#"{"exapp_token":"t0ken-of-the-app","exapp_version":"1.0.0","host":"127.0.0.1",
        "port":23001,"routes":[{"url":"^/","access_level":0,"bruteforce_protection":[]}]}"#;
    let head = format!("POST /exapps/app_api/exapp_storage/Demo\nharp-shared-key: {KEY}");
    assert!(machine.request(&head, record).starts_with("HTTP/1.1 204"));
    let (code, said, _) = machine.ask(&["exapps", "list", "--json"]);
    assert_eq!(code, 0);
    assert!(!said.contains("t0ken"), "{said}");
    let listed: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        listed,
        serde_json::json!([{
            "id": "demo", "version": "1.0.0", "host": "127.0.0.1", "port": 23001, "routes": 1,
            "tunnel": "unregistered", "tunnel_node": null, "recorded": "cluster",
            "checked_seconds": null,
        }])
    );
    let (_, said, _) = machine.ask(&["exapps", "list"]);
    assert!(said.contains("127.0.0.1:23001") && !said.contains("t0ken"), "{said}");
    let (code, said, _) = machine.ask(&["tunnels", "list", "--json"]);
    assert_eq!((code, said.trim()), (0, "[]"));
}

#[tokio::test]
async fn at_info_the_log_tells_the_story_and_nothing_else() {
    let mut machine = Machine::new();
    machine.start();
    machine.holds_and_is_ready().await;
    machine.end(Signal::TERM);
    let log = machine.log();
    assert!(log.contains("state.to=active"), "{log}");
    assert!(!log.contains("openraft"), "{log}");
    assert!(log.lines().count() < 30, "{log}");
}

#[tokio::test]
async fn the_shared_key_may_be_another_after_a_restart() {
    let mut machine = Machine::new();
    machine.start();
    machine.holds_and_is_ready().await;
    machine.end(Signal::TERM);
    let certificate = machine.dir().join("state/frp/client.crt");
    let before = std::fs::read(&certificate).unwrap();
    machine.write_key("another-key");
    machine.start();
    machine.holds_and_is_ready().await;
    assert_eq!(std::fs::read(&certificate).unwrap(), before, "installed ExApps get in as before");
    machine.end(Signal::TERM);
}

#[test]
fn a_wrong_configuration_is_told_with_file_line_and_key_by_run_and_check() {
    let machine = Machine::new();
    let key = "[exapps]\nshared_key_file = 'KEY'\n";
    for (sections, told) in [
        ("[frp]\nport = 1\n", ":10: frp.port: found a key trigon does not know, expected one of: "),
        (
            "[exapps]\nshared_key_file = '/nowhere'\n",
            ":10: exapps.shared_key_file: found /nowhere: ",
        ),
        ("[frp]\nlisten = '8782'\n", ":10: frp.listen: found '8782', expected an address and port"),
        ("[frp]\ntunnel_wait = 5\n", ":10: frp.tunnel_wait: found 5, expected a duration"),
        ("[log]\nlevel = 'inof'\n", ":10: log.level: found \"inof\", expected \"error\", \"warn\""),
        ("[frp]\ntls = maybe\n", ":10: syntax: found no valid TOML"),
    ] {
        let rest = if sections.contains("[exapps]") { "" } else { key };
        machine.write_config(&format!("{sections}{rest}"));
        for command in ["check", "run"] {
            let (code, text) = machine.call(command);
            assert_eq!(code, 2, "{command} with {sections}: {text}");
            let expected = format!("trigon: {}{told}", machine.config().display());
            assert!(text.contains(&expected), "{command}: {expected}\n{text}");
        }
    }
}

#[test]
fn what_cannot_be_used_at_start_is_named() {
    let machine = Machine::new();
    for (sections, told) in [
        (
            "[exapps]\nshared_key_file = 'KEY'\nlisten = '10.66.0.1:22'\n",
            "exapps.listen 10.66.0.1:22",
        ),
        (
            "[exapps]\nshared_key_file = 'KEY'\n[[vrrp]]\ninterface = 'eth7'\nvrid = 3\n\
          addresses = ['10.66.0.9']\n",
            "interface eth7",
        ),
    ] {
        let _taken = machine.host.within(|| std::net::TcpListener::bind("10.66.0.1:22")).unwrap();
        machine.write_config(sections);
        let (code, text) = machine.call("run");
        assert_eq!(code, 1, "{text}");
        assert!(text.contains(told), "{told}\n{text}");
    }
}
