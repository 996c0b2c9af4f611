//! One machine of the cluster with its `trigon run`, and what can be done to it.

use std::fmt::Write;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response};
use rustix::process::{Pid, Signal, kill_process};
use trigon::admin::bans::NewBan;
use trigon::admin::cluster::Cluster;
use trigon::admin::{Status, client};
use trigon::lab::namespaces::Host;

use crate::disk::Disk;
use crate::support::{eventually, http};

/// Where nodes serve ExApps, and where tunnel clients come.
pub(crate) const HTTP_PORT: u16 = 8780;
pub(crate) const FRP_PORT: u16 = 8782;
const METRICS_PORT: u16 = 9108;

/// What a node logs when a virtual router has changed its state.
const CHANGED: &str = "virtual router changed its state";

/// A node or the witness.
pub(crate) struct Machine {
    host: Host,
    number: u64,
    /// The sections of a node besides `[node]` and `[cluster]`; none for a witness.
    serving: Option<String>,
    dir: PathBuf,
    disk: Disk,
    process: Option<Child>,
    powered: bool,
}

impl Machine {
    /// Not started yet. `dir` is its private directory.
    pub(crate) fn new(
        host: Host,
        number: u64,
        dir: PathBuf,
        disk: Disk,
        serving: Option<String>,
    ) -> Self {
        fs::create_dir_all(dir.join("state")).unwrap();
        disk.make(&dir);
        Self { host, number, serving, dir, disk, process: None, powered: true }
    }

    /// The number it joined with at first.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Its disk is lost, and a new one in: it was in no cluster yet. Not while it runs.
    pub(crate) fn replace_disk(&self) {
        let state = self.dir.join("state");
        fs::remove_dir_all(&state).unwrap();
        fs::create_dir(&state).unwrap();
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        self.host.address()
    }

