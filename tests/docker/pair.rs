//! Two nodes and a witness on machines of their own, and a remote engine that finds them by the
//! virtual address.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use cluster::{Admission, Founding, Role};
use tempfile::TempDir;
use trigon::lab::namespaces::{INTERFACE, Lan};
use trigon::lab::nextcloud::Nextcloud;

use crate::life::Stage;
use crate::machine::{
    EngineTunnel, FRP_PORT, HTTP_PORT, KEY, Trigon, node_sections, start_nextcloud,
};
use crate::support::appapi::{AppApi, DIALECTS, Daemon};
use crate::support::engine::Engine;
use crate::support::eventually;

/// The machine the test itself runs on, with Nextcloud.
pub(crate) const CLOUD: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 100);
const MEMBERS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 88, 0, 11), Ipv4Addr::new(10, 88, 0, 12), Ipv4Addr::new(10, 88, 0, 13)];
const CLUSTER_PORT: u16 = 7443;
const ENGINE_PORT: u16 = 24_001;

/// The cluster and its engine. Members are numbered 0, 1 (nodes) and 2 (witness).
pub(crate) struct Pair {
    pub(crate) members: [Trigon; 3],
    pub(crate) tunnel: EngineTunnel,
    pub(crate) engine: Engine,
    pub(crate) nextcloud: Nextcloud,
}

impl Pair {
    /// Starts everything and waits until node 0 is Active and the engine answers through it.
    pub(crate) async fn start(lan: &Lan) -> Self {
        let host = |name: &str, address| Arc::new(lan.host(name, address).unwrap());
        let far = host("far", FAR);
        let engine = Engine::start(&far).await;
        let nextcloud = start_nextcloud(CLOUD).await;
        let dirs = prepared();
        let start = |index: usize, (name, dir)| {
            Trigon::start_in(&host(name, MEMBERS[index]), dir, |dir| config(index, dir))
        };
        let [a, b, witness] = dirs;
        let members = [start(0, ("a", a)), start(1, ("b", b)), start(2, ("witness", witness))];
        for member in &members {
            member.ready().await;
        }
        eventually("node a holds the address", || async {
            (members[0].holds(VIP) && !members[1].holds(VIP)).then_some(())
        })
        .await;
        let to = SocketAddr::from((VIP, FRP_PORT));
        let files = members[0].certificates();
        let tunnel = EngineTunnel::start(&far, &engine, to, ENGINE_PORT, &files);
        let pair = Self { members, tunnel, engine, nextcloud };
        pair.engine_answers().await;
        pair
    }

    /// AppAPI and visitors go to the virtual address.
    pub(crate) fn stage(&self) -> Stage<'_> {
        let server = SocketAddr::from((VIP, HTTP_PORT));
        let frp = SocketAddr::from((VIP, FRP_PORT));
        let daemon = Daemon { server, key: KEY, engine: ENGINE_PORT, frp };
        let appapi = AppApi { daemon, dialect: DIALECTS[1] };
        Stage { appapi, engine: &self.engine, nextcloud: &self.nextcloud, http: server }
    }

    /// A power cut of the Active; returns when the other node has the address.
    pub(crate) async fn kill_active(&mut self) {
        let active = usize::from(self.members[1].holds(VIP));
        self.members[active].kill();
        let standby = &self.members[1 - active];
        eventually("the standby holds the address", || async { standby.holds(VIP).then_some(()) })
            .await;
    }

    /// Waits until the engine answers through the virtual address.
    pub(crate) async fn engine_answers(&self) {
        let stage = self.stage();
        eventually("the engine answers through its tunnel", || async {
            (stage.appapi.ping().await.ok()?.status == 200).then_some(())
        })
        .await;
    }
}

/// A directory for each member, whose `state` belongs to one cluster.
fn prepared() -> [TempDir; 3] {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let state = |index: usize| dirs[index].path().join("state");
    let address = |index: usize| SocketAddr::from((MEMBERS[index], CLUSTER_PORT));
    let founding = Founding {
        cluster_name: "docker".into(),
        node_name: "a".into(),
        advertise: Some(address(0)),
    };
    cluster::found(&state(0), &founding).unwrap();
    for (index, node_name, role) in [(1, "b", Role::Node), (2, "witness", Role::Witness)] {
        let (node_name, advertise) = (node_name.to_owned(), address(index));
        let admission = Admission { node_name, role, advertise };
        cluster::admit(&state(0), &state(index), &admission).unwrap();
    }
    dirs
}

fn config(index: usize, dir: &Path) -> String {
    let text = if index < 2 {
        let priority = 254 - index;
        node_sections(dir, CLOUD, "")
            + &format!(
                "[[vrrp]]\ninterface = \"{INTERFACE}\"\nvrid = 88\npriority = {priority}\n\
                 addresses = [\"{VIP}\"]\n"
            )
    } else {
        let dir = dir.display();
        format!(
            "[node]\nrole = \"witness\"\nstate_dir = \"{dir}/state\"\n\
             admin_socket = \"{dir}/admin.sock\"\n"
        )
    };
    format!("{text}[cluster]\nlisten = \"{}:{CLUSTER_PORT}\"\n", MEMBERS[index])
}

/// Runs a whole test with a pair, on the machine of [`CLOUD`].
pub(crate) async fn with_a_pair<Run: Future<Output = ()>>(
    test: impl FnOnce(Pair) -> Run + Send + 'static,
) {
    crate::machine::on_a_machine(CLOUD, |lan, _host| async move {
        let pair = Pair::start(&lan).await;
        test(pair).await;
    })
    .await;
}
