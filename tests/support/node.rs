//! A real `trigon run` process on loopback, with a stand-in Nextcloud and an ExApp beside it.

use std::fmt::Write;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use trigon::lab::exapp;
use trigon::lab::nextcloud::{App, Directory, Nextcloud, Route, User};
use trigon::secret::Secret;

use super::{eventually, free_port, http};

pub(crate) const KEY: &str = "a-shared-key-for-tests";
pub(crate) const APP: &str = "labapp";
pub(crate) const APP_TOKEN: &str = "the-apps-own-secret-token";
/// Port the ExApp's tunnel registers.
pub(crate) const TUNNEL: u16 = 23_007;
/// Cookie of the user alice.
pub(crate) const ALICE: &str = "nc_session_id=s1; oc_sessionPassphrase=alice-passphrase";
/// Cookie of an administrator.
pub(crate) const ADMIN: &str = "nc_session_id=s2; oc_sessionPassphrase=admin-passphrase";

/// A single node and what stands around it.
pub(crate) struct Node {
    pub(crate) http: SocketAddr,
    pub(crate) frp: SocketAddr,
    pub(crate) nextcloud: Nextcloud,
    pub(crate) exapp_socket: PathBuf,
    dir: TempDir,
    process: Option<Child>,
    tasks: Vec<JoinHandle<()>>,
}

impl Node {
    /// Starts a node; `extra` is appended to its `[frp]` section.
    pub(crate) async fn start(frp_extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut directory = Directory::new(Secret::new(KEY));
        directory.apps.insert(APP.into(), app());
        directory.sessions.insert("alice-passphrase".into(), user("alice", 1));
        directory.sessions.insert("admin-passphrase".into(), user("admin", 2));
        let nextcloud = Nextcloud::new(directory);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nextcloud_url = format!("http://{}", listener.local_addr().unwrap());
        let exapp_socket = dir.path().join("exapp.sock");
        let tasks = vec![
            tokio::spawn({
                let nextcloud = nextcloud.clone();
                async move {
                    nextcloud.serve(listener).await;
                }
            }),
            tokio::spawn({
                let socket = exapp_socket.clone();
                async move {
                    exapp::serve_unix(&socket).await.unwrap();
                }
            }),
        ];
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let frp = SocketAddr::from(([127, 0, 0, 1], free_port()));
        std::fs::write(dir.path().join("shared.key"), format!("{KEY}\n")).unwrap();
        let config = config(dir.path(), http, frp, &nextcloud_url, frp_extra);
        std::fs::write(dir.path().join("trigon.toml"), config).unwrap();
        let mut node = Self { http, frp, nextcloud, exapp_socket, dir, process: None, tasks };
        node.launch();
        node.ready().await;
        node
    }

    /// Starts the process (again).
    pub(crate) fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_trigon"))
            .args(["run", "--config"])
            .arg(self.dir.path().join("trigon.toml"))
            .env("TRIGON_LOG", "info,trigon=debug")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(child);
    }

    /// Waits until the node can serve.
    pub(crate) async fn ready(&self) {
        let socket = self.dir.path().join("admin.sock");
        eventually("the node is ready", || async {
            let status = trigon::admin::client::status(&socket).await.ok()?;
            status.ready.then_some(())
        })
        .await;
    }

    /// Kills the process without a goodbye.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// The node's directory: `frp/` holds the exported certificates.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Everything the process has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap()
    }

    /// Resident memory of the process in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let pid = self.process.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Waits until a page of the ExApp comes through the tunnel.
    pub(crate) async fn page_answers(&self) {
        eventually("the ExApp answers through the tunnel", || async {
            let answer = http::send(self.http, http::get("/exapps/labapp/public/", &[])).await?;
            (answer.status() == 200 && answer.body() == exapp::PAGE).then_some(())
        })
        .await;
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("trigon.log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        for task in &self.tasks {
            task.abort();
        }
        let log = self.log();
        let leaks = [KEY, APP_TOKEN, "alice-passphrase", "admin-passphrase"];
        let told = leaks.iter().find(|secret| log.contains(**secret));
        let panicked = log.contains("panicked");
        if std::thread::panicking() {
            eprintln!("--- the node's log:\n{log}");
        } else {
            assert!(!panicked, "the node panicked:\n{log}");
            assert_eq!(told, None, "a secret is in the node's log:\n{log}");
        }
    }
}

fn app() -> App {
    let route = |url: &str, access_level| Route {
        url: url.into(),
        access_level,
        bruteforce_protection: Vec::new(),
    };
    App {
        exapp_token: APP_TOKEN.into(),
        exapp_version: "1.2.3".into(),
        host: "127.0.0.1".into(),
        port: TUNNEL,
        routes: vec![route("^/public", 0), route("^/user", 1), route("^/admin", 2)],
    }
}

fn user(id: &str, access_level: u8) -> User {
    User { user_id: id.into(), access_level }
}

fn config(
    dir: &Path,
    http: SocketAddr,
    frp: SocketAddr,
    nextcloud: &str,
    frp_extra: &str,
) -> String {
    let dir = dir.display();
    let mut text = String::new();
    write!(
        text,
        r#"
[node]
state_dir = "{dir}/state"
admin_socket = "{dir}/admin.sock"
[nextcloud]
url = "{nextcloud}"
[exapps]
listen = "{http}"
shared_key_file = "{dir}/shared.key"
[frp]
listen = "{frp}"
{frp_extra}
"#
    )
    .unwrap();
    text
}

/// How long a test lets something run that must not have an effect.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(500);
