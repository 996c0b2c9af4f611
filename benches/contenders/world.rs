//! Everything that runs: the target, the stand-in for Nextcloud, and the contenders with the files
//! they read. Ends with the value.
//!
//! | contender | way of a request |
//! |---|---|
//! | Trigon (tunnel) | load, trigon, TLS and mux, stock frpc, unix socket |
//! | HAProxy + frps + frpc | load, haproxy, frps's port, TLS and mux, stock frpc, unix socket |
//! | Trigon (direct) | load, trigon, TCP |
//! | bare hyper | load, a hyper proxy without checks, TCP |
//! | target | load, TCP |

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use trigon::lab::nextcloud::{App, Directory, Nextcloud, Route, User};
use trigon::secret::Secret;

use crate::load;
use crate::options::Options;
use crate::process::{Process, free_port};
use crate::target;

/// Trigon takes loopback for "the tunnel of that port", so its direct target needs another
/// address. This network is set aside for benchmarks (RFC 2544).
const DIRECT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

const KEY: &str = "a-shared-key-for-benches";
/// The port both frps and Trigon register for the tunnel.
const TUNNEL: u16 = 23_001;

/// What is compared with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// The first contender that is not Trigon is HAProxy + frps + frpc.
    Tunnel,
    /// The first contender that is not Trigon is the bare proxy.
    Direct,
}

/// Somebody to be measured.
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) group: Group,
    pub(crate) address: SocketAddr,
    pub(crate) prefix: String,
    pub(crate) processes: Vec<Rc<Process>>,
}

/// The running whole.
pub(crate) struct World {
    pub(crate) contenders: Vec<Contender>,
    pub(crate) versions: Vec<(&'static str, String)>,
    _direct: DirectAddress,
    _directory: TempDir,
}

impl World {
    /// Starts everything and waits until each contender leads to the target.
    pub(crate) fn start(options: &Options) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("trigon-bench-").tempdir()?;
        let direct = DirectAddress::add()?;
        let socket = directory.path().join("exapp.sock");
        let target = target::start((DIRECT, options.target_port).into(), socket.clone())?;
        let nextcloud = start_nextcloud(options.nextcloud_port, target.port())?;
        let builder = Builder { options, root: directory.path(), socket, nextcloud, target };
        let mut contenders = Vec::new();
        let mut versions = Vec::new();
        builder.trigon(&mut contenders, &mut versions)?;
        builder.haproxy(&mut contenders, &mut versions)?;
        builder.peers(&mut contenders);
        builder.without_tunnel(&mut contenders)?;
        contenders.retain(|one| options.wants_contender(&one.name));
        for one in &contenders {
            wait_for(one)?;
        }
        Ok(Self { contenders, versions, _direct: direct, _directory: directory })
    }
}

fn wait_for(one: &Contender) -> anyhow::Result<()> {
    for _ in 0..200 {
        if load::answers(one.address, &one.prefix) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    bail!("{} does not lead to the target", one.name)
}

struct Builder<'a> {
    options: &'a Options,
    root: &'a Path,
    socket: PathBuf,
    nextcloud: SocketAddr,
    target: SocketAddr,
}

