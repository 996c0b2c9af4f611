//! One node as its administrator meets it: a real `trigon run` with a virtual address on an
//! interface of its own namespace, killed, stopped, started twice, and wrongly configured.
//! Needs root and iproute2.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod machine;

use std::time::Duration;

use machine::{Machine, VIP};
use rustix::process::Signal;
use trigon::lab::namespaces::wait_until;

const LIMIT: Duration = Duration::from_secs(40);

#[tokio::test]
async fn killed_it_keeps_the_address_no_longer_than_the_lease() {
    let mut machine = Machine::new();
    machine.start();
    machine.holds_and_is_ready().await;
    machine.end(Signal::KILL);
    let gone = wait_until(LIMIT, || machine.host.holds(VIP).map(|holds| !holds)).await;
    assert!(gone.unwrap(), "nobody renews the lease");
}

#[tokio::test]
async fn vip_release_takes_the_address_of_a_killed_node_at_once() {
    let mut machine = Machine::new();
    machine.start();
    machine.holds_and_is_ready().await;
    machine.end(Signal::KILL);
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
async fn a_hang_up_ends_it_in_order_too() {
    let mut machine = Machine::new();
    machine.start();
    machine.holds_and_is_ready().await;
    assert_eq!(machine.end(Signal::HUP), Some(0));
    assert!(!machine.host.holds(VIP).unwrap());
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
async fn another_shared_key_than_before_is_told() {
    let mut machine = Machine::new();
    machine.start();
    machine.holds_and_is_ready().await;
    machine.end(Signal::TERM);
    machine.write_key("another-key");
    let (code, told) = machine.call("run");
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("sealed under another shared key"), "{told}");
    assert!(!machine.host.holds(VIP).unwrap());
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
