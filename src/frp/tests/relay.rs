//! Two nodes that see one state: a request at either reaches a tunnel that ends at the other.

use cluster::record::TunnelKey;
use cluster::relay::{RelayError, RelayRefusal};

use super::*;

async fn pair() -> [Server; 2] {
    let [one, two] = Handle::in_memory_pair([1, 2]);
    let config = Config { tls: TlsMode::Optional, ..Config::default() };
    [Server::start_on(one, config.clone()).await, Server::start_on(two, config).await]
}

fn key() -> TunnelKey {
    TunnelKey { tenant: Tenant::default(), port: PORT }
}

#[tokio::test]
async fn a_request_at_one_node_reaches_a_tunnel_of_the_other() {
    let [one, two] = pair().await;
    let mut client = Client::run(one.client(echo_server().await));
    client.started().await;
    two.registered(true).await;
    assert!(!two.tunnels.is_live(PORT));
    for size in [1, 300_000] {
        echo(two.dial().await.unwrap(), size).await;
    }
    client.stop.cancel();
}

#[tokio::test]
async fn a_request_that_waits_is_led_to_wherever_the_client_comes_back() {
    let [one, two] = pair().await;
    for back_at in [&one, &two] {
        let mut client = Client::run(one.client(echo_server().await));
        client.started().await;
        client.stop.cancel();
        while one.tunnels.is_live(PORT) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let waiting = tokio::spawn({
            let tunnels = two.tunnels.clone();
            async move { tunnels.dial(&Target::Tunnel(PORT)).await }
        });
        let mut again = Client::run(back_at.client(echo_server().await));
        again.started().await;
        let stream = timeout(PATIENCE, waiting).await.unwrap().unwrap();
        echo(stream.unwrap(), 1000).await;
        again.stop.cancel();
    }
}

#[tokio::test]
async fn a_stream_to_another_node_ends_once_the_client_is_here() {
    let [one, two] = pair().await;
    let mut there = Client::run(one.client(echo_server().await));
    there.started().await;
    two.registered(true).await;
    let mut stream = two.dial().await.unwrap();
    // The node there goes on, as one does that is cut off and has not noticed.
    let mut here = Client::run(two.client(echo_server().await));
    here.started().await;
    let read = timeout(PATIENCE, stream.read_u8()).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    echo(two.dial().await.unwrap(), 1000).await;
    here.stop.cancel();
    there.stop.cancel();
}

#[tokio::test]
async fn a_node_serves_the_others_only_tunnels_that_end_at_itself() {
    let [one, two] = pair().await;
    let mut client = Client::run(one.client(echo_server().await));
    client.started().await;
    two.registered(true).await;
    // Node 2 could reach it, but does not for node 1.
    let refused = one.cluster.relay(2, &key(), PATIENCE).await.err();
    assert!(matches!(refused, Some(RelayError::Refused(RelayRefusal::NotHere))), "{refused:?}");
    client.stop.cancel();
}

#[tokio::test]
async fn a_client_that_has_moved_is_registered_where_it_is_whatever_the_old_node_takes_back() {
    let [one, two] = pair().await;
    let (mut old, run_id) = Peer::login(&one, "").await;
    assert_eq!(old.register("app", PORT).await, "");
    one.registered(true).await;
    let (mut new, _) = Peer::login(&two, &run_id).await;
    assert_eq!(new.register("app", PORT).await, "");
    let node = || two.cluster.read(|state| state.tunnel(&Tenant::default(), PORT).unwrap().node);
    let mut changes = two.cluster.changes();
    while node() != 2 {
        timeout(PATIENCE, changes.changed()).await.unwrap().unwrap();
    }
    old.send(Message::CloseProxy(CloseProxy { proxy_name: "app".into() })).await;
    // The next answer comes after the close was carried out.
    old.register("other", PORT + 1).await;
    assert_eq!(node(), 2);
}
