//! Nodes, certificates and patience for the tests beside this file.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use cluster::identity::Authority;
use cluster::record::{ExApp, NodeId, Tenant};
use cluster::{ClusterStatus, Command, Config, Handle, Member, Node, Role, TlsFiles};

/// Far longer than anything takes on a busy machine; reached only by a failing test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const CLUSTER: &str = "alpha";

/// Certificates, directories and addresses of a cluster whose nodes come and go.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) authority: Authority,
    pub(crate) members: Vec<Member>,
}

impl Site {
    pub(crate) fn new(roles: &[(NodeId, Role)]) -> Self {
        let members =
            roles.iter().map(|&(id, role)| Member { id, address: free_address(), role }).collect();
        let dir = tempfile::tempdir().unwrap();
        Self { dir, authority: Authority::generate(CLUSTER).unwrap(), members }
    }

    pub(crate) fn three() -> Self {
        Self::new(&[(1, Role::Node), (2, Role::Node), (3, Role::Node)])
    }

    pub(crate) fn config(&self, id: NodeId) -> Config {
        let member = self.members.iter().find(|member| member.id == id).unwrap();
        Config {
            cluster_name: CLUSTER.into(),
            listen: member.address,
            members: self.members.clone(),
            tls: Some(self.certificate(id)),
            ..Config::single(id, self.dir.path().join(format!("state-{id}")))
        }
    }

    fn certificate(&self, id: NodeId) -> TlsFiles {
        let (certificate, key) = self.authority.issue(id).unwrap();
        write_pem(self.dir.path(), self.authority.certificate_pem(), &certificate, &key, id)
    }

    pub(crate) async fn start(&self, id: NodeId) -> (Node, Handle) {
        Node::start(self.config(id)).await.unwrap()
    }

    pub(crate) async fn start_all(&self) -> Vec<(Node, Handle)> {
        let mut nodes = Vec::new();
        for member in &self.members {
            nodes.push(self.start(member.id).await);
        }
        for (_, handle) in &nodes {
            until(handle, "a leader with a quorum", |status| status.quorum).await;
        }
        nodes
    }
}

pub(crate) fn write_pem(
    dir: &Path,
    ca: &str,
    certificate: &str,
    key: &str,
    id: NodeId,
) -> TlsFiles {
    let at = |name: &str, text: &str| {
        let path = dir.join(format!("{name}-{id}.pem"));
        std::fs::write(&path, text).unwrap();
        path
    };
    TlsFiles { ca: at("ca", ca), certificate: at("node", certificate), key: at("key", key) }
}

pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

pub(crate) fn exapp(id: &str, version: &str) -> Command {
    let record = ExApp {
        id: id.into(),
        token: "secret".into(),
        version: version.into(),
        host: "127.0.0.1".into(),
        port: 23000,
        routes: Vec::new(),
    };
    Command::PushExApp { tenant: Tenant::default(), record }
}

/// Wall-clock milliseconds.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// The version of a record as this node sees it.
pub(crate) fn version(handle: &Handle, id: &str) -> Option<String> {
    handle.read(|state| state.exapp(&Tenant::default(), id).map(|record| record.version.clone()))
}

/// Waits until the view of a node shows what is expected.
pub(crate) async fn shows(handle: &Handle, id: &str, expected: &str) {
    let mut changes = handle.changes();
    let seen = async {
        while version(handle, id).as_deref() != Some(expected) {
            changes.changed().await.unwrap();
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, seen).await;
    assert!(in_time.is_ok(), "node {} shows {:?}", handle.node_id(), version(handle, id));
}

/// Waits until a node says so about the cluster.
pub(crate) async fn until(
    handle: &Handle,
    what: &str,
    holds: impl Fn(&ClusterStatus) -> bool,
) -> ClusterStatus {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let status = handle.status();
        if holds(&status) {
            return status;
        }
        assert!(tokio::time::Instant::now() < deadline, "no {what}: {status:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
