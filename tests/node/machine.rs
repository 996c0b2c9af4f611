//! One machine in a namespace of its own, with a configuration and `trigon` processes on it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use trigon::admin::client;
use trigon::lab::namespaces::{Host, INTERFACE, Lan, wait_until};

use super::LIMIT;

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 100);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);
pub(crate) const KEY: &str = "the-shared-key-nobody-may-read-in-a-log";

pub(crate) struct Machine {
    pub(crate) host: Host,
    dir: TempDir,
    process: Option<Child>,
}

impl Machine {
    /// With a right configuration, nothing started.
    pub(crate) fn new() -> Self {
        let host = Lan::new("trigon-node").unwrap().host("a", OWN).unwrap();
        let machine = Self { host, dir: tempfile::tempdir().unwrap(), process: None };
        machine.write_key(KEY);
        machine.write_config("[exapps]\nshared_key_file = 'KEY'\n");
        machine
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("trigon.toml")
    }

    pub(crate) fn write_key(&self, key: &str) {
        std::fs::write(self.dir.path().join("key"), key).unwrap();
    }

    /// Eight lines that are right, and then `sections`, in which KEY stands for the key file.
    pub(crate) fn write_config(&self, sections: &str) {
        let dir = self.dir.path().display();
        let sections = sections.replace("KEY", &format!("{dir}/key"));
        let text = format!(
            "node = {{ state_dir = '{dir}/state', admin_socket = '{dir}/admin.sock' }}\n\
             nextcloud.url = 'http://10.66.0.2'\n\
             \n\
             [[vrrp]]\n\
             interface = '{INTERFACE}'\n\
             vrid = 66\n\
             addresses = ['{VIP}']\n\
             \n\
             {sections}"
        );
        std::fs::write(self.config(), text).unwrap();
    }

    /// Starts `trigon run`.
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        self.process = Some(self.command("run").stderr(log).spawn().unwrap());
    }

    /// Sends the process a signal and waits for its end; its exit code, if it had one.
    pub(crate) fn end(&mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.process.take().unwrap().wait().unwrap().code()
    }

    /// Kills the process and its guardian in the same instant, as a machine without memory may.
    pub(crate) fn crash(&mut self) {
        for process in self.host.processes().unwrap() {
            kill_process(process, Signal::STOP).unwrap();
        }
        self.host.kill_all().unwrap();
        self.process.take().unwrap().wait().unwrap();
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.as_ref().unwrap().id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// The name of each thread of the process and the capabilities it may use.
    pub(crate) fn capabilities_by_thread(&self) -> Vec<(String, u64)> {
        let tasks = format!("/proc/{}/task", self.process.as_ref().unwrap().id());
        let thread = |path: PathBuf| {
            let status = std::fs::read_to_string(path.join("status")).ok()?;
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
            let held = u64::from_str_radix(field("CapEff:")?.trim(), 16).ok()?;
            Some((field("Name:")?.trim().to_owned(), held))
        };
        let entries = std::fs::read_dir(tasks).unwrap();
        entries.filter_map(|entry| thread(entry.unwrap().path())).collect()
    }

    /// Waits until a line of the log says this.
    pub(crate) async fn logs(&self, text: &str) {
        let says = || Ok::<_, std::io::Error>(self.log().contains(text));
        assert!(wait_until(LIMIT, says).await.unwrap(), "{text}:\n{}", self.log());
    }

    /// Runs a subcommand to its end: its exit code and everything it said.
    pub(crate) fn call(&self, subcommand: &str) -> (i32, String) {
        let output = self.command(subcommand).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        self.is_clean(&said);
        (output.status.code().unwrap(), said)
    }

    /// Runs a subcommand with further arguments to its end: its exit code, what it printed, what it
    /// complained about.
    pub(crate) fn call_with(&self, subcommand: &str, more: &[&str]) -> (i32, String, String) {
        let output = self.command(subcommand).args(more).output().unwrap();
        let [said, complained] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        self.is_clean(&said);
        self.is_clean(&complained);
        (output.status.code().unwrap(), said, complained)
    }

    /// Its directory; `state` in it is the node's.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Waits for the end of a process that ends by itself; its exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let mut process = self.process.take().unwrap();
        let ended = wait_until(LIMIT, || process.try_wait().map(|status| status.is_some())).await;
        if !ended.unwrap() {
            process.kill().unwrap();
            panic!("it goes on:\n{}", self.log());
        }
        process.wait().unwrap().code()
    }

    /// Runs a command that asks the running node; its exit code, what it printed, what it
    /// complained about.
    pub(crate) fn ask(&self, command: &[&str]) -> (i32, String, String) {
        let mut asking = self.host.command(env!("CARGO_BIN_EXE_trigon"));
        asking.args(command).arg("--socket").arg(self.socket()).stdin(Stdio::null());
        let output = asking.output().unwrap();
        let [said, complained] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        self.is_clean(&said);
        self.is_clean(&complained);
        (output.status.code().unwrap(), said, complained)
    }

    /// Sends a request from the machine itself; what came back.
    pub(crate) fn request(&self, head: &str, body: &str) -> String {
        self.request_at(8780, head, body)
    }

    /// The same at another port.
    pub(crate) fn request_at(&self, port: u16, head: &str, body: &str) -> String {
        let request = format!(
            "{} HTTP/1.1\r\nHost: trigon.test\r\nConnection: close\r\nContent-Length: {}\r\n{}\r\n{body}",
            head.lines().next().unwrap(),
            body.len(),
            head.lines().skip(1).map(|line| format!("{line}\r\n")).collect::<String>(),
        );
        self.host
            .within(|| {
                let mut stream = TcpStream::connect((OWN, port)).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                let mut answer = String::new();
                // A dropped connection ends without an answer, in whatever way.
                let _ = stream.read_to_string(&mut answer);
                answer
            })
            .unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// Waits until the node is ready and Active; then the kernel must have the address once, as
    /// a /32 with a lease.
    pub(crate) async fn holds_and_is_ready(&self) {
        let socket = self.socket();
        let ready = async {
            loop {
                if let Ok(status) = client::status(&socket).await
                    && status.ready
                    && status.vrrp.iter().all(|router| router.state == "active")
                {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(LIMIT, ready).await.is_ok(), "never ready:\n{}", self.log());
        let held = wait_until(LIMIT, || self.host.holds(VIP)).await;
        assert!(held.unwrap(), "{}", self.log());
        let output =
            self.host.command("ip").args(["-j", "-4", "address", "show"]).output().unwrap();
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let addresses = listed.as_array().unwrap().iter().flat_map(|i| i["addr_info"].as_array());
        let ours: Vec<_> =
            addresses.flatten().filter(|found| found["local"] == VIP.to_string()).collect();
        assert_eq!(ours.len(), 1, "{listed}");
        assert_eq!(ours[0]["prefixlen"], 32);
        assert!(ours[0]["valid_life_time"].as_u64().unwrap() <= 2, "{listed}");
    }

    /// Everything the started processes have logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = self.host.command(env!("CARGO_BIN_EXE_trigon"));
        command.args([subcommand, "--config"]).arg(self.config()).env_remove("TRIGON_LOG");
        command.stdin(Stdio::null());
        command
    }

    fn is_clean(&self, text: &str) {
        assert!(!text.contains("panicked"), "{text}");
        assert!(!text.contains(KEY), "a secret was told: {text}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if !std::thread::panicking() {
            self.is_clean(&self.log());
        }
    }
}
