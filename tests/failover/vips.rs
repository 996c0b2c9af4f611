//! Two virtual addresses, each node Active for one of them: a request at either reaches a tunnel
//! that ends at the other, and a power cut moves one address with its tunnels.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cluster::{Admission, Founding, Role};
use tempfile::TempDir;
use trigon::admin::status::Status;
use trigon::lab::exapp;
use trigon::lab::namespaces::{Host, INTERFACE, Lan};
use trigon::lab::nextcloud::{App, Directory, Nextcloud};
use trigon::secret::Secret;

pub(crate) const CLOUD: Ipv4Addr = Ipv4Addr::new(10, 69, 0, 1);
const NODES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 69, 0, 11), Ipv4Addr::new(10, 69, 0, 12), Ipv4Addr::new(10, 69, 0, 13)];
pub(crate) const VIPS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 69, 0, 100), Ipv4Addr::new(10, 69, 0, 101)];
pub(crate) const APPS: [(&str, u16); 2] = [("one", 23_001), ("two", 23_002)];
const KEY: &str = "a-key-for-two-addresses";
const CLUSTER_PORT: u16 = 7443;

/// Generous: what is waited for comes within milliseconds, or with frpc's next try.
const LIMIT: Duration = Duration::from_secs(90);

/// A member on its machine.
pub(crate) struct Member {
    pub(crate) host: Host,
    pub(crate) dir: TempDir,
    process: Option<Child>,
}

