//! The server under test: a real `trigon run` of our own, or whatever the environment names.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use trigon::frp::client::{self, ClientConfig, ClientEvent, LocalTarget};
use trigon::secret::Secret;

use super::stage::{Stage, TOKEN};
use super::support::{eventually, free_port};

/// Port of the tunnel to the ExApp.
pub(crate) const TUNNEL: u16 = 23_042;

/// How the subject is known to answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Trigon,
    Harp,
}

/// What the environment says.
pub(crate) struct Settings {
    pub(crate) subject: Option<SocketAddr>,
    pub(crate) kind: Kind,
    pub(crate) key: String,
    pub(crate) nextcloud: Option<SocketAddr>,
    pub(crate) exapp: Option<SocketAddr>,
}

impl Settings {
    pub(crate) fn get() -> &'static Self {
        static SETTINGS: OnceLock<Settings> = OnceLock::new();
        SETTINGS.get_or_init(|| {
            let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
            let address = |name: &str| {
                set(name).map(|value| {
                    let bare = value.trim_start_matches("http://").trim_end_matches('/');
                    bare.parse().unwrap_or_else(|_| panic!("{name}={value}: not address:port"))
                })
            };
            let settings = Self {
                subject: address("TRIGON_SUBJECT"),
                kind: match set("TRIGON_SUBJECT_KIND").as_deref() {
                    None | Some("trigon") => Kind::Trigon,
                    Some("harp") => Kind::Harp,
                    Some(other) => panic!("TRIGON_SUBJECT_KIND={other}: trigon or harp"),
                },
                key: set("TRIGON_SUBJECT_KEY").unwrap_or_else(|| "a-shared-key-for-tests".into()),
                nextcloud: address("TRIGON_SUBJECT_NEXTCLOUD"),
                exapp: address("TRIGON_SUBJECT_EXAPP"),
            };
            let foreign = settings.subject.is_some();
            assert!(
                !foreign || (settings.nextcloud.is_some() && settings.exapp.is_some()),
                "TRIGON_SUBJECT needs TRIGON_SUBJECT_NEXTCLOUD and TRIGON_SUBJECT_EXAPP"
            );
            settings
        })
    }
}

/// A server that answers. Our own ends with the value, and its log is read then: it must tell no
/// secret, however much of it there is.
pub(crate) struct Subject {
    pub(crate) address: SocketAddr,
    pub(crate) kind: Kind,
    own: Option<Own>,
}

struct Own {
    process: Child,
    dir: TempDir,
    _tunnel: DropGuard,
}

impl Subject {
    /// The environment's, or a node started for this test.
    pub(crate) async fn start() -> Self {
        let settings = Settings::get();
        match settings.subject {
            Some(address) => Self { address, kind: settings.kind, own: None },
            None => Self::own().await,
        }
    }

    async fn own() -> Self {
        let stage = Stage::get();
        let key = &Settings::get().key;
        let dir = tempfile::tempdir().unwrap();
        let [http, frp] =
            [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let path = dir.path().display();
        let config = format!(
            r#"
[node]
state_dir = "{path}/state"
admin_socket = "{path}/admin.sock"
[nextcloud]
url = "http://{}"
[exapps]
listen = "{http}"
shared_key_file = "{path}/key"
trusted_proxies = ["127.0.0.1"]
session_lifetime = "10s"
[frp]
listen = "{frp}"
tls = false
"#,
            stage.nextcloud_address
        );
        std::fs::write(dir.path().join("trigon.toml"), config).unwrap();
        std::fs::write(dir.path().join("key"), key).unwrap();
        let process = launch(dir.path());
        let stop = CancellationToken::new();
        let own = Own { process, dir, _tunnel: stop.clone().drop_guard() };
        let subject = Self { address: http, kind: Kind::Trigon, own: Some(own) };
        subject.ready().await;
        subject.tunnel(frp, stop).await;
        subject
    }

    async fn ready(&self) {
        let socket = self.file("admin.sock");
        eventually("the node is ready", || async {
            let status = trigon::admin::client::status(&socket).await.ok()?;
            status.ready.then_some(())
        })
        .await;
    }

    /// Whether it is not ours to stop and look into.
    pub(crate) fn is_foreign(&self) -> bool {
        self.own.is_none()
    }

    /// Kills our own process and starts it again; the tunnel's client comes back by itself.
    pub(crate) async fn restart(&mut self) {
        let own = self.own.as_mut().unwrap();
        own.process.kill().unwrap();
        own.process.wait().unwrap();
        own.process = launch(own.dir.path());
        self.ready().await;
    }

    /// Writes another value for a key of `[exapps]` into our own's file.
    pub(crate) fn configure(&self, key: &str, value: &str) {
        let file = self.file("trigon.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let section = "[exapps]\n";
        let text = text.replace(section, &format!("{section}{key} = {value}\n"));
        std::fs::write(file, text).unwrap();
    }

    /// Everything our own process has logged.
    pub(crate) fn log(&self) -> Option<String> {
        let own = self.own.as_ref()?;
        Some(std::fs::read_to_string(own.dir.path().join("log")).unwrap())
    }

    /// Opens the tunnel the records name and waits until it serves.
    async fn tunnel(&self, frp: SocketAddr, stop: CancellationToken) {
        let local = LocalTarget::Tcp(Stage::get().exapp_address.to_string());
        let key = Secret::new(&*Settings::get().key);
        let config = ClientConfig::new(frp.to_string(), key, "suite", TUNNEL, local);
        let (send, mut events) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(client::run(config, stop, move |event| {
            let _ = send.send(event);
        }));
        let limit = Duration::from_secs(40);
        let started = async {
            while let Some(event) = events.recv().await {
                match event {
                    ClientEvent::Started => return,
                    ClientEvent::Refused(why) => panic!("the tunnel was refused: {why}"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(limit, started).await.expect("the tunnel serves in time");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.own.as_ref().unwrap().dir.path().join(name)
    }
}

fn launch(dir: &Path) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_trigon"))
        .args(["run", "--config"])
        .arg(dir.join("trigon.toml"))
        .env("TRIGON_LOG", "info,trigon=trace")
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Subject {
    fn drop(&mut self) {
        let Some(own) = &mut self.own else { return };
        let _ = own.process.kill();
        let _ = own.process.wait();
        if std::thread::panicking() {
            return;
        }
        let log = self.log().unwrap_or_default();
        assert!(!log.contains("panicked"), "the subject panicked:\n{log}");
        let key = &Settings::get().key;
        for secret in [key, TOKEN, "passphrase-of-", "password-of-", "token-of-", "c2lnbmF0dXJl"] {
            let told = log.lines().find(|line| line.contains(secret));
            assert_eq!(told, None, "a secret is in the subject's log");
        }
    }
}
