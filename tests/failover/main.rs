//! Whole clusters in network namespaces, through `trigon lab`: a power cut and a hand-over with
//! every tunnel client, and what the lab leaves behind. Times are for the bench; here it counts
//! that service comes back, that nothing fails once it is back, and that the report is complete.
//! `wake` is about single connections.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crash;
mod orders;
mod two;
mod vips;
mod wake;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn lab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trigon")).arg("lab").args(arguments).output().unwrap()
}

fn report(arguments: &[&str]) -> Value {
    let output = lab(arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}\n{told}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn peer(version: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/peers/frpc-{version}"));
    assert!(path.exists(), "{} is missing; tests/run builds it", path.display());
    path.display().to_string()
}

/// Every key of the report's stable shape is there, and nothing failed after the return.
fn service_came_back(report: &Value, fault: &str, client: &str) {
    let rounds = report["rounds"].as_array().unwrap();
    for round in rounds {
        assert_eq!(round["fault"], fault);
        for key in ["vip_outage_ms", "tunnel_outage_ms"] {
            assert!(round[key].is_f64(), "{key}: {round}");
        }
        for key in ["requests", "failed", "delayed", "ws_open", "ws_reset"] {
            assert!(round[key].is_u64(), "{key}: {round}");
        }
        assert!(round["requests"].as_u64() > Some(0), "{round}");
        assert!(round["ws_open"].as_u64() > Some(0), "{round}");
        assert_eq!(round["failed"], 0, "after the address answered again: {round}");
    }
    for key in ["vip_outage_ms", "tunnel_outage_ms"] {
        for figure in ["min", "median", "max"] {
            assert!(report["summary"][key][figure].is_f64(), "{key}.{figure}: {report}");
        }
    }
    assert_eq!(report["summary"]["failed"], 0);
    assert!(report["summary"]["ws_reset"].is_u64());
    assert_eq!(report["versions"]["frpc"], client);
}

#[test]
fn a_power_cut_with_the_built_in_client() {
    let report = report(&["--fault", "kill", "--rounds", "2", "--json"]);
    assert_eq!(report["rounds"].as_array().unwrap().len(), 2);
    service_came_back(&report, "kill", "built-in");
}

#[test]
fn a_power_cut_with_stock_frpc_of_both_ends_of_the_range() {
    for version in ["0.61.1", "0.70.1"] {
        let report = report(&["--fault", "kill", "--json", "--frpc", &peer(version)]);
        service_came_back(&report, "kill", version);
    }
}

#[test]
fn a_hand_over_and_no_fault_at_all() {
    for fault in ["drain", "none"] {
        let report = report(&["--fault", fault, "--json", "--frpc", &peer("0.61.1")]);
        service_came_back(&report, fault, "0.61.1");
    }
}

/// The lab exits with 0 only if all of them held; this names the ones that must be there.
fn all_held(report: &Value, checks: &[&str]) {
    let round = &report["rounds"][0]["checks"];
    for check in checks {
        assert_eq!(round[check], true, "{check}: {report}");
    }
}

#[test]
fn advertisements_that_do_not_arrive_move_nothing_and_are_alarmed() {
    let report = report(&["--fault", "segment-cut", "--json"]);
    service_came_back(&report, "segment-cut", "built-in");
    let both = ["never_two_holders", "never_without_holder"];
    all_held(&report, &[&both[..], &["alarm_raised", "alarm_cleared", "no_flap"]].concat());
}

#[test]
fn an_isolated_active_lets_go_before_the_network_heals_and_stays_backup() {
    let report = report(&["--fault", "isolate", "--json"]);
    service_came_back(&report, "isolate", "built-in");
    all_held(&report, &["released_before_heal", "returned_as_backup", "no_flap"]);
    assert!(report["rounds"][0]["released_ms"].is_f64(), "{report}");
}

#[test]
fn a_lost_witness_moves_nothing_and_costs_no_quorum() {
    let report = report(&["--fault", "witness-loss", "--json"]);
    service_came_back(&report, "witness-loss", "built-in");
    all_held(&report, &["loss_noticed", "quorum_kept", "no_flap"]);
}

#[test]
fn a_pair_without_a_witness_moves_its_address_as_well() {
    for fault in ["kill", "drain"] {
        let report = report(&["--pair", "--fault", fault, "--json"]);
        service_came_back(&report, fault, "built-in");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    for arguments in [&["--pair", "--fault", "witness-loss"][..], &["--fault", "earthquake"]] {
        let output = lab(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn nothing_is_left_behind() {
    let mut lab = Command::new(env!("CARGO_BIN_EXE_trigon"))
        .args(["lab", "--fault", "none", "--json"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let prefix = format!("trigon-lab-{}-", lab.id());
    assert!(lab.wait().unwrap().success());
    let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(!names.contains(&prefix), "{names}");
}
