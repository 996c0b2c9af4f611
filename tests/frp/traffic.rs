//! What has to get through, whole and both ways.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;
use trigon::lab::exapp;

use crate::support::frpc::{Frpc, Setup, Transport, VERSIONS};
use crate::support::http;
use crate::support::node::{ALICE, Node};

const BIG: usize = 64 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn tls_carries_http_websockets_and_64_mib_each_way() {
    for version in VERSIONS {
        let node = Node::start("").await;
        let _frpc = Frpc::start(version, &node, &Setup::default());
        node.page_answers().await;
        everything_gets_through(&node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_everything_gets_through_too() {
    for version in VERSIONS {
        let node = Node::start("tls = false").await;
        let setup = Setup { transport: Transport::Plain, ..Setup::default() };
        let _frpc = Frpc::start(version, &node, &setup);
        node.page_answers().await;
        everything_gets_through(&node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_frpc_may_connect_leads_to_the_exapp() {
    for version in VERSIONS {
        for (extra, transport) in [
            ("", Transport::TlsWithHeadByte),
            ("", Transport::TlsWithoutMux),
            ("tls = false", Transport::TlsUnverified),
        ] {
            let node = Node::start(extra).await;
            let _frpc = Frpc::start(version, &node, &Setup { transport, ..Setup::default() });
            node.page_answers().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frpc_comes_back_after_the_node_was_killed_and_the_record_survived() {
    let mut node = Node::start("").await;
    let _frpc = Frpc::start(VERSIONS[0], &node, &Setup::default());
    node.page_answers().await;
    let asked = node.nextcloud.calls().exapp_meta;
    node.kill();
    node.launch();
    node.ready().await;
    node.page_answers().await;
    assert_eq!(node.nextcloud.calls().exapp_meta, asked, "the record was read from disk");
}

async fn everything_gets_through(node: &Node) {
    let path = format!("/exapps/labapp/public/source?bytes={BIG}");
    let answer = http::send(node.http, http::get(&path, &[])).await.unwrap();
    assert_eq!(answer.body().len(), BIG);
    assert_eq!(sha256(answer.body()), exapp::source_sha256(BIG as u64));

    let body: Bytes = (0..BIG as u64).map(exapp::source_byte).collect();
    let upload = http::request("POST", "/exapps/labapp/public/sink", &[], body);
    let answer = http::send(node.http, upload).await.unwrap();
    let report: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(report["sha256"], exapp::source_sha256(BIG as u64));

    let user = http::get("/exapps/labapp/user/headers", &[("cookie", ALICE)]);
    let answer = http::send(node.http, user).await.unwrap();
    assert_eq!(answer.status(), 200);
    let seen = String::from_utf8_lossy(answer.body()).to_lowercase();
    assert!(seen.contains("ex-app-id") && seen.contains("1.2.3"), "{seen}");

    websocket_echoes(node).await;
}

async fn websocket_echoes(node: &Node) {
    let url = format!("ws://{}/exapps/labapp/public/ws", node.http);
    let stream = tokio::net::TcpStream::connect(node.http).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    for size in [1, 125, 126, 70_000] {
        let sent = Message::binary(vec![7_u8; size]);
        socket.send(sent.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), sent);
    }
    socket.close(None).await.unwrap();
    let limit = std::time::Duration::from_secs(30);
    let end = async { while let Some(Ok(_)) = socket.next().await {} };
    assert!(tokio::time::timeout(limit, end).await.is_ok(), "the closing handshake ends");
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
