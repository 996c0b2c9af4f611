//! These need root and iproute2, as the lab itself.

use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const ONE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
const MOVING: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 100);

fn exists(namespace: &str) -> bool {
    Path::new(NAMES).join(namespace).exists()
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
                stream.write_all(b"hello").await.unwrap();
            }
        })
        .unwrap();
    let ask = || {
        one.enter_thread(|| async {
            let connect = async {
                let mut text = String::new();
                TcpStream::connect((TWO, 7)).await?.read_to_string(&mut text).await?;
                io::Result::Ok(text)
            };
            tokio::time::timeout(Duration::from_millis(500), connect).await.map(Result::unwrap)
        })
        .unwrap()
    };
    assert!(
        wait_until(Duration::from_secs(5), || one
            .within(|| { std::net::TcpStream::connect((TWO, 7)).is_ok() }))
        .await
        .unwrap()
    );
    assert_eq!(ask().result().await.unwrap().unwrap(), "hello");
    two.link(false).unwrap();
    assert!(ask().result().await.unwrap().is_err(), "a pulled cable carries nothing");
    two.link(true).unwrap();
    assert_eq!(ask().result().await.unwrap().unwrap(), "hello");
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
    let mut sleeper = one.command("sleep").arg("600").spawn().unwrap();
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
        let child = one.command("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        assert!(exists(one.namespace()));
        // The child is in the namespace only after `ip netns exec` has moved it there.
        while one.processes().unwrap().is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
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
