//! Programs on the machines of a test: `trigon run`, a stock frpc in front of an engine, and the
//! stand-in Nextcloud.

use std::fs::{self, File};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;

use tempfile::TempDir;
use trigon::admin;
use trigon::lab::namespaces::{Host, Lan};
use trigon::lab::nextcloud::{self, Directory, Nextcloud, User};
use trigon::secret::Secret;

use crate::support::appapi::payload::{App, ROUTES};
use crate::support::engine::Engine;
use crate::support::{eventually, frpc};

pub(crate) const KEY: &str = "the-shared-key-of-the-docker-tests";
/// Cookies of a user; the passphrase is what must not be logged.
pub(crate) const ALICE: &str = "nc_session_id=s1; oc_sessionPassphrase=the-passphrase-of-alice";
pub(crate) const PASSPHRASE: &str = "the-passphrase-of-alice";
pub(crate) const HTTP_PORT: u16 = 8780;
pub(crate) const FRP_PORT: u16 = 8782;
const NEXTCLOUD_PORT: u16 = 8080;

/// Runs a whole test on a machine of its own and everything it starts with it; a panic in there
/// fails the test.
pub(crate) async fn on_a_machine<Run: Future<Output = ()>>(
    address: Ipv4Addr,
    test: impl FnOnce(Lan, Arc<Host>) -> Run + Send + 'static,
) {
    let lan = Lan::new("trigon-docker").unwrap();
    let host = Arc::new(lan.host("cloud", address).unwrap());
    let inside = Arc::clone(&host);
    let entered = host.enter_thread(move || test(lan, inside)).unwrap();
    assert!(entered.result().await.is_some(), "the test on the machine panicked, see above");
}

/// One `trigon run`.
pub(crate) struct Trigon {
    host: Arc<Host>,
    dir: TempDir,
    process: Option<Child>,
}

impl Trigon {
    /// Starts it with the configuration `text` makes for its directory.
    pub(crate) fn start(host: &Arc<Host>, text: impl FnOnce(&Path) -> String) -> Self {
        Self::start_in(host, tempfile::tempdir().unwrap(), text)
    }

    /// The same in a directory in which something lies already.
    pub(crate) fn start_in(
        host: &Arc<Host>,
        dir: TempDir,
        text: impl FnOnce(&Path) -> String,
    ) -> Self {
        fs::write(dir.path().join("shared.key"), KEY).unwrap();
        fs::write(dir.path().join("trigon.toml"), text(dir.path())).unwrap();
        let log = File::options().create(true).append(true).open(log_of(&dir)).unwrap();
        let process = host
            .command(env!("CARGO_BIN_EXE_trigon"))
            .args(["run", "--config"])
            .arg(dir.path().join("trigon.toml"))
            .env("TRIGON_LOG", "info,trigon=debug")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { host: Arc::clone(host), dir, process: Some(process) }
    }

    pub(crate) async fn status(&self) -> Option<admin::Status> {
        admin::client::status(&self.dir.path().join("admin.sock")).await.ok()
    }

    /// Waits until it can serve.
    pub(crate) async fn ready(&self) {
        eventually("trigon is ready", || async { self.status().await?.ready.then_some(()) }).await;
    }

    /// Whether it holds this virtual address.
    pub(crate) fn holds(&self, address: Ipv4Addr) -> bool {
        self.process.is_some() && self.host.holds(address).unwrap()
    }

    /// A power cut of its machine.
    pub(crate) fn kill(&mut self) {
        self.host.link(false).unwrap();
        self.host.kill_all().unwrap();
        self.reap();
    }

    /// What tunnel clients need for TLS.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.dir.path().join("state/frp")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(log_of(&self.dir)).unwrap()
    }

    fn reap(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Trigon {
    fn drop(&mut self) {
        self.reap();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(60)..];
            eprintln!("--- trigon's log on {}:\n{}", self.host.name(), last.join("\n"));
        }
    }
}

fn log_of(dir: &TempDir) -> PathBuf {
    dir.path().join("log")
}

/// The sections every node has; `docker` stands for whatever engines it reaches itself.
pub(crate) fn node_sections(dir: &Path, nextcloud: Ipv4Addr, docker: &str) -> String {
    let dir = dir.display();
    format!(
        "[node]\nstate_dir = \"{dir}/state\"\nadmin_socket = \"{dir}/admin.sock\"\n\
         [nextcloud]\nurl = \"http://{nextcloud}:{NEXTCLOUD_PORT}\"\n\
         [exapps]\nlisten = \"0.0.0.0:{HTTP_PORT}\"\nshared_key_file = \"{dir}/shared.key\"\n\
         [frp]\nlisten = \"0.0.0.0:{FRP_PORT}\"\n\
         {docker}\n"
    )
}

/// Starts the stand-in Nextcloud on the machine the test runs on; it knows alice and no app.
pub(crate) async fn start_nextcloud(address: Ipv4Addr) -> Nextcloud {
    let mut directory = Directory::new(Secret::new(KEY));
    let alice = User { user_id: "alice".into(), access_level: 1 };
    directory.sessions.insert(PASSPHRASE.into(), alice);
    let nextcloud = Nextcloud::new(directory);
    let listener = tokio::net::TcpListener::bind((address, NEXTCLOUD_PORT)).await.unwrap();
    let serving = nextcloud.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    nextcloud
}

/// AppAPI writes an app into its database before it deploys it.
pub(crate) fn register(nextcloud: &Nextcloud, app: &App) {
    let route = |(url, access_level): (&str, u8)| nextcloud::Route {
        url: url.to_owned(),
        access_level,
        bruteforce_protection: Vec::new(),
    };
    let record = nextcloud::App {
        exapp_token: app.secret.clone(),
        exapp_version: app.version.clone(),
        host: "127.0.0.1".to_owned(),
        port: app.port,
        routes: ROUTES.into_iter().map(route).collect(),
    };
    nextcloud.change(|directory| {
        directory.apps.insert(app.id.clone(), record);
    });
}

/// A stock frpc on a remote machine: publishes that machine's engine under an engine port.
pub(crate) struct EngineTunnel {
    dir: TempDir,
    process: Child,
}

impl EngineTunnel {
    pub(crate) fn start(
        host: &Host,
        engine: &Engine,
        to: SocketAddr,
        port: u16,
        certificates: &Path,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (files, socket) = (certificates.display(), engine.socket());
        let config = format!(
            "serverAddr = \"{}\"\nserverPort = {}\nloginFailExit = false\n\
             log.level = \"debug\"\nlog.disablePrintColor = true\n\
             metadatas.token = \"{KEY}\"\n\
             transport.tls.certFile = \"{files}/client.crt\"\n\
             transport.tls.keyFile = \"{files}/client.key\"\n\
             transport.tls.trustedCaFile = \"{files}/ca.crt\"\n\
             transport.tls.serverName = \"harp.nc\"\n\
             [[proxies]]\nname = \"docker-engine-{port}\"\ntype = \"tcp\"\nremotePort = {port}\n\
             [proxies.plugin]\ntype = \"unix_domain_socket\"\nunixPath = \"{}\"\n",
            to.ip(),
            to.port(),
            socket.display(),
        );
        fs::write(dir.path().join("frpc.toml"), config).unwrap();
        let log = File::create(log_of(&dir)).unwrap();
        let process = host
            .command(frpc::binary(frpc::VERSIONS[0]))
            .arg("-c")
            .arg(dir.path().join("frpc.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { dir, process }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(log_of(&self.dir)).unwrap()
    }
}

impl Drop for EngineTunnel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- the log of the engine's frpc:\n{}", self.log());
        }
    }
}
