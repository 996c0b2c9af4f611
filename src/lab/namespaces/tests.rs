//! These need root and iproute2, as the lab itself.

use std::io::Read;
use std::process::{Child, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

const ONE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
const MOVING: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 100);

fn exists(namespace: &str) -> bool {
    Path::new(NAMES).join(namespace).exists()
}

/// Returns when the process is on the host: `ip netns exec` needs a moment to get there.
fn start_sleeper(host: &Host) -> Child {
    let child = host.command("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
    while host.processes().unwrap().is_empty() {
        thread::sleep(Duration::from_millis(1));
    }
    child
}

#[tokio::test]
async fn two_hosts_reach_each_other_until_the_cable_is_pulled() {
    let lan = Lan::new("trigon-test").unwrap();
    let one = lan.host("one", ONE).unwrap();
    let two = lan.host("two", TWO).unwrap();
    let echo = two
        .enter_thread(|| async {
            let listener = TcpListener::bind((TWO, 7)).await.unwrap();
            loop {
                let (mut stream, _peer) = listener.accept().await.unwrap();
                // Whoever hung up early only missed it.
                let _ = stream.write_all(b"hello").await;
            }
        })
        .unwrap();
    let hears_hello = || {
        one.within(|| {
            let mut text = String::new();
            let limit = Duration::from_millis(300);
            std::net::TcpStream::connect_timeout(&(TWO, 7).into(), limit)
                .and_then(|mut stream| stream.read_to_string(&mut text))
                .is_ok_and(|_length| text == "hello")
        })
    };
    let limit = Duration::from_secs(20);
    assert!(wait_until(limit, hears_hello).await.unwrap());
    two.link(false).unwrap();
    assert!(!hears_hello().unwrap(), "a pulled cable carries nothing");
    two.link(true).unwrap();
    assert!(wait_until(limit, hears_hello).await.unwrap());
    drop(echo);
}

#[tokio::test]
async fn an_address_is_found_on_the_host_that_holds_it_and_gone_after_a_reboot() {
    let lan = Lan::new("trigon-test").unwrap();
    let one = lan.host("one", ONE).unwrap();
    assert!(one.holds(ONE).unwrap());
    assert!(!one.holds(MOVING).unwrap());
    one.set_address(MOVING, true).unwrap();
    assert!(one.holds(MOVING).unwrap());
    let mut sleeper = start_sleeper(&one);
    one.link(false).unwrap();
    one.reboot().unwrap();
    assert!(!one.holds(MOVING).unwrap(), "a rebooted machine holds only its own address");
    assert!(one.holds(ONE).unwrap());
    assert!(!sleeper.wait().unwrap().success(), "a reboot ends every process");
}

#[test]
fn everything_is_gone_when_the_network_is_dropped() {
    let (name, mut child) = {
        let lan = Lan::new("trigon-test").unwrap();
        let one = lan.host("one", ONE).unwrap();
        let child = start_sleeper(&one);
        assert!(exists(one.namespace()));
        (one.namespace().to_owned(), child)
    };
    assert!(!exists(&name));
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_panic_cleans_up_as_well() {
    let name = std::sync::Mutex::new(String::new());
    let outcome = std::panic::catch_unwind(|| {
        let lan = Lan::new("trigon-test").unwrap();
        let one = lan.host("one", ONE).unwrap();
        one.namespace().clone_into(&mut name.lock().unwrap());
        panic!("on purpose");
    });
    assert!(outcome.is_err());
    let name = name.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    assert!(!name.is_empty() && !exists(&name));
}

#[test]
fn what_a_dead_process_left_is_swept_and_what_a_living_one_holds_is_not() {
    // No process can have this number: the kernel's largest is 2^22.
    let dead = "trigon-sweep-99999999-0-x";
    ip(&["netns", "add", dead]).unwrap();
    let living = Lan::new("trigon-sweep").unwrap();
    let host = living.host("one", ONE).unwrap();
    assert!(!exists(dead));
    let _other = Lan::new("trigon-sweep").unwrap();
    assert!(exists(host.namespace()));
}

#[test]
fn a_parameter_is_set_on_that_host_only() {
    let lan = Lan::new("trigon-test").unwrap();
    let one = lan.host("one", ONE).unwrap();
    let two = lan.host("two", TWO).unwrap();
    one.sysctl("net.ipv4.ip_default_ttl", "77").unwrap();
    let ttl = |host: &Host| {
        host.within(|| fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap()).unwrap()
    };
    assert_eq!(ttl(&one).trim(), "77");
    assert_ne!(ttl(&two).trim(), "77");
}

#[test]
fn a_host_may_be_named_like_a_word_of_ip() {
    let lan = Lan::new("trigon-test").unwrap();
    // `ip link add a` would read "a" as the beginning of "address".
    for (name, last) in [("a", 1), ("type", 2), ("dev", 3)] {
        lan.host(name, Ipv4Addr::new(10, 78, 0, last)).unwrap();
    }
}
