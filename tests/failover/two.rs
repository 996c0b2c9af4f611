//! Two nodes that share nothing but a virtual address, each a real `trigon run` in a namespace.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use trigon::admin::status::Status;
use trigon::admin::vrrp::Router;
use trigon::lab::namespaces::{Host, INTERFACE, Lan, wait_until};

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 68, 0, 100);
/// Generous: what is waited for comes within milliseconds, or within the lease.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// One of the two.
pub(crate) struct Node {
    pub(crate) host: Host,
    dir: TempDir,
    process: Option<Child>,
}

/// Both, started; the first one is Active, the other Backup. `extra` are lines for `[[vrrp]]`, and
/// may begin further sections, in which PRIORITY stands for what the node has.
pub(crate) async fn start(extra: &str) -> [Node; 2] {
    let lan = Lan::new("trigon-two").unwrap();
    let node = |name, last| Node::new(lan.host(name, Ipv4Addr::new(10, 68, 0, last)).unwrap());
    let mut nodes = [node("a", 1), node("b", 2)];
    for (node, priority) in nodes.iter_mut().zip([254, 253]) {
        node.configure(priority, extra);
        node.start();
        let state = if priority == 254 { "active" } else { "backup" };
        node.until("the first states", |status| {
            let settled = status.vrrp.iter().all(|router| router.state == state);
            status.ready && settled && guardian(status).is_some()
        })
        .await;
    }
    nodes
}

/// Process id of the guardian.
pub(crate) fn guardian(status: &Status) -> Option<u32> {
    status.guardian.and_then(|guardian| guardian.pid)
}

pub(crate) fn signal(process: u32, signal: Signal) {
    let process = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    kill_process(process, signal).unwrap();
}

impl Node {
    fn new(host: Host) -> Self {
        Self { host, dir: tempfile::tempdir().unwrap(), process: None }
    }

    fn configure(&self, priority: u8, extra: &str) {
        let dir = self.dir.path().display();
        let extra = extra.replace("PRIORITY", &priority.to_string());
        std::fs::write(self.dir.path().join("key"), "a-key-for-two").unwrap();
        let text = format!(
            "node = {{ state_dir = '{dir}/state', admin_socket = '{dir}/admin.sock' }}\n\
             nextcloud.url = 'http://10.68.0.9'\n\
             exapps.shared_key_file = '{dir}/key'\n\
             [[vrrp]]\n\
             interface = '{INTERFACE}'\n\
             vrid = 68\n\
             priority = {priority}\n\
             addresses = ['{VIP}']\n\
             {extra}\n"
        );
        std::fs::write(self.dir.path().join("trigon.toml"), text).unwrap();
    }

    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log"));
        let mut command = self.host.command(env!("CARGO_BIN_EXE_trigon"));
        command.args(["run", "--config"]).arg(self.dir.path().join("trigon.toml"));
        command.env_remove("TRIGON_LOG").stdin(Stdio::null()).stderr(log.unwrap());
        self.process = Some(command.spawn().unwrap());
    }

    /// Process id of the worker.
    pub(crate) fn worker(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Sends the worker a signal it ends by, and waits for that.
    pub(crate) fn end(&mut self, by: Signal) {
        signal(self.worker(), by);
        self.process.take().unwrap().wait().unwrap();
    }

    pub(crate) async fn status(&self) -> Option<Status> {
        trigon::admin::client::status(&self.dir.path().join("admin.sock")).await.ok()
    }

    /// Waits until the node says what `is_so` wants to hear; that status.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        let wanted = async {
            loop {
                if let Some(status) = self.status().await.filter(&is_so) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(LIMIT, wanted).await;
        found.unwrap_or_else(|_| panic!("never happened: {what}\n{}", self.log()))
    }

    /// Its only virtual router.
    pub(crate) async fn router(&self) -> Router {
        self.status().await.expect("the node answers").vrrp.remove(0)
    }

    /// Waits until this node's kernel has the address, or has it not.
    pub(crate) async fn holds(&self, wanted: bool) {
        let done = wait_until(LIMIT, || self.host.holds(VIP).map(|holds| holds == wanted)).await;
        assert!(done.unwrap(), "the address stays away or there\n{}", self.log());
    }

    /// Every address of the interface with its prefix length.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let mut command = self.host.command("ip");
        let output = command.args(["-j", "address", "show", "dev", INTERFACE]).output().unwrap();
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = listed[0]["addr_info"].as_array().unwrap().iter();
        let text = |one: &serde_json::Value| {
            format!("{}/{}", one["local"].as_str().unwrap(), one["prefixlen"])
        };
        found.map(text).collect()
    }

    /// Waits until nothing runs on this machine any more.
    pub(crate) async fn is_empty(&self) {
        let empty = || self.host.processes().map(|left| left.is_empty());
        assert!(wait_until(LIMIT, empty).await.unwrap(), "{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Node {
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
