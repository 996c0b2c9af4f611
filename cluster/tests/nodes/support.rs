//! Nodes, directories and patience for the tests beside this file.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use cluster::record::{NodeId, SealedExApp, Tenant};
use cluster::{
    Admission, ClusterStatus, Command, Config, Founding, Handle, Joining, Node, Passport, Role,
    Secret, Seed, State, admit, found,
};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto, version};

/// Far longer than anything takes on a busy machine; reached only by a failing test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const CLUSTER: &str = "alpha";

/// Directories and addresses of a cluster whose nodes come and go.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) members: Vec<Seed>,
}

impl Site {
    /// Members 1, 2, ... prepared together; the first founds the cluster.
    pub(crate) fn new(roles: &[Role]) -> Self {
        let mut site = Self { dir: tempfile::tempdir().unwrap(), members: Vec::new() };
        for (number, role) in (1..).zip(roles) {
            let (node_name, address) = (format!("n{number}"), free_address());
            let dir = site.state_dir(number);
            let passport = if number == 1 {
                let cluster_name = CLUSTER.to_owned();
                found(&dir, &Founding { cluster_name, node_name, advertise: Some(address) })
            } else {
                let admission = Admission { node_name, role: *role, advertise: address };
                admit(&site.state_dir(1), &dir, &admission)
            };
            site.members.push(passport.unwrap().seed());
        }
        site
    }

    pub(crate) fn one() -> Self {
        Self::new(&[Role::Node])
    }

    pub(crate) fn three() -> Self {
        Self::new(&[Role::Node; 3])
    }

    pub(crate) fn state_dir(&self, id: NodeId) -> PathBuf {
        self.dir.path().join(format!("state-{id}"))
    }

    pub(crate) fn address(&self, id: NodeId) -> SocketAddr {
        self.members.iter().find(|member| member.number == id).unwrap().address.unwrap()
    }

    pub(crate) fn config(&self, id: NodeId) -> Config {
        Config { listen: Some(self.address(id)), ..Config::new(self.state_dir(id)) }
    }

    pub(crate) async fn start(&self, id: NodeId) -> (Node, Handle) {
        Node::start(self.config(id)).await.unwrap()
    }

    pub(crate) async fn start_all(&self) -> Vec<(Node, Handle)> {
        let mut nodes = Vec::new();
        for member in &self.members {
            nodes.push(self.start(member.number).await);
        }
        settled(&nodes).await;
        nodes
    }

    /// What a new machine joins with. Its directory is named by its name.
    pub(crate) async fn joining(&self, through: &Handle, name: &str, role: Role) -> Joining {
        let life = Duration::from_secs(600);
        let token = through.create_token(role, life, 1, PATIENCE).await.unwrap();
        Joining {
            token,
            peers: vec![self.address(through.node_id())],
            advertise: free_address(),
            node_name: name.to_owned(),
            role,
        }
    }

    pub(crate) fn dir_of(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new machine joins and starts.
    pub(crate) async fn join(&self, through: &Handle, name: &str, role: Role) -> (Node, Handle) {
        let joining = self.joining(through, name, role).await;
        let passport = cluster::join(&self.dir_of(name), &joining).await.unwrap();
        Node::start(self.joined(&passport)).await.unwrap()
    }

    /// The configuration of a node that has joined.
    pub(crate) fn joined(&self, passport: &Passport) -> Config {
        Config { listen: passport.advertise, ..Config::new(self.dir_of(&passport.node_name)) }
    }
}

/// Waits until every node has a quorum and three and more of them have an odd number of votes.
pub(crate) async fn settled(nodes: &[(Node, Handle)]) {
    for (_, handle) in nodes {
        until(handle, "the planned voters", |status| {
            let all = status.voters.len() + status.learners.len();
            status.quorum
                && !status.changing
                && all == nodes.len()
                && (all < 3 || status.voters.len() >= 3)
        })
        .await;
    }
}

pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

pub(crate) fn voters(status: &ClusterStatus) -> Vec<NodeId> {
    status.voters.iter().map(|voter| voter.id).collect()
}

pub(crate) fn exapp(id: &str, version: &str) -> Command {
    let record = SealedExApp {
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

/// Waits until a node knows of that many session keys; gives the one in force if it can open it.
pub(crate) async fn session_key(handle: &Handle, number: u64) -> Option<Secret> {
    let mut changes = handle.changes();
    let seen = async {
        while handle.read(State::session_epoch).number < number {
            changes.changed().await.unwrap();
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, seen).await;
    assert!(in_time.is_ok(), "node {} has no session key {number}", handle.node_id());
    handle.session_keys().current
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

/// TLS towards nodes of that authority without a certificate of one's own.
pub(crate) fn anonymous(authority: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
    let provider = std::sync::Arc::new(crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![cluster::identity::ALPN.to_vec()];
    config
}
