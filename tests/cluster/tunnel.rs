//! Stock frpc on the machine of an ExApp.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use trigon::lab::namespaces::Host;

use crate::support::frpc;

/// What it is told.
pub(crate) struct Tunnel {
    /// What its files are called.
    pub(crate) name: String,
    pub(crate) server: SocketAddr,
    pub(crate) proxy: String,
    pub(crate) port: u16,
    pub(crate) key: String,
    pub(crate) certificates: PathBuf,
    pub(crate) socket: PathBuf,
}

/// A running frpc; ends with the value.
pub(crate) struct TunnelClient {
    process: Child,
    log: PathBuf,
}

impl TunnelClient {
    pub(crate) fn start(host: &Host, dir: &Path, tunnel: &Tunnel) -> Self {
        let config = dir.join(format!("frpc-{}.toml", tunnel.name));
        fs::write(&config, text(tunnel)).unwrap();
        let log = dir.join(format!("frpc-{}.log", tunnel.name));
        let out = File::create(&log).unwrap();
        let process = host
            .command(frpc::binary("0.61.1"))
            .arg("-c")
            .arg(config)
            .env_remove("http_proxy")
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Self { process, log }
    }
}

impl Drop for TunnelClient {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- frpc:\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// As the start script of a stock ExApp writes it.
fn text(tunnel: &Tunnel) -> String {
    let Tunnel { server, proxy, port, key, certificates, socket, .. } = tunnel;
    let (files, socket) = (certificates.display(), socket.display());
    format!(
        r#"serverAddr = "{}"
serverPort = {}
loginFailExit = false
metadatas.token = "{key}"
[transport.tls]
enable = true
certFile = "{files}/client.crt"
keyFile = "{files}/client.key"
trustedCaFile = "{files}/ca.crt"
serverName = "harp.nc"
[[proxies]]
name = "{proxy}"
type = "tcp"
remotePort = {port}
[proxies.plugin]
type = "unix_domain_socket"
unixPath = "{socket}"
"#,
        server.ip(),
        server.port(),
    )
}
