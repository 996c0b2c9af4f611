//! An engine on another machine: a stock frpc publishes its socket under an engine port.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use trigon::lab::namespaces::Host;

use crate::life::{Stage, app, nothing_secret_in};
use crate::machine::{
    EngineTunnel, FRP_PORT, HTTP_PORT, KEY, Trigon, node_sections, on_a_machine, start_nextcloud,
};
use crate::support::appapi::{AppApi, DIALECTS, Daemon};
use crate::support::engine::Engine;
use crate::support::eventually;

const CLOUD: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
const ENGINE_PORT: u16 = 24_001;

#[tokio::test]
async fn an_app_lives_its_whole_life_on_a_remote_engine() {
    on_a_machine(CLOUD, |lan, host| async move {
        let far = Arc::new(lan.host("far", FAR).unwrap());
        let engine = Engine::start(&far).await;
        let nextcloud = start_nextcloud(CLOUD).await;
        let text = |dir: &Path| node_sections(dir, CLOUD, "");
        let trigon = Trigon::start(&host, text);
        trigon.ready().await;
        let frp = SocketAddr::from((CLOUD, FRP_PORT));
        let tunnel = EngineTunnel::start(&far, &engine, frp, ENGINE_PORT, &trigon.certificates());

        let server = SocketAddr::from((CLOUD, HTTP_PORT));
        let daemon = Daemon { server, key: KEY, engine: ENGINE_PORT, frp };
        let appapi = AppApi { daemon, dialect: DIALECTS[1] };
        eventually("the engine answers through its tunnel", || async {
            (appapi.ping().await.ok()?.status == 200).then_some(())
        })
        .await;
        w04_nothing_listens_for_tunnels(&host);
        let stage =
            Stage { appapi: appapi.clone(), engine: &engine, nextcloud: &nextcloud, http: server };
        stage.whole_life("remoteapp", 23_100).await;

        let apps = [&app("remoteapp", 0)];
        nothing_secret_in(&trigon.log(), &apps);
        nothing_secret_in(&tunnel.log(), &apps);

        // The remote machine is gone. AppAPI gives a ping three seconds (W20).
        drop(tunnel);
        let gone = || async {
            let answer = appapi.ping().await.ok()?;
            (answer.status == 503 && answer.text().contains("24001")).then_some(())
        };
        eventually("a ping says that the engine is gone", gone).await;
    })
    .await;
}

/// Tunnels end in the process: whoever gets onto the node's machine finds no engine on a port.
fn w04_nothing_listens_for_tunnels(host: &Host) {
    let listed = host.command("ss").args(["-Hltn"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains(&format!(":{HTTP_PORT}")), "{listed}");
    assert!(!listed.contains(":23") && !listed.contains(":24"), "{listed}");
}
