//! A backup over the admin socket, and a cluster that begins again from it.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use super::machine::Machine;

#[tokio::test]
async fn a_cluster_begins_again_from_a_backup_with_what_was_in_it_and_nothing_later() {
    let mut machine = Machine::new();
    machine.start();
    machine.holds_and_is_ready().await;
    let path = machine.dir().join("cluster.trigon-backup");
    let file = path.to_str().unwrap();
    assert_eq!(machine.ask(&["bans", "add", "192.0.2.7"]).0, 0);
    let (code, told, complained) = machine.ask(&["backup", "--output", file]);
    assert_eq!(code, 0, "{complained}");
    assert!(told.contains("without the key"), "{told}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, _, complained) = machine.ask(&["backup", "--output", file, "--with-keys"]);
    assert!(code == 1 && complained.contains("exists"), "nothing is overwritten: {complained}");
    assert_eq!(machine.ask(&["bans", "add", "192.0.2.8"]).0, 0);

    let (code, _, complained) = machine.call_with("restore", &[file, "--force"]);
    assert!(code == 1 && complained.contains("stop it first"), "{complained}");
    machine.end(Signal::TERM);
    let (code, _, complained) = machine.call_with("restore", &[file]);
    assert!(code == 1 && complained.contains("--force"), "{complained}");
    let (code, told, complained) = machine.call_with("restore", &[file, "--force"]);
    assert_eq!(code, 0, "{complained}");
    assert!(told.contains("generation 2"), "{told}");

    machine.start();
    machine.holds_and_is_ready().await;
    let (code, told, complained) = machine.ask(&["bans", "list"]);
    assert_eq!(code, 0, "{complained}");
    assert!(told.contains("192.0.2.7") && !told.contains("192.0.2.8"), "{told}");
    assert_eq!(machine.ask(&["bans", "add", "192.0.2.9"]).0, 0, "changes are taken");
}
