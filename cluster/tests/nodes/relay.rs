//! Streams to tunnels of another node: bytes both ways, refusals, a peer that is gone.

use std::sync::Arc;
use std::time::Duration;

use cluster::Handle;
use cluster::record::{Tenant, TunnelKey};
use cluster::relay::{RelayError, RelayRefusal, Relayed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{PATIENCE, Site};

const HELD: u16 = 23001;

fn key(port: u16) -> TunnelKey {
    TunnelKey { tenant: Tenant::new("second"), port }
}

/// Lets a node hold one tunnel, whose far end sends back what it gets, then ends.
fn hold(handle: &Handle) {
    handle.on_relay(Arc::new(|key: TunnelKey| {
        Box::pin(async move {
            if key.port != HELD || key.tenant != Tenant::new("second") {
                return Err(RelayRefusal::NotHere);
            }
            let (near, far) = tokio::io::duplex(1000);
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(far);
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
            Ok(Box::new(near) as Relayed)
        })
    }));
}

#[tokio::test]
async fn a_stream_reaches_the_node_that_holds_the_tunnel_and_no_further() {
    let site = Site::three();
    let nodes = site.start_all().await;
    let [one, two, three] = [0, 1, 2].map(|at| nodes[at].1.clone());
    hold(&two);
    // More than fits into any buffer on the way, and more streams than are kept ready.
    let sent: Vec<u8> = (0..600_000_u32).map(|at| (at % 251) as u8).collect();
    for _ in 0..6 {
        let stream = one.relay(2, &key(HELD), PATIENCE).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut back = Vec::new();
        let send = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let receive = reader.read_to_end(&mut back);
        let ((), received) = tokio::join!(send, receive);
        received.unwrap();
        assert!(back == sent, "{} bytes came back", back.len());
    }
    // Node 3 holds nothing, and does not ask node 2 on behalf of node 1.
    for (to, port) in [(2, 23002), (3, HELD)] {
        let refused = one.relay(to, &key(port), PATIENCE).await.err();
        assert!(
            matches!(refused, Some(RelayError::Refused(RelayRefusal::NotHere))),
            "node {to}: {refused:?}"
        );
    }
    // A refusal leaves the connection in order.
    assert!(one.relay(2, &key(HELD), PATIENCE).await.is_ok());
    let unknown = three.relay(9, &key(HELD), PATIENCE).await.err();
    assert!(matches!(unknown, Some(RelayError::Unreachable { node: 9, .. })), "{unknown:?}");

    let mut nodes = nodes.into_iter();
    let (first, second) = (nodes.next().unwrap(), nodes.next().unwrap());
    let mut open = one.relay(2, &key(HELD), PATIENCE).await.unwrap();
    second.0.shutdown().await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, open.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "a stream ends with the node that holds the tunnel");
    let gone = one.relay(2, &key(HELD), Duration::from_secs(5)).await.err();
    assert!(matches!(gone, Some(RelayError::Unreachable { node: 2, .. })), "{gone:?}");
    first.0.shutdown().await;
}
