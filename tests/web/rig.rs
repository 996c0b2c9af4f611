//! Three PHP nodes that share a data folder and a Redis, and a `trigon run` in front of them.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use trigon::admin::{backends, client};
use trigon::balance::roster::Condition;
use trigon::balance::{Admin, Member};

use crate::support::{eventually, free_port};

/// Two cores carry one of these at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

const ROUTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/web/app/router.php");

pub(crate) struct Rig {
    pub(crate) front: SocketAddr,
    nodes: Vec<PhpNode>,
    dir: TempDir,
    processes: Vec<Child>,
    _turn: MutexGuard<'static, ()>,
}

struct PhpNode {
    name: String,
    address: SocketAddr,
    process: Option<Child>,
}

/// What a rig has beside its three nodes.
#[derive(Default)]
pub(crate) struct Extras<'a> {
    /// Further web nodes by name.
    pub(crate) backends: &'a [(&'a str, SocketAddr)],
    /// More keys of `[web]`, then further sections.
    pub(crate) config: &'a str,
}

impl Rig {
    pub(crate) async fn start(extras: Extras<'_>) -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("data/dav/files/alice")).unwrap();
        std::fs::create_dir_all(dir.path().join("data/dav/uploads/alice")).unwrap();
        let redis = free_port();
        let log = || File::options().create(true).append(true).open(dir.path().join("redis.log"));
        let server = Command::new("redis-server")
            .args(["--port", &redis.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log().unwrap())
            .spawn()
            .unwrap();
        std::fs::write(
            dir.path().join("php.ini"),
            format!(
                "session.save_handler = redis\nsession.save_path = 'tcp://127.0.0.1:{redis}'\n\
                 redis.session.locking_enabled = 1\nmemory_limit = 512M\n"
            ),
        )
        .unwrap();
        let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let nodes = ["web1", "web2", "web3"].map(|name| PhpNode {
            name: name.into(),
            address: address(),
            process: None,
        });
        let mut rig = Self {
            front: address(),
            nodes: Vec::from(nodes),
            dir,
            processes: vec![server],
            _turn: turn,
        };
        for at in 0..rig.nodes.len() {
            rig.start_node(at);
        }
        rig.write_config(&extras);
        let trigon = Command::new(env!("CARGO_BIN_EXE_trigon"))
            .args(["run", "--config"])
            .arg(rig.dir.path().join("trigon.toml"))
            .env("TRIGON_LOG", "info,trigon=debug")
            .stdin(Stdio::null())
            .stderr(File::create(rig.dir.path().join("trigon.log")).unwrap())
            .spawn()
            .unwrap();
        rig.processes.push(trigon);
        for name in ["web1", "web2", "web3"] {
            rig.wait_for(name, Condition::Up).await;
        }
        rig
    }

    fn write_config(&self, extras: &Extras<'_>) {
        let dir = self.dir.path().display();
        std::fs::write(self.dir.path().join("shared.key"), "a-shared-key\n").unwrap();
        let own = self.nodes.iter().map(|node| (node.name.as_str(), node.address));
        let backends: String = own
            .chain(extras.backends.iter().copied())
            .map(|(name, at)| format!("[[web.backends]]\nname = '{name}'\naddress = '{at}'\n"))
            .collect();
        let (front, frp, extra) = (self.front, free_port(), extras.config);
        let text = format!(
            "[node]\nstate_dir = '{dir}/state'\nadmin_socket = '{dir}/admin.sock'\n\
             [nextcloud]\nurl = 'http://cloud.example'\n\
             [exapps]\nlisten = '{front}'\nshared_key_file = '{dir}/shared.key'\n\
             trusted_proxies = ['127.0.0.2']\n\
             [frp]\nlisten = '127.0.0.1:{frp}'\n\
             [web]\ncheck_interval = '500ms'\ncheck_timeout = '1s'\nslow_start = '2s'\n\
             {extra}\n{backends}"
        );
        std::fs::write(self.dir.path().join("trigon.toml"), text).unwrap();
    }

    /// Starts a PHP node (again), under the address it had.
    pub(crate) fn start_node(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let log = self.dir.path().join("php.log");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new("php")
            .arg("-c")
            .arg(self.dir.path().join("php.ini"))
            .args(["-S", &node.address.to_string(), ROUTER])
            .env("NODE", &node.name)
            .env("DATA", self.dir.path().join("data"))
            .env("PHP_CLI_SERVER_WORKERS", "6")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            // Its workers go with it.
            .process_group(0)
            .spawn()
            .unwrap();
        node.process = Some(child);
    }

    /// Sends a signal to a PHP node and its workers.
    pub(crate) fn signal(&self, at: usize, signal: Signal) {
        let Some(process) = &self.nodes[at].process else { return };
        let group = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        kill_process_group(group, signal).unwrap();
    }

    /// Kills a PHP node.
    pub(crate) fn kill(&mut self, at: usize) {
        self.signal(at, Signal::KILL);
        if let Some(mut process) = self.nodes[at].process.take() {
            process.wait().unwrap();
        }
    }

    /// Waits until a backend is as it should be.
    pub(crate) async fn wait_for(&self, name: &str, health: Condition) {
        eventually("a backend changes", || async {
            self.member(name).await.filter(|member| member.health == health)
        })
        .await;
    }

    /// How a backend is.
    pub(crate) async fn member(&self, name: &str) -> Option<Member> {
        let all = client::backends(&self.socket()).await.ok()?;
        all.0.into_iter().find(|member| member.is_called(name))
    }

    /// Gives a backend an order.
    pub(crate) async fn order(&self, name: &str, admin: Admin) {
        let order = backends::Order { name: name.into(), admin };
        client::tell_backend(&self.socket(), &order).await.unwrap();
    }

    /// The folder all nodes share.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Everything Trigon has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("trigon.log")).unwrap_or_default()
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for at in 0..self.nodes.len() {
            // One that was stopped does not hear.
            if self.nodes[at].process.is_some() {
                self.kill(at);
            }
        }
        for mut process in self.processes.drain(..).rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let log = self.log();
        if std::thread::panicking() {
            let read = |name: &str| std::fs::read_to_string(Path::new(self.dir.path()).join(name));
            let php = read("php.log").unwrap_or_default();
            let php: Vec<_> = php.lines().rev().take(30).collect();
            let told: Vec<_> = log.lines().rev().take(200).collect();
            eprintln!(
                "--- php, newest first:\n{}\n--- trigon:\n{}",
                php.join("\n"),
                told.join("\n")
            );
        } else {
            assert!(!log.contains("panicked"), "trigon panicked:\n{log}");
        }
    }
}