    pub(crate) fn role(&self) -> &'static str {
        if self.serving.is_some() { "node" } else { "witness" }
    }

    /// Writes the configuration: lines of `[node]`, and the section `[cluster]`.
    pub(crate) fn configure(&self, node: &str, cluster: &str) {
        let dir = self.dir.display();
        let serving = self.serving.as_deref().unwrap_or_default();
        let text = format!(
            "[node]\nname = \"{}\"\nstate_dir = \"{dir}/state\"\n\
             admin_socket = \"{dir}/admin.sock\"\n{node}\n\
             [metrics]\nlisten = \"127.0.0.1:{METRICS_PORT}\"\n{cluster}\n{serving}\n",
            self.host.name(),
        );
        fs::write(self.dir.join("trigon.toml"), text).unwrap();
    }

    /// Runs `trigon COMMAND --config ... ARGUMENTS` to its end before the node is started.
    pub(crate) fn call(&self, command: &[&str], input: &str) {
        let [name, arguments @ ..] = command else { panic!("no command") };
        let mut command = self.disk.command(&self.host, &self.dir);
        command.args([name, "--config"]).arg(self.dir.join("trigon.toml")).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = process.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {told}");
    }

    /// Power is back on an empty machine with the old disk.
    pub(crate) fn power_on(&mut self) {
        self.host.reboot().unwrap();
        self.powered = true;
    }

    /// Starts the process (again).
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = self.disk.command(&self.host, &self.dir);
        command.args(["run", "--config"]).arg(self.dir.join("trigon.toml"));
        command.env_remove("TRIGON_LOG").stdin(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    /// Whether the process was started and not ended since.
    pub(crate) fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// The process gets a signal it ends by, and is waited for.
    pub(crate) fn end(&mut self, by: Signal) {
        self.signal(by);
        self.process.take().unwrap().wait().unwrap();
    }

    /// Waits until the process ends by itself.
    pub(crate) async fn ends(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap();
        eventually(&format!("{} ends by itself", self.host.name()), || {
            let ended = process.try_wait().unwrap();
            async move { ended }
        })
        .await
    }

    /// The process stands still.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// And goes on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_child(self.process.as_ref().unwrap());
        kill_process(process, signal).unwrap();
    }

    /// A power cut: the cable first, so that no farewell gets out.
    pub(crate) fn cut_power(&mut self) {
        self.host.link(false).unwrap();
        self.powered = false;
        self.host.kill_all().unwrap();
        if let Some(mut process) = self.process.take() {
            process.wait().unwrap();
        }
    }

    /// Power is back, and trigon starts.
    pub(crate) fn restore_power(&mut self) {
        self.power_on();
        self.start();
    }

    /// Adds rules to this machine's own packet filter: lines of nftables for what comes in and
    /// what goes out.
    pub(crate) fn filter(&self, incoming: &str, outgoing: &str) {
        let rules = format!(
            "table inet broken {{\n\
             chain incoming {{ type filter hook input priority 0;\n{incoming}\n}}\n\
             chain outgoing {{ type filter hook output priority 0;\n{outgoing}\n}}\n}}"
        );
        let file = self.dir.join("rules.nft");
        fs::write(&file, rules).unwrap();
        let done = self.host.command("nft").arg("-f").arg(&file).status().unwrap();
        assert!(done.success());
    }

    /// Removes them.
    pub(crate) fn unfilter(&self) {
        let arguments = ["delete", "table", "inet", "broken"];
        assert!(self.host.command("nft").args(arguments).status().unwrap().success());
    }

    /// Every write to the disk waits from now on.
    pub(crate) fn freeze_disk(&self) {
        self.disk.freeze(self.process.as_ref(), &self.dir);
    }

    /// The disk answers again.
    pub(crate) fn thaw_disk(&self) {
        self.disk.thaw(self.process.as_ref(), &self.dir);
    }

    /// No room is left on the disk.
    pub(crate) fn fill_disk(&self) {
        self.disk.fill(self.process.as_ref(), &self.dir);
    }

    /// There is room again.
    pub(crate) fn clear_disk(&self) {
        self.disk.clear(self.process.as_ref(), &self.dir);
    }

    /// Every write to the disk fails from now on; one that is started anew works again.
    pub(crate) fn fail_disk(&self) {
        self.disk.fail(self.process.as_ref().unwrap(), &self.dir);
    }

    /// Its private directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether this machine runs and its kernel owns `address`. After a power cut the kernel of
    /// the namespace lives on and may still have it, but that machine is no more.
    pub(crate) fn holds(&self, address: Ipv4Addr) -> bool {
        self.powered && self.host.holds(address).unwrap()
    }

    /// How often this node became or ceased to be Active, by the log.
    pub(crate) fn moves(&self) -> usize {
        let log = self.log();
        let changes = log.lines().filter(|line| line.contains(CHANGED));
        changes.filter(|line| line.contains("=active ")).count()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("admin.sock")
    }

    pub(crate) async fn status(&self) -> Option<Status> {
        client::status(&self.socket()).await.ok()
    }

    /// Waits until the node says what `is_so` wants to hear.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        let what = format!("{}: {what}", self.host.name());
        eventually(&what, || async { self.status().await.filter(&is_so) }).await
    }

    /// Whether a rule of that name lowers the priority of its first virtual router.
    pub(crate) async fn is_lowered_by(&self, rule: &str) -> bool {
        let status = self.status().await;
        let reasons = status.iter().flat_map(|status| &status.vrrp[0].adjustments);
        reasons.into_iter().any(|one| one.by < 0 && one.reason.starts_with(rule))
    }

    /// How the cluster stands for this node, once it is what `is_so` wants to hear.
    pub(crate) async fn until_cluster(
        &self,
        what: &str,
        is_so: impl Fn(&Cluster) -> bool,
    ) -> Cluster {
        let what = format!("{}: {what}", self.host.name());
        let asked = async || client::cluster(&self.socket()).await.ok();
        eventually(&what, || async { asked().await.filter(&is_so) }).await
    }

    /// A durable change asked of this node: whether it was confirmed, or the words of its refusal.
    pub(crate) async fn ban(&self, address: String) -> Result<(), String> {
        let new = NewBan { address, for_seconds: None, reason: String::new() };
        match client::ban(&self.socket(), &new).await {
            Ok(()) => Ok(()),
            Err(client::Error::Unconfirmed(words)) => Err(words),
            Err(error) => panic!("{}: {error}", self.host.name()),
        }
    }

    /// Asks this node from its own machine, so that it can be asked whatever the network does.
    pub(crate) async fn ask(&self, request: Request<Full<Bytes>>) -> Option<Response<Bytes>> {
        self.ask_port(HTTP_PORT, request).await
    }

    /// The value of a counter without labels.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        let page = self.ask_port(METRICS_PORT, http::get("/metrics", &[])).await.unwrap();
        let text = String::from_utf8_lossy(page.body()).into_owned();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    async fn ask_port(&self, port: u16, request: Request<Full<Bytes>>) -> Option<Response<Bytes>> {
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        let connect = move || TcpStream::connect_timeout(&to, Duration::from_secs(1));
        let stream = self.host.within(connect).unwrap().ok()?;
        stream.set_nonblocking(true).unwrap();
        http::exchange(tokio::net::TcpStream::from_std(stream).unwrap(), request).await
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The last lines of the log, for whoever has to find out what went wrong.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let mut text = String::new();
        for line in &lines[lines.len().saturating_sub(40)..] {
            let _ = writeln!(text, "{}: {line}", self.host.name());
        }
        text
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.disk.thaw(self.process.as_ref(), &self.dir);
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
