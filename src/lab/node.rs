//! One `trigon run` process on a host of its own.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;

use super::Error;
use super::namespaces::{Host, wait_until};
use crate::admin;

/// What a node logs when a virtual router has changed its state.
const CHANGED: &str = "virtual router changed its state";

/// How long a command an admin types may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// Lines of a log shown when something went wrong.
const TAIL: usize = 12;

/// A node or a witness.
pub(super) struct Node {
    host: Host,
    directory: PathBuf,
    config: PathBuf,
    process: Option<Child>,
    powered: bool,
}

impl Node {
    /// Not started yet. `config` lies in the machine's directory.
    pub(super) fn new(host: Host, directory: PathBuf, config: PathBuf) -> Self {
        Self { host, directory, config, process: None, powered: true }
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Where its configuration, state, log and admin socket lie.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether this machine runs and owns `address`. After a power cut the kernel of the
    /// namespace lives on and may still have it, but that machine is no more.
    pub(super) fn holds(&self, address: Ipv4Addr) -> Result<bool, Error> {
        if !self.powered {
            return Ok(false);
        }
        self.host.holds(address).map_err(self.network("addresses"))
    }

    /// Starts `trigon run`; its log is appended to the machine's own file.
    pub(super) fn start(&mut self) -> Result<(), Error> {
        let program = std::env::current_exe().map_err(|reason| self.failed("started", reason))?;
        let mut command = self.host.command(program);
        command.arg("run").arg("--config").arg(&self.config);
        let process =
            start_logged(command, &self.log()).map_err(|reason| self.failed("started", reason))?;
        self.process = Some(process);
        Ok(())
    }

    /// Runs `trigon COMMAND --config ... ARGUMENTS` on this machine to its end, as an admin would
    /// before it runs; what it printed.
    pub(super) async fn call(
        &self,
        command: &str,
        arguments: &[&str],
        input: Option<&str>,
    ) -> Result<String, Error> {
        let config = self.config.display().to_string();
        let words = [&[command, "--config", &config], arguments].concat();
        self.type_in(&words, input).await
    }

    /// Runs a command that asks the running process.
    pub(super) async fn ask(&self, command: &[&str]) -> Result<String, Error> {
        let socket = self.directory.join("admin.sock").display().to_string();
        self.type_in(&[command, &["--socket", &socket]].concat(), None).await
    }

    async fn type_in(&self, words: &[&str], input: Option<&str>) -> Result<String, Error> {
        let failed = |reason| Error::Process {
            program: format!("trigon {} on {}", words.join(" "), self.host.name()),
            what: "run",
            reason,
        };
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = tokio::process::Command::from(self.host.command(program));
        command.args(words).kill_on_drop(true).stdin(Stdio::piped());
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not want to read has said why.
            let _ = stdin.write_all(input.unwrap_or_default().as_bytes()).await;
        }
        let output = tokio::time::timeout(COMMAND_LIMIT, child.wait_with_output()).await;
        let output = output.map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?;
        let output = output.map_err(failed)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::Refused { who: self.host.name().to_owned(), command: words.join(" "), said })
    }

    /// Fails if the process has ended although nobody told it to.
    pub(super) fn check_alive(&mut self) -> Result<(), Error> {
        let Some(process) = &mut self.process else { return Ok(()) };
        match process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.died(status)),
            Err(reason) => Err(self.failed("watched", reason)),
        }
    }

    /// What the node says about itself; `None` while it does not answer.
    pub(super) async fn status(&self) -> Option<admin::Status> {
        admin::client::status(&self.directory.join("admin.sock")).await.ok()
    }

    /// Everything that runs on this machine.
    pub(super) fn processes(&self) -> Result<Vec<Pid>, Error> {
        self.host.processes().map_err(self.network("processes"))
    }

    /// A power cut: the cable first, then the `processes` looked up before and whatever they have
    /// started since, so that no farewell gets out.
    pub(super) fn cut_power(&mut self, processes: Vec<Pid>) -> Result<(), Error> {
        self.host.link(false).map_err(self.network("link"))?;
        self.powered = false;
        for process in processes {
            // It may have ended by itself since.
            let _ = kill_process(process, Signal::KILL);
        }
        self.host.kill_all().map_err(self.network("processes"))?;
        self.reap();
        Ok(())
    }

    /// Power is back: an empty machine with the old disk, and trigon starts on it.
    pub(super) fn restore_power(&mut self) -> Result<(), Error> {
        self.host.reboot().map_err(self.network("reboot"))?;
        self.powered = true;
        self.start()
    }

    /// Asks the process to stop and does not wait.
    pub(super) fn ask_to_stop(&self) -> Result<(), Error> {
        self.signal(Signal::TERM)
    }

    /// Kills the process that was started, and nothing else on the machine.
    pub(super) fn kill_worker(&self) -> Result<(), Error> {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        let pid = self.process.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { return Ok(()) };
        kill_process(pid, signal).map_err(|reason| self.failed("stopped", reason.into()))
    }

    /// Waits for the end of a process that was asked to stop or killed, and ends what is still there after
    /// `limit`. Whether it had ended by itself.
    pub(super) async fn ended(&mut self, limit: Duration) -> Result<bool, Error> {
        let Some(process) = &mut self.process else { return Ok(true) };
        let ended = wait_until(limit, || process.try_wait().map(|status| status.is_some()))
            .await
            .map_err(|reason| self.failed("stopped", reason))?;
        self.host.kill_all().map_err(self.network("processes"))?;
        self.reap();
        Ok(ended)
    }

    /// How often a virtual router of this node has changed its state, by its log: the status only
    /// knows the last time.
    pub(super) fn transitions(&self) -> u64 {
        let log = std::fs::read(self.log()).unwrap_or_default();
        let lines = String::from_utf8_lossy(&log);
        lines.lines().filter(|line| line.contains(CHANGED)).count() as u64
    }

    /// The last lines of its log, indented, each headed by the node's name.
    pub(super) fn log_tail(&self) -> String {
        tail(self.host.name(), &self.log())
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn reap(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn died(&self, status: ExitStatus) -> Error {
        Error::Died {
            who: format!("node {}", self.host.name()),
            how: status.to_string(),
            logs: self.log_tail(),
        }
    }

    fn failed(&self, what: &'static str, reason: std::io::Error) -> Error {
        Error::Process { program: format!("node {}", self.host.name()), what, reason }
    }

    fn network(&self, what: &str) -> impl FnOnce(std::io::Error) -> Error + use<> {
        Error::network(format!("node {}: {what}", self.host.name()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.reap();
    }
}

/// Starts a program with its output appended to `log`, in a process group of its own: Ctrl-C on
/// the terminal is for the lab, which then ends everything in order.
pub(super) fn start_logged(mut command: Command, log: &Path) -> std::io::Result<Child> {
    let file = File::options().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0).spawn()
}

/// The last lines of a log file, each indented and headed by `name`.
pub(super) fn tail(name: &str, log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL)..];
    last.iter().map(|line| format!("\n  {name}: {line}")).collect()
}