impl Builder<'_> {
    /// One process for both of Trigon's contenders. Its certificates serve frps as well.
    fn trigon(
        &self,
        contenders: &mut Vec<Contender>,
        versions: &mut Vec<(&'static str, String)>,
    ) -> anyhow::Result<()> {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_trigon"));
        let program = self.options.trigon.clone().unwrap_or(built);
        let (http, frp) = (free_port()?, free_port()?);
        let root = self.root.display();
        let nextcloud = self.nextcloud;
        let config = format!(
            r#"
[node]
state_dir = "{root}/state"
admin_socket = "{root}/admin.sock"
[nextcloud]
url = "http://{nextcloud}"
[exapps]
listen = "{http}"
shared_key_file = "{root}/shared.key"
[frp]
listen = "{frp}"
"#
        );
        fs::write(self.root.join("shared.key"), KEY)?;
        let config = self.write("trigon.toml", &config)?;
        versions.push(("Trigon", version(Command::new(&program).arg("--version"))?));
        let mut command = Command::new(&program);
        command.arg("run").arg("--config").arg(config);
        let mut trigon = Process::start("trigon", command, self.root)?;
        trigon.until_it_listens(http)?;
        let made = self.root.join("state/frp/client.key");
        trigon.until("ready", || made.exists().then_some(()))?;
        let frpc = self.frpc("frpc-trigon", frp)?;
        versions.push(("frpc", version(Command::new(self.program("frpc")).arg("--version"))?));
        let trigon = Rc::new(trigon);
        contenders.push(Contender {
            name: "Trigon (tunnel)".into(),
            group: Group::Tunnel,
            address: http,
            prefix: "/exapps/bench".into(),
            processes: vec![Rc::clone(&trigon), frpc],
        });
        contenders.push(Contender {
            name: "Trigon (direct)".into(),
            group: Group::Direct,
            address: http,
            prefix: "/exapps/direct".into(),
            processes: vec![trigon],
        });
        Ok(())
    }

    /// As HaRP chains them: its limits and timeouts, and the same certificates for the tunnel.
    fn haproxy(
        &self,
        contenders: &mut Vec<Contender>,
        versions: &mut Vec<(&'static str, String)>,
    ) -> anyhow::Result<()> {
        const NAME: &str = "HAProxy + frps + frpc";
        if !self.options.wants_contender(NAME) {
            return Ok(());
        }
        let (http, frp) = (free_port()?, free_port()?);
        let root = self.root.display();
        let config = format!(
            r#"
bindAddr = "{}"
bindPort = {}
proxyBindAddr = "127.0.0.1"
log.disablePrintColor = true
[transport.tls]
force = true
certFile = "{root}/state/frp/server.crt"
keyFile = "{root}/state/frp/server.key"
trustedCaFile = "{root}/state/frp/ca.crt"
"#,
            frp.ip(),
            frp.port(),
        );
        let mut command = Command::new(self.program("frps"));
        command.arg("-c").arg(self.write("frps.toml", &config)?);
        let mut frps = Process::start("frps", command, self.root)?;
        frps.until_it_listens(frp)?;
        let frpc = self.frpc("frpc-frps", frp)?;
        let config = format!(
            r"
global
    maxconn 8192
defaults
    mode http
    timeout connect 30s
    timeout client 30s
    timeout server 1800s
    timeout tunnel 1800s
frontend exapps
    bind {http}
    default_backend exapp
backend exapp
    server exapp 127.0.0.1:{TUNNEL}
"
        );
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(self.write("haproxy.cfg", &config)?);
        let mut haproxy = Process::start("haproxy", command, self.root)?;
        haproxy.until_it_listens(http)?;
        versions.push(("HAProxy", version(Command::new("haproxy").arg("-v"))?));
        versions.push(("frps", version(Command::new(self.program("frps")).arg("--version"))?));
        contenders.push(Contender {
            name: NAME.into(),
            group: Group::Tunnel,
            address: http,
            prefix: String::new(),
            processes: vec![Rc::new(haproxy), Rc::new(frps), frpc],
        });
        Ok(())
    }

    fn peers(&self, contenders: &mut Vec<Contender>) {
        contenders.extend(self.options.peers.iter().map(|peer| Contender {
            name: peer.name.clone(),
            group: Group::Tunnel,
            address: peer.address,
            prefix: peer.prefix.clone(),
            processes: Vec::new(),
        }));
    }

    fn without_tunnel(&self, contenders: &mut Vec<Contender>) -> anyhow::Result<()> {
        let http = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--listen").arg(http.to_string());
        command.arg("--bare-proxy-to").arg(self.target.to_string());
        let mut bare = Process::start("bare-proxy", command, self.root)?;
        bare.until_it_listens(http)?;
        for (name, address, processes) in
            [("bare hyper", http, vec![Rc::new(bare)]), ("target", self.target, Vec::new())]
        {
            let (name, prefix) = (name.into(), String::new());
            contenders.push(Contender { name, group: Group::Direct, address, prefix, processes });
        }
        Ok(())
    }

    /// A stock frpc in front of the target, as the start script of an ExApp configures it.
    fn frpc(&self, name: &str, server: SocketAddr) -> anyhow::Result<Rc<Process>> {
        let root = self.root.display();
        let config = format!(
            r#"
serverAddr = "{}"
serverPort = {}
loginFailExit = false
log.disablePrintColor = true
metadatas.token = "{KEY}"
[transport.tls]
certFile = "{root}/state/frp/client.crt"
keyFile = "{root}/state/frp/client.key"
trustedCaFile = "{root}/state/frp/ca.crt"
serverName = "harp.nc"
[[proxies]]
name = "bench"
type = "tcp"
remotePort = {TUNNEL}
[proxies.plugin]
type = "unix_domain_socket"
unixPath = "{}"
"#,
            server.ip(),
            server.port(),
            self.socket.display(),
        );
        let config = self.write(&format!("{name}.toml"), &config)?;
        let mut command = Command::new(self.program("frpc"));
        command.arg("-c").arg(config).env_remove("http_proxy");
        Ok(Rc::new(Process::start(name, command, self.root)?))
    }

    fn program(&self, name: &str) -> PathBuf {
        self.options.programs.join(format!("{name}-0.61.1"))
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.root.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// The first line a program says about itself.
fn version(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_owned();
    let output = command
        .output()
        .with_context(|| format!("{}: tests/run --bench brings it", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default();
    Ok(line.split(" - ").next().unwrap_or_default().trim().to_owned())
}

/// The ExApp once behind the tunnel and once at the direct address, and one logged-in visitor.
fn start_nextcloud(port: u16, direct: u16) -> anyhow::Result<SocketAddr> {
    let route = |url: &str, access_level| Route {
        url: url.into(),
        access_level,
        bruteforce_protection: vec![401],
    };
    let app = |host: String, port| App {
        exapp_token: "the-apps-own-secret-token".into(),
        exapp_version: "1.2.3".into(),
        host,
        port,
        routes: vec![route("^/public/.*$", 0), route("^/user/.*$", 1), route("^/admin/.*$", 2)],
    };
    let mut directory = Directory::new(Secret::new(KEY));
    directory.apps.insert("bench".into(), app("127.0.0.1".into(), TUNNEL));
    directory.apps.insert("direct".into(), app(DIRECT.to_string(), direct));
    let alice = User { user_id: "alice".into(), access_level: 1 };
    directory.sessions.insert("alice-passphrase".into(), alice);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("nextcloud".into()).spawn(move || {
        runtime.block_on(async move {
            if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                Nextcloud::new(directory).serve(listener).await;
            }
        });
    })?;
    Ok(address)
}

/// [`DIRECT`] on the loopback interface, as long as the value lives.
struct DirectAddress;

impl DirectAddress {
    fn add() -> anyhow::Result<Self> {
        // An interrupted run may have left it behind.
        ensure!(ip("replace")?, "the address {DIRECT} could not be added; this needs root");
        Ok(Self)
    }
}

impl Drop for DirectAddress {
    fn drop(&mut self) {
        let _ = ip("delete");
    }
}

fn ip(what: &str) -> anyhow::Result<bool> {
    let address = format!("{DIRECT}/32");
    let status = Command::new("ip").args(["address", what, &address, "dev", "lo"]).status();
    Ok(status.context("the command `ip` (package iproute2)")?.success())
}
