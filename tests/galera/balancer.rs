//! One machine with a real `trigon run`: a load balancer of the pair, or the witness.

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cluster::Role;
use tempfile::TempDir;
use trigon::admin::client;
use trigon::admin::status::Status;
use trigon::admin::tokens::NewToken;
use trigon::lab::namespaces::{Host, INTERFACE};

use crate::cluster::{Galera, MONITOR, PASSWORD};

/// The address clients know.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 100);

/// Most sessions of one load balancer: few, so that a flood is soon one.
pub(crate) const MOST: usize = 40;

/// What is waited for comes within seconds, or with the end of a lease.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Balancer {
    pub(crate) host: Host,
    dir: TempDir,
    process: Option<Child>,
}

impl Balancer {
    /// Not configured yet.
    pub(crate) fn new(host: Host) -> Self {
        Self { host, dir: tempfile::tempdir().unwrap(), process: None }
    }

    /// A load balancer in front of the database, with `nodes` as sections of it.
    pub(crate) fn serve(&self, priority: u8, nodes: &str) {
        let dir = self.dir.path().display();
        std::fs::write(self.dir.path().join("key"), "a-key-for-two").unwrap();
        self.set_password(PASSWORD);
        self.write(
            "node",
            &format!(
                "nextcloud = {{ url = 'http://10.99.0.9' }}\n\
                 exapps = {{ shared_key_file = '{dir}/key' }}\n\
                 [[vrrp]]\ninterface = '{INTERFACE}'\nvrid = 99\npriority = {priority}\n\
                 addresses = ['{VIP}']\n\
                 [galera]\nuser = '{MONITOR}'\npassword_file = '{dir}/password'\n\
                 max_sessions = {MOST}\n{nodes}"
            ),
        );
    }

    /// A witness.
    pub(crate) fn witness(&self) {
        self.write("witness", "");
    }

    fn write(&self, role: &str, serving: &str) {
        let (dir, ip, name) = (self.dir.path().display(), self.host.address(), self.host.name());
        let text = format!(
            "node = {{ name = '{name}', role = '{role}', state_dir = '{dir}/state', \
             admin_socket = '{dir}/admin.sock' }}\n\
             cluster = {{ listen = '{ip}:7443' }}\n{serving}\n"
        );
        std::fs::write(self.config(), text).unwrap();
    }

    /// What it says to the nodes of the database from its next start on.
    pub(crate) fn set_password(&self, password: &str) {
        let path = self.dir.path().join("password");
        std::fs::write(&path, password).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("trigon.toml")
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    fn trigon(&self) -> Command {
        self.host.command(env!("CARGO_BIN_EXE_trigon"))
    }

    /// Founds the cluster and starts.
    pub(crate) async fn found(&mut self) {
        self.call("init", &["--name", "two"], "");
        self.start();
        self.until("a cluster of one", |status| status.cluster.quorum).await;
    }

    /// Becomes a member by way of `host` and starts.
    pub(crate) async fn join(&mut self, host: &Self, role: Role) {
        let new = NewToken { role, for_seconds: 600, uses: 1 };
        let made = eventually("a token", &|| host.log(), || async {
            client::create_token(&host.socket(), &new).await.ok()
        })
        .await;
        let peer = format!("{}:7443", host.host.address());
        self.call("join", &["-", "--peer", &peer], &made.token);
        self.start();
    }

    fn call(&self, name: &str, arguments: &[&str], input: &str) {
        let mut command = self.trigon();
        command.args([name, "--config"]).arg(self.config()).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = process.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {told}");
    }

    /// What a command that talks to the running node printed, and its exit code.
    pub(crate) fn ask(&self, command: &[&str]) -> (Option<i32>, String) {
        let mut asking = self.trigon();
        let output = asking.args(command).arg("--socket").arg(self.socket()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log"));
        let mut command = self.trigon();
        command.args(["run", "--config"]).arg(self.config());
        command.env_remove("TRIGON_LOG").stdin(Stdio::null()).stderr(log.unwrap());
        self.process = Some(command.spawn().unwrap());
    }

    /// Kills the process; its guardian lives on.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// A power cut: the cable first, so that no farewell gets out.
    pub(crate) fn cut_power(&mut self) {
        self.host.link(false).unwrap();
        self.host.kill_all().unwrap();
        self.process.take().expect("it runs").wait().unwrap();
    }

    /// Power is back, and the node starts.
    pub(crate) fn restore_power(&mut self) {
        self.host.reboot().unwrap();
        self.start();
    }

    /// Waits until the node says what `is_so` wants to hear; that status.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        eventually(what, &|| format!("{:#?}\n{}", self.ask(&["status"]), self.log()), || async {
            client::status(&self.socket()).await.ok().filter(&is_so)
        })
        .await
    }

    /// Waits until every member has a vote and this one sees a quorum.
    pub(crate) async fn until_voters(&self, voters: usize) {
        eventually("all members vote", &|| self.log(), || async {
            let cluster = client::cluster(&self.socket()).await.ok()?;
            (cluster.quorum && cluster.voters.len() == voters).then_some(())
        })
        .await;
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if !std::thread::panicking() {
            assert!(!self.log().contains("panicked"), "{}", self.log());
        }
    }
}

/// The nodes of the database as sections of a configuration, in the order of their priority.
pub(crate) fn sections(galera: &Galera) -> String {
    let section = |node: &crate::cluster::Db| {
        format!("[[galera.nodes]]\nname = '{}'\naddress = '{}'\n", node.name, node.address())
    };
    galera.nodes.iter().map(section).collect()
}

async fn eventually<T, Found: Future<Output = Option<T>>>(
    what: &str,
    told: &dyn Fn() -> String,
    look: impl Fn() -> Found,
) -> T {
    let wanted = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(LIMIT, wanted).await;
    found.unwrap_or_else(|_| panic!("never happened: {what}\n{}", told()))
}
