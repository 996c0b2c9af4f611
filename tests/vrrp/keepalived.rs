//! The real keepalived as a host on the LAN.

use std::{
    fmt::Write,
    fs::{self, File},
    net::IpAddr,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::lan::{Host, eventually};

/// One `vrrp_instance`, by default version 3, multicast, preempting, 100 ms.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    vrid: u8,
    priority: u8,
    addresses: Vec<IpAddr>,
    version: u8,
    interval: &'static str,
    options: String,
}

impl Instance {
    pub(crate) fn new(vrid: u8, priority: u8, address: impl Into<IpAddr>) -> Self {
        Self {
            vrid,
            priority,
            addresses: vec![address.into()],
            version: 3,
            interval: "0.1",
            options: String::new(),
        }
    }

    /// Version 2, which counts in whole seconds.
    pub(crate) fn version_2(mut self, password: Option<&str>) -> Self {
        self.version = 2;
        self.interval = "1";
        if let Some(password) = password {
            self.option(&format!("authentication {{\n auth_type PASS\n auth_pass {password}\n}}"));
        }
        self
    }

    /// Protects another address as well.
    pub(crate) fn and(mut self, address: IpAddr) -> Self {
        self.addresses.push(address);
        self
    }

    pub(crate) fn unicast(mut self, source: IpAddr, peer: IpAddr) -> Self {
        self.option(&format!("unicast_src_ip {source}\nunicast_peer {{\n {peer}\n}}"));
        self
    }

    pub(crate) fn nopreempt(mut self) -> Self {
        self.option("nopreempt");
        self
    }

    fn option(&mut self, text: &str) {
        let _ = writeln!(self.options, "{text}");
    }

    fn configuration(&self) -> String {
        let Self { vrid, priority, addresses, version, interval, options } = self;
        let mut list = String::new();
        for address in addresses {
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            let _ = writeln!(list, "{address}/{prefix}");
        }
        format!(
            "global_defs {{\nvrrp_version {version}\n}}\n\
             vrrp_instance test {{\nstate BACKUP\ninterface eth0\nvirtual_router_id {vrid}\n\
             priority {priority}\nadvert_int {interval}\n{options}\
             virtual_ipaddress {{\n{list}}}\n}}\n"
        )
    }
}

/// A running keepalived, stopped in order when dropped.
#[derive(Debug)]
pub(crate) struct Keepalived {
    process: Child,
    directory: tempfile::TempDir,
}

impl Keepalived {
    /// Starts it on `host`; it begins as backup.
    pub(crate) fn start(host: &Host, instance: &Instance) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("keepalived.conf"), instance.configuration()).expect("a writable directory");
        let log = File::create(path("log")).expect("a writable directory");
        let process = Command::new("ip")
            .args(["netns", "exec", host.namespace(), "keepalived"])
            .args(["--dont-fork", "--log-console", "--log-detail", "--vrrp"])
            .arg("--use-file")
            .arg(path("keepalived.conf"))
            .arg("--pid")
            .arg(path("pid"))
            .arg("--vrrp_pid")
            .arg(path("vrrp_pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("ip can be run");
        let keepalived = Self { process, directory };
        eventually("keepalived starts (is it installed?)", || {
            keepalived.log().contains("Entering BACKUP STATE")
        });
        keepalived
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        let path = self.directory.path().join("log");
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Whether it says that it dislikes a packet.
    pub(crate) fn complains(&self) -> bool {
        let log = self.log();
        ["nvalid", "hecksum", "mismatch", "expected", "ncorrect"]
            .iter()
            .any(|word| log.contains(word))
    }

    /// Fails if [`Self::complains`].
    pub(crate) fn assert_content(&self) {
        assert!(!self.complains(), "keepalived complains:\n{}", self.log());
    }

    /// Stops it in order: it says goodbye with priority 0.
    pub(crate) fn stop(mut self) {
        self.terminate();
    }

    fn terminate(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        self.terminate();
    }
}
