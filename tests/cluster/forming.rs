//! How the members of a test's cluster come to be one: the only file that knows.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use cluster::identity::link_files;
use cluster::{Passport, Role};
use trigon::admin::client;
use trigon::admin::tokens::NewToken;

use crate::machine::Machine;
use crate::support::eventually;

const CLUSTER_PORT: u16 = 7443;

/// Makes one cluster of the machines as an admin does, by the commands of `trigon`: the first one
/// founds it, the others join. All of them run when it returns. `keys` stand in `[cluster]` of each.
pub(crate) async fn form(members: &mut [&mut Machine], keys: &str) {
    for member in &*members {
        let role = format!("role = \"{}\"", member.role());
        let listen = control(member.address());
        member.configure(&role, &format!("[cluster]\nlisten = \"{listen}\"\n{keys}"));
    }
    let [first, others @ ..] = members else { panic!("a cluster has a member") };
    first.call(&["init", "--name", "rows"], "");
    first.start();
    first.until("a cluster of one", |status| status.cluster.quorum).await;
    for member in others {
        take_in(first, member).await;
    }
}

/// One more machine joins by way of `host` and starts.
pub(crate) async fn take_in(host: &Machine, member: &mut Machine) {
    let peer = control(host.address()).to_string();
    let role = if member.role() == "node" { Role::Node } else { Role::Witness };
    let new = NewToken { role, for_seconds: 600, uses: 1 };
    // Its own address is on record a moment after it leads.
    let made =
        eventually("a token", || async { client::create_token(&host.socket(), &new).await.ok() })
            .await;
    member.call(&["join", "-", "--peer", &peer], &made.token);
    member.start();
}

/// Where a member listens for the others.
pub(crate) fn control(address: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((address, CLUSTER_PORT))
}

/// What proves to `to` that somebody is that member.
pub(crate) struct Papers {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// What `to` is called in its own certificate.
    pub(crate) server_name: String,
}

/// Those of `member`, which lies on the disk the test sees.
pub(crate) fn papers(member: &Machine, to: &Machine) -> Papers {
    let state = member.dir().join("state");
    let cluster = Passport::load(&state).unwrap().unwrap().group.cluster;
    let files = link_files(&state);
    Papers {
        authority: files.ca,
        certificate: files.certificate,
        key: files.key,
        server_name: format!("node-{}.{cluster}.trigon.internal", to.number()),
    }
}
