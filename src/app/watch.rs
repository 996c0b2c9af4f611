//! Puts the thread that follows the virtual routers together, and stops it with the node.

use std::net::IpAddr;
use std::sync::mpsc;

use anyhow::Context;
use cluster::Handle;
use tokio_util::sync::CancellationToken;

use crate::failover::{Effects, Recorder, Told, Watch};
use crate::frp::Tunnels;
use crate::net::Sockets;

/// The addresses of these virtual routers.
pub(super) fn addresses(routers: &[vrrp::RouterConfig]) -> Vec<IpAddr> {
    let held = routers.iter().flat_map(|router| router.held());
    held.map(vrrp::VirtualAddress::address).collect()
}

/// The thread of a node whose clients come through `sockets` to these virtual addresses.
pub(super) fn watch(
    cluster: &Handle,
    tunnels: &Tunnels,
    sockets: Vec<Sockets>,
    addresses: Vec<IpAddr>,
) -> Watch {
    let recorder = Recorder::new(cluster.flows().clone(), sockets.clone(), addresses);
    let effects = Effects {
        is_live: Box::new({
            let tunnels = tunnels.clone();
            move |tunnel| tunnels.of(&tunnel.tenant).is_live(tunnel.port)
        }),
        adopt: Box::new({
            let (tunnels, sockets) = (tunnels.clone(), sockets.clone());
            move |addresses| {
                sockets.iter().for_each(|sockets| sockets.regain(addresses));
                tunnels.adopt(addresses);
            }
        }),
        abandon: Box::new({
            let tunnels = tunnels.clone();
            move |addresses| {
                let connections: usize =
                    sockets.iter().map(|sockets| sockets.abandon(addresses)).sum();
                tunnels.abandon(addresses);
                tracing::info!(
                    connections,
                    ?addresses,
                    "connections abandoned: their address left this node"
                );
            }
        }),
    };
    Watch::new(cluster.clone(), effects, recorder)
}

/// Runs it until `stop`. `reports` is what the VRRP thread sends to `told`.
pub(super) async fn run(
    watch: Watch,
    told: mpsc::Receiver<Told>,
    reports: mpsc::Sender<Told>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut thread = tokio::task::spawn_blocking(move || watch.run(&told));
    let broke = "the thread that follows the virtual routers broke";
    tokio::select! {
        ended = &mut thread => return ended.context(broke),
        () = stop.cancelled() => {}
    }
    // It has ended by itself if nobody listens any more.
    let _ = reports.send(Told::Stop);
    thread.await.context(broke)
}
