//! How a machine becomes a member, and what it is told before it is one.

use serde_json::Value;

use super::machine::Machine;

/// A machine that is told of a cluster.
fn clustered() -> Machine {
    let machine = Machine::new();
    machine
        .write_config("[exapps]\nshared_key_file = 'KEY'\n[cluster]\nlisten = '10.66.0.1:7443'\n");
    machine
}

/// A token of some other cluster.
fn strange() -> String {
    format!("trg1.{}.{}.{}", "a".repeat(52), "b".repeat(8), "c".repeat(26))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn a_machine_that_is_told_of_a_cluster_and_in_none_says_what_to_do_first() {
    let mut machine = clustered();
    machine.start();
    assert_eq!(machine.ended().await, Some(1));
    let log = machine.log();
    for way in ["trigon init", "trigon join TOKEN"] {
        assert!(log.contains(way), "{way}: {log}");
    }
    assert!(!machine.dir().join("state/node.json").exists(), "nothing was decided for the admin");
}

#[tokio::test]
async fn a_machine_that_is_told_of_no_cluster_founds_its_own_once() {
    let mut machine = Machine::new();
    for _ in 0..2 {
        machine.start();
        machine.holds_and_is_ready().await;
        machine.end(rustix::process::Signal::TERM);
    }
    assert_eq!(machine.log().matches("founded a cluster of one").count(), 1);
    // Nobody could reach it, so nobody is let in.
    machine.start();
    machine.holds_and_is_ready().await;
    let (code, _, told) = machine.ask(&["token", "create"]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("cluster.listen"), "{told}");
}

#[tokio::test]
async fn a_cluster_is_founded_once_and_under_one_name() {
    let mut machine = clustered();
    let (code, told, _) = machine.call_with("init", &["--name", "alpha", "--json"]);
    assert_eq!(code, 0, "{told}");
    let first = json(&told);
    assert_eq!((&first["founded"], &first["id"]), (&true.into(), &1.into()), "{first}");
    assert_eq!(first["advertise"], "10.66.0.1:7443");
    let (code, told, _) = machine.call_with("init", &["--name", "alpha", "--json"]);
    let again = json(&told);
    assert_eq!((code, &again["founded"]), (0, &false.into()));
    assert_eq!(again["cluster_id"], first["cluster_id"]);
    let (code, _, told) = machine.call_with("init", &["--name", "beta"]);
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("node 1 of cluster \"alpha\" already"), "{told}");
    let (code, _, told) = machine.call_with("join", &[&strange(), "--peer", "10.66.0.2:7443"]);
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("of cluster \"alpha\" already"), "{told}");

    machine.start();
    machine.holds_and_is_ready().await;
    let (code, told, _) = machine.ask(&["node", "list", "--json"]);
    assert_eq!(code, 0, "{told}");
    let listed = json(&told);
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!((&listed[0]["id"], &listed[0]["part"]), (&1.into(), &"leader".into()), "{listed}");
    assert_eq!(listed[0]["address"], "10.66.0.1:7443");
    let (code, told, _) = machine.ask(&["status"]);
    assert!(code == 0 && told.contains("(node) at 10.66.0.1:7443 is leader"), "{told}");
}

#[tokio::test]
async fn a_token_is_shown_once_listed_without_its_secret_and_taken_back() {
    let mut machine = clustered();
    machine.call_with("init", &[]);
    machine.start();
    machine.holds_and_is_ready().await;

    let (code, token, told) = machine.ask(&["token", "create", "--role", "witness"]);
    assert_eq!(code, 0, "{told}");
    let parts: Vec<_> = token.trim().split('.').collect();
    assert!(parts.len() == 4 && parts[0] == "trg1", "nothing else is on standard output: {token}");
    assert!(!told.contains(parts[3]), "{told}");
    let (_, made, _) = machine.ask(&["token", "create", "--json", "--ttl", "15m", "--uses", "3"]);
    let made = json(&made);
    assert_eq!((&made["role"], &made["uses"]), (&"node".into(), &3.into()), "{made}");

    let (_, listed, _) = machine.ask(&["token", "list", "--json"]);
    assert!(!listed.contains(parts[3]), "{listed}");
    let mut listed: Vec<_> = json(&listed).as_array().unwrap().clone();
    listed.sort_by_key(|token| token["uses_left"].as_u64());
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[0]["id"], &listed[0]["role"]), (&parts[2].into(), &"witness".into()));
    let left = listed[1]["ends_in_seconds"].as_u64().unwrap();
    assert!((600..=900).contains(&left), "{left}");

    let (code, _, told) = machine.ask(&["token", "revoke", parts[2]]);
    assert_eq!(code, 0, "{told}");
    let (code, _, told) = machine.ask(&["token", "revoke", parts[2]]);
    assert_eq!(code, 3, "{told}");
    let (_, told, _) = machine.ask(&["status"]);
    assert!(told.contains("tokens   1 good for joining"), "{told}");
    assert!(!machine.log().contains(parts[3]), "a secret is in the log");
}

#[tokio::test]
async fn the_last_node_can_neither_leave_nor_be_removed() {
    let mut machine = clustered();
    machine.call_with("init", &[]);
    machine.start();
    machine.holds_and_is_ready().await;
    let (code, _, told) = machine.ask(&["leave"]);
    assert!(code == 1 && told.contains("there is no other member"), "{told}");
    let (code, _, told) = machine.ask(&["node", "remove", "1"]);
    assert!(code == 1 && told.contains("trigon leave"), "{told}");
    let (code, _, told) = machine.ask(&["node", "remove", "7"]);
    assert!(code == 3 && told.contains("no such member"), "{told}");
}

#[tokio::test]
async fn joining_needs_an_address_a_peer_that_answers_and_a_stopped_node() {
    let machine = Machine::new();
    let (code, _, told) = machine.call_with("join", &[&strange(), "--peer", "10.66.0.9:7443"]);
    assert!(code == 2 && told.contains("--advertise"), "{told}");
    let machine = clustered();
    let (code, _, told) = machine.call_with("join", &["nonsense", "--peer", "10.66.0.1:1"]);
    assert!(code == 2 && told.contains("token: expected trg1."), "{told}");
    let (code, _, told) = machine.call_with("join", &[&strange(), "--peer", "10.66.0.1:1"]);
    assert!(code == 1 && told.contains("no node of the cluster could be asked"), "{told}");
    assert!(!machine.dir().join("state/node.json").exists());
}
