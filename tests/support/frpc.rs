//! Real, stock frpc.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::eventually;
use super::node::{KEY, Node, TUNNEL};

/// Both ends of the range of versions ExApps bring along.
pub(crate) const VERSIONS: [&str; 2] = ["0.61.1", "0.70.1"];

/// What to put into frpc's configuration.
pub(crate) struct Setup<'a> {
    pub(crate) token: &'a str,
    pub(crate) proxy: &'a str,
    pub(crate) port: u16,
    pub(crate) transport: Transport,
    /// Directory with `ca.crt`, `client.crt`, `client.key`, for TLS with certificates.
    pub(crate) certificates: Option<PathBuf>,
}

/// frpc's `transport` table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TLS with client certificates.
    Tls,
    /// TLS with the extra first byte 0x17.
    TlsWithHeadByte,
    /// TLS without certificates, frpc's default.
    TlsUnverified,
    /// No TLS.
    Plain,
    /// TLS with client certificates, one TCP connection for each stream.
    TlsWithoutMux,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            token: KEY,
            proxy: "labapp",
            port: TUNNEL,
            transport: Transport::Tls,
            certificates: None,
        }
    }
}

/// A running frpc; ends with the value.
pub(crate) struct Frpc {
    process: Child,
    log: PathBuf,
}

impl Frpc {
    /// Starts frpc of `version` against `node`, in front of the node's ExApp.
    pub(crate) fn start(version: &str, node: &Node, setup: &Setup<'_>) -> Self {
        let name = format!("frpc-{version}-{}-{}", setup.proxy, setup.port);
        let dir = node.dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let config = dir.join("frpc.toml");
        std::fs::write(&config, text(node, setup)).unwrap();
        let log = dir.join("frpc.log");
        let out = File::options().create(true).append(true).open(&log).unwrap();
        let process = Command::new(binary(version))
            .arg("-c")
            .arg(&config)
            .env_remove("http_proxy")
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Self { process, log }
    }

    /// Everything frpc has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until frpc logs `text`.
    pub(crate) async fn says(&self, text: &str) {
        eventually(&format!("frpc says {text:?}"), || async {
            self.log().contains(text).then_some(())
        })
        .await;
    }
}

impl Drop for Frpc {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- frpc's log:\n{}", self.log());
        }
    }
}

/// Where `tests/run` builds it.
pub(crate) fn binary(version: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join(format!("target/peers/frpc-{version}"));
    assert!(path.exists(), "{} is missing; tests/run builds it", path.display());
    path
}

fn text(node: &Node, setup: &Setup<'_>) -> String {
    let Setup { token, proxy, port, transport, .. } = setup;
    let certificates = setup.certificates.clone().unwrap_or_else(|| node.dir().join("state/frp"));
    let files = certificates.display();
    let verified = format!(
        r#"
tls.certFile = "{files}/client.crt"
tls.keyFile = "{files}/client.key"
tls.trustedCaFile = "{files}/ca.crt"
tls.serverName = "harp.nc""#
    );
    let transport = match transport {
        Transport::Tls => verified,
        Transport::TlsWithHeadByte => format!("{verified}\ntls.disableCustomTLSFirstByte = false"),
        Transport::TlsWithoutMux => format!("{verified}\ntcpMux = false"),
        Transport::TlsUnverified => String::new(),
        Transport::Plain => "tls.enable = false".to_owned(),
    };
    format!(
        r#"
serverAddr = "{}"
serverPort = {}
loginFailExit = false
log.level = "debug"
log.disablePrintColor = true
metadatas.token = "{token}"
[transport]
{transport}
[[proxies]]
name = "{proxy}"
type = "tcp"
remotePort = {port}
[proxies.plugin]
type = "unix_domain_socket"
unixPath = "{}"
"#,
        node.frp.ip(),
        node.frp.port(),
        node.exapp_socket.display(),
    )
}
