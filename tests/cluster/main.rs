//! Three real processes: two nodes and a witness, on loopback, over mutual TLS.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot set itself up fails, and shows the logs of what it started"
)]

#[path = "../support/mod.rs"]
mod support;

mod trio;

use std::net::SocketAddr;
use std::time::Duration;

use trigon::admin::bans::{NewBan, Removal};
use trigon::admin::client;
use trio::Trio;

use crate::support::{eventually, http};

const RECORD: &str = r#"{"exapp_token":"t0ken-of-the-app","exapp_version":"1.0.0",
    "host":"127.0.0.1","port":23001,
    "routes":[{"url":"^/","access_level":0,"bruteforce_protection":[]}]}"#;

async fn push(to: SocketAddr, app: &str) -> Option<u16> {
    let path = format!("/exapps/app_api/exapp_storage/{app}");
    let key = [("harp-shared-key", support::node::KEY)];
    let answer = http::send(to, http::request("POST", &path, &key, RECORD)).await?;
    Some(answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_survives_the_leader_and_the_standby_answers_meanwhile() {
    let mut trio = Trio::start().await;
    assert_eq!(push(trio.http(1), "first").await, Some(204));
    for member in [1, 2, 3] {
        trio.has_record(member, "first").await;
    }

    let leader = trio.leader_among_nodes().await;
    let standby = 3 - leader;
    trio.kill(leader);
    // Known app without its tunnel: 503. An unknown one would be asked for and answer 404.
    let page = http::get("/exapps/first/", &[]);
    let answer = http::send(trio.http(standby), page).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(trio.nextcloud.calls().exapp_meta, 0, "the record came from its own view");

    eventually("a change is confirmed without the old leader", || async {
        (push(trio.http(standby), "second").await? == 204).then_some(())
    })
    .await;
    trio.has_record(standby, "second").await;
    trio.has_record(3, "second").await;

    trio.launch(leader);
    trio.has_record(leader, "second").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_reading_goes_on_and_a_push_is_kept_here() {
    let mut trio = Trio::start().await;
    assert_eq!(push(trio.http(1), "first").await, Some(204));
    trio.has_record(2, "first").await;
    trio.kill(1);
    trio.kill(3);
    eventually("the survivor knows that it is alone", || async {
        (!trio.status(2).await?.cluster.quorum).then_some(())
    })
    .await;
    let answer = http::send(trio.http(2), http::get("/exapps/first/", &[])).await.unwrap();
    assert_eq!(answer.status(), 503, "still known without a quorum");
    assert_eq!(push(trio.http(2), "lonely").await, Some(204), "AppAPI would never try again");
    let answer = http::send(trio.http(2), http::get("/exapps/lonely/", &[])).await.unwrap();
    assert_eq!(answer.status(), 503, "and it is used here");
}

/// Whether the node answers a client that has no key, rather than dropping it.
async fn lets_in(to: SocketAddr) -> bool {
    let answer = http::send(to, http::get("/exapps/app_api/info", &[]));
    tokio::time::timeout(Duration::from_secs(2), answer).await.is_ok_and(|sent| sent.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_on_one_node_ban_on_the_other_and_a_pardon_there_lifts_it_here() {
    let trio = Trio::start().await;
    for _ in 0..10 {
        let _ = http::send(trio.http(1), http::get("/exapps/app_api/info", &[])).await;
    }
    assert!(!lets_in(trio.http(1)).await);
    eventually("the other node drops the banned client", || async {
        (!lets_in(trio.http(2)).await).then_some(())
    })
    .await;
    let removal = Removal { address: "127.0.0.1".into() };
    let removed = client::pardon(&trio.socket(2), &removal).await.unwrap();
    assert!(removed.found);
    eventually("the first node lets the client in again", || async {
        lets_in(trio.http(1)).await.then_some(())
    })
    .await;
    let refused = client::bans(&trio.socket(3), false).await.unwrap_err();
    assert!(refused.to_string().contains("a witness knows no"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_a_ban_is_refused_in_words() {
    let mut trio = Trio::start().await;
    trio.kill(1);
    trio.kill(3);
    eventually("the survivor knows that it is alone", || async {
        (!trio.status(2).await?.cluster.quorum).then_some(())
    })
    .await;
    let new = NewBan { address: "192.0.2.7".into(), for_seconds: None, reason: String::new() };
    match client::ban(&trio.socket(2), &new).await {
        Err(client::Error::Unconfirmed(words)) => assert!(words.contains("no quorum"), "{words}"),
        other => panic!("{other:?}"),
    }
    assert!(client::bans(&trio.socket(2), false).await.unwrap().0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_on_the_control_link_is_refused_and_harms_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let trio = Trio::start().await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff], &[0xff; 9000], &[]] {
        let mut stream = tokio::net::TcpStream::connect(trio.control(1)).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let mut rest = Vec::new();
        let closed = stream.read_to_end(&mut rest);
        let limit = Duration::from_secs(30);
        assert!(tokio::time::timeout(limit, closed).await.is_ok(), "left connected: {bytes:?}");
    }
    assert_eq!(push(trio.http(2), "after").await, Some(204));
}
