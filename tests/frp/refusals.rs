//! What is refused, with the answer frpc expects, and what goes on unharmed beside it.

use std::fs;

use cluster::record::Tenant;
use trigon::frp::Credentials;
use trigon::guard::SharedKeys;
use trigon::secret::Secret;

use crate::support::frpc::{Frpc, Setup, Transport, VERSIONS};
use crate::support::http;
use crate::support::node::{A_MOMENT, APP, KEY, Node, TUNNEL};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_refused_as_harp_refuses_it() {
    for version in VERSIONS {
        let node = Node::start("").await;
        let _good = Frpc::start(version, &node, &Setup::default());
        node.page_answers().await;
        let setup = Setup { token: "guessed", proxy: "thief", port: 23_008, ..Setup::default() };
        let bad = Frpc::start(version, &node, &setup);
        bad.says("send Login request to plugin error").await;
        let answer = http::send(node.http, http::get("/exapps/labapp/public/", &[])).await;
        assert_eq!(answer.unwrap().status(), 200, "the tunnel beside it goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_another_authority_does_not_get_in() {
    for version in VERSIONS {
        let node = Node::start("").await;
        let strangers = node.dir().join("strangers");
        let cluster = cluster::Handle::in_memory(1);
        let pki = trigon::frp::pki::ensure(&cluster, 30).await.unwrap();
        pki.write_files(&strangers).unwrap();
        // It trusts our server, so that the refusal is ours.
        fs::copy(node.dir().join("state/frp/ca.crt"), strangers.join("ca.crt")).unwrap();
        let setup = Setup { certificates: Some(strangers), ..Setup::default() };
        let frpc = Frpc::start(version, &node, &setup);
        frpc.says("connect to server error").await;
        tokio::time::sleep(A_MOMENT).await;
        assert!(!frpc.log().contains("login to server success"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_tls_is_turned_away_from_a_tls_port_and_named_in_the_log() {
    for version in VERSIONS {
        let node = Node::start("").await;
        let setup = Setup { transport: Transport::Plain, ..Setup::default() };
        let frpc = Frpc::start(version, &node, &setup);
        frpc.says("connect to server error").await;
        assert!(node.log().contains("TLS"), "the log says why");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_outside_the_allowed_ranges_are_refused() {
    for version in VERSIONS {
        let node = Node::start("").await;
        let setup = Setup { port: 22_000, ..Setup::default() };
        Frpc::start(version, &node, &setup).says("port not allowed").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_ports_in_use_are_refused_and_their_holder_goes_on() {
    for version in VERSIONS {
        let node = Node::start("").await;
        let _holder = Frpc::start(version, &node, &Setup::default());
        node.page_answers().await;
        let same_name = Setup { port: 23_100, ..Setup::default() };
        let name = Frpc::start(version, &node, &same_name);
        name.says("proxy [labapp] already exists").await;
        let same_port = Setup { proxy: "other", ..Setup::default() };
        let port = Frpc::start(version, &node, &same_port);
        port.says("port already used").await;
        node.page_answers().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w18_frpc_with_an_apps_token_serves_that_app_and_opens_no_other_tunnel() {
    let credentials = Credentials::new(&SharedKeys::new(Secret::new(KEY)));
    let token = credentials.issue(&Tenant::default(), APP, TUNNEL).unwrap();
    for version in VERSIONS {
        let node = Node::start("").await;
        let setup = Setup { token: &token, ..Setup::default() };
        let _app = Frpc::start(version, &node, &setup);
        node.page_answers().await;
        let thief = Setup { token: &token, proxy: "thief", port: 23_008, ..Setup::default() };
        let thief = Frpc::start(version, &node, &thief);
        thief.says("token is for proxy [labapp] on port 23007 only").await;
        let engine = Setup { token: &token, proxy: "engine", port: 24_000, ..Setup::default() };
        Frpc::start(version, &node, &engine).says("port not allowed").await;
        // The key that Docker engines and older containers show.
        let impostor = Setup { proxy: "impostor", ..Setup::default() };
        Frpc::start(version, &node, &impostor).says("port already used").await;
        node.page_answers().await;
        assert!(!node.log().contains(&token), "tokens are not logged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w03_an_apps_token_is_no_key_to_anything_over_http() {
    let credentials = Credentials::new(&SharedKeys::new(Secret::new(KEY)));
    let token = credentials.issue(&Tenant::default(), APP, TUNNEL).unwrap();
    let node = Node::start("").await;
    let headers = [("harp-shared-key", token.as_str())];
    let info = http::get("/exapps/app_api/info", &headers);
    assert_eq!(http::send(node.http, info).await.unwrap().status(), 401);
}