impl Member {
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log"));
        let mut command = self.host.command(env!("CARGO_BIN_EXE_trigon"));
        command.args(["run", "--config"]).arg(self.dir.path().join("trigon.toml"));
        command.env("TRIGON_LOG", "info,trigon=debug");
        self.process = Some(command.stdin(Stdio::null()).stderr(log.unwrap()).spawn().unwrap());
    }

    pub(crate) fn power_cut(&mut self) {
        self.host.link(false).unwrap();
        self.host.kill_all().unwrap();
        self.process.take().unwrap().wait().unwrap();
    }

    /// Its admin socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    pub(crate) async fn status(&self) -> Option<Status> {
        trigon::admin::client::status(&self.socket()).await.ok()
    }

    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Status) -> bool) {
        let wanted = async {
            while !self.status().await.is_some_and(|status| is_so(&status)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(LIMIT, wanted).await;
        assert!(found.is_ok(), "never happened: {what}\n{}", self.log());
    }

    /// Waits until it is Active for exactly these of its virtual routers, and can serve.
    pub(crate) async fn holds(&self, expected: &[bool]) {
        self.until("the addresses are where they belong", |status| {
            status.ready
                && status.vrrp.iter().zip(expected).all(|(router, active)| {
                    router.state == if *active { "active" } else { "backup" }
                })
        })
        .await;
    }

    /// The node that has registered an ExApp's tunnel, as this one knows it.
    pub(crate) async fn tunnel_ends_at(&self, port: u16, node: u64) {
        self.until("the tunnel is registered where its client is", |status| {
            status.tunnels.iter().any(|tunnel| tunnel.port == port && tunnel.node == node)
        })
        .await;
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let _ = writeln!(std::io::stderr(), "--- {}\n{log}", self.dir.path().display());
        }
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Ends with the value.
pub(crate) struct Frpc(Child);

impl Drop for Frpc {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two nodes and a witness: one cluster, with a configuration each.
pub(crate) fn members(lan: &Lan, config: fn(usize, &Path) -> String) -> [Member; 3] {
    let members = ["a", "b", "c"].map(|name| {
        let address = NODES[usize::from(name.as_bytes()[0] - b'a')];
        let dir = tempfile::tempdir().unwrap();
        Member { host: lan.host(name, address).unwrap(), dir, process: None }
    });
    let state = |index: usize| members[index].dir.path().join("state");
    let address = |index: usize| SocketAddr::from((NODES[index], CLUSTER_PORT));
    let founding = Founding {
        cluster_name: "vips".into(),
        node_name: "a".into(),
        advertise: Some(address(0)),
    };
    cluster::found(&state(0), &founding).unwrap();
    for (index, node_name, role) in [(1, "b", Role::Node), (2, "c", Role::Witness)] {
        let (node_name, advertise) = (node_name.to_owned(), address(index));
        let admission = Admission { node_name, role, advertise };
        cluster::admit(&state(0), &state(index), &admission).unwrap();
    }
    for (index, member) in members.iter().enumerate() {
        std::fs::write(member.dir.path().join("key"), KEY).unwrap();
        let text = config(index, member.dir.path());
        std::fs::write(member.dir.path().join("trigon.toml"), text).unwrap();
    }
    members
}

/// All of a member but its virtual routers.
pub(crate) fn member_config(index: usize, dir: &Path) -> String {
    let dir = dir.display();
    let node = format!(
        "node.state_dir = '{dir}/state'\nnode.admin_socket = '{dir}/admin.sock'\n\
         cluster.listen = '{}:{CLUSTER_PORT}'\n",
        NODES[index]
    );
    if index == 2 {
        return format!("{node}node.role = 'witness'\n");
    }
    format!(
        "{node}nextcloud.url = 'http://{CLOUD}:8080'\nexapps.shared_key_file = '{dir}/key'\n\
         exapps.listen = '0.0.0.0:8780'\nfrp.listen = '0.0.0.0:8782'\n"
    )
}

/// What the guide tells: the same two virtual routers on both nodes, with crossed priorities.
pub(crate) fn config(index: usize, dir: &Path) -> String {
    let member = member_config(index, dir);
    if index == 2 {
        return member;
    }
    let routers = [0, 1].map(|vip| {
        let priority = if vip == index { 254 } else { 253 };
        format!(
            "[[vrrp]]\ninterface = '{INTERFACE}'\nvrid = {}\npriority = {priority}\n\
             addresses = ['{}']\n",
            69 + vip,
            VIPS[vip]
        )
    });
    format!("{member}{}", routers.concat())
}

/// Nextcloud, which knows both ExApps.
pub(crate) async fn nextcloud() {
    let mut directory = Directory::new(Secret::new(KEY));
    for (name, port) in APPS {
        directory.apps.insert(name.into(), App::open(port));
    }
    let listener = tokio::net::TcpListener::bind((CLOUD, 8080)).await.unwrap();
    tokio::spawn(Nextcloud::new(directory).serve(listener));
}

/// An ExApp behind a stock frpc that knows one of the addresses.
pub(crate) async fn publish(dir: &Path, certificates: &Path, app: usize) -> Frpc {
    let (name, port) = APPS[app];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let local = listener.local_addr().unwrap().port();
    tokio::spawn(exapp::serve_tcp(listener));
    let (server, files) = (VIPS[app], certificates.display());
    let text = format!(
        "serverAddr = '{server}'\nserverPort = 8782\nloginFailExit = false\n\
         metadatas.token = '{KEY}'\n[transport]\ntls.certFile = '{files}/client.crt'\n\
         tls.keyFile = '{files}/client.key'\ntls.trustedCaFile = '{files}/ca.crt'\n\
         tls.serverName = 'harp.nc'\n[[proxies]]\nname = '{name}'\ntype = 'tcp'\n\
         localIP = '127.0.0.1'\nlocalPort = {local}\nremotePort = {port}\n"
    );
    let path = dir.join(format!("{name}.toml"));
    std::fs::write(&path, text).unwrap();
    let log = File::create(dir.join(format!("{name}.log"))).unwrap();
    let process = Command::new(super::peer("0.61.1"))
        .arg("-c")
        .arg(path)
        .stdin(Stdio::null())
        .stdout(log)
        .spawn();
    Frpc(process.unwrap())
}

/// Both ExApps at both addresses, and no request in vain.
const ALL: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

/// Asks ExApps at addresses, each once.
async fn answer(asked: &'static [(usize, usize)]) {
    let ask = |vip: usize, app: usize| -> std::io::Result<String> {
        let to = SocketAddr::from((VIPS[vip], 8780));
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let path = APPS[app].0;
        write!(stream, "GET /exapps/{path}/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let ask_all = move || asked.iter().map(|(vip, app)| (*vip, *app, ask(*vip, *app))).collect();
    let answers: Vec<_> = tokio::task::spawn_blocking(ask_all).await.unwrap();
    for (vip, app, answer) in answers {
        let is_page =
            |answer: &String| answer.starts_with("HTTP/1.1 200") && answer.ends_with(exapp::PAGE);
        assert!(
            answer.as_ref().is_ok_and(is_page),
            "ExApp {} at {}: {answer:?}",
            APPS[app].0,
            VIPS[vip],
        );
    }
}

async fn layout(lan: Lan) {
    nextcloud().await;
    let [mut a, mut b, mut witness] = members(&lan, config);
    for member in [&mut a, &mut b, &mut witness] {
        member.start();
    }
    a.holds(&[true, false]).await;
    b.holds(&[false, true]).await;
    let dir = tempfile::tempdir().unwrap();
    let certificates = a.dir.path().join("state/frp");
    let _clients =
        [publish(dir.path(), &certificates, 0).await, publish(dir.path(), &certificates, 1).await];
    for node in [&a, &b] {
        node.tunnel_ends_at(APPS[0].1, 1).await;
        node.tunnel_ends_at(APPS[1].1, 2).await;
    }
    answer(&ALL).await;

    // B has just asked A for the ExApp there, and kept the connection for the next request.
    a.power_cut();
    b.holds(&[true, true]).await;
    // The other address and its tunnel have lost nothing.
    answer(&[(1, 1)]).await;
    b.tunnel_ends_at(APPS[0].1, 2).await;
    answer(&ALL).await;

    a.host.reboot().unwrap();
    a.start();
    a.holds(&[true, false]).await;
    b.holds(&[false, true]).await;
    b.tunnel_ends_at(APPS[0].1, 1).await;
    a.tunnel_ends_at(APPS[1].1, 2).await;
    answer(&ALL).await;
}

#[tokio::test]
async fn either_address_serves_every_tunnel_and_a_power_cut_moves_one_of_them() {
    let lan = Lan::new("trigon-vips").unwrap();
    let cloud = lan.host("cloud", CLOUD).unwrap();
    let test = cloud.enter_thread(move || layout(lan)).unwrap();
    assert!(test.result().await.is_some(), "the test on the machine panicked, see above");
}
