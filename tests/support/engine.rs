//! A real Docker engine of the test's own: `dockerd` with its own data, its own containerd and
//! its own socket, in the network namespace of a [`Host`]. `--network host` of its containers is
//! that namespace, and nothing of the machine's own Docker is touched.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use trigon::lab::namespaces::Host;

use super::{eventually, http};

const PREFIX: &str = "trigon-engine";
/// How long an engine that was told to stop may take before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A running engine. Dropping it ends its containers, the engine and everything it mounted, also
/// while a panic unwinds; the host lives as long.
pub(crate) struct Engine {
    host: Arc<Host>,
    dir: PathBuf,
    process: Option<Child>,
}

impl Engine {
    /// Starts an empty engine on `host` and waits until it answers.
    pub(crate) async fn start(host: &Arc<Host>) -> Self {
        sweep();
        let prefix = format!("{PREFIX}-{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().unwrap().keep();
        fs::write(dir.join("daemon.json"), "{}").unwrap();
        let mut engine = Self { host: Arc::clone(host), dir, process: None };
        engine.start_again().await;
        engine
    }

    /// Where its API is served.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// Starts it after [`Engine::stop`], with the images and containers it had.
    pub(crate) async fn start_again(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let dir = self.dir.display();
        let mut command = Command::new("dockerd");
        command
            .arg(format!("--config-file={dir}/daemon.json"))
            .arg(format!("--data-root={dir}/data"))
            .arg(format!("--exec-root={dir}/exec"))
            .arg(format!("--pidfile={dir}/pid"))
            .arg(format!("--host=unix://{dir}/docker.sock"))
            // The namespace is the test's: no bridge, no packet filter, no service manager.
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false", "--ip-masq=false"])
            .args(["--exec-opt=native.cgroupdriver=cgroupfs", "--shutdown-timeout=1"])
            // Then it logs every call it gets.
            .arg("--debug")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        // Not through `ip netns exec`, whose fresh /sys has no control groups.
        self.process = Some(self.host.within(|| command.spawn()).unwrap().unwrap());
        eventually("the Docker engine answers", || async {
            let answer = self.try_call(http::get("/_ping", &[])).await?;
            (answer.status() == 200).then_some(())
        })
        .await;
    }

    /// Ends the engine, its containerd and its containers; its data stays.
    pub(crate) fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        terminate(process.id());
        let end = Instant::now() + STOP_LIMIT;
        while matches!(process.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = process.kill();
        let _ = process.wait();
        // Normally nothing is left by now: containerd and the shims end with their engine.
        for process in self.processes() {
            let _ = kill_process(process, Signal::KILL);
        }
    }

    /// What it has logged, each call of its API included.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// One call of its API, past everything under test.
    pub(crate) async fn call(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        self.try_call(request).await.unwrap()
    }

    /// What a GET tells as JSON; `None` unless the status is 200.
    pub(crate) async fn json(&self, path: &str) -> Option<Value> {
        let answer = self.call(http::get(path, &[])).await;
        (answer.status() == 200).then(|| serde_json::from_slice(answer.body()).unwrap())
    }

    /// `docker inspect`.
    pub(crate) async fn container(&self, name: &str) -> Option<Value> {
        self.json(&format!("/containers/{name}/json")).await
    }

    /// Whether the volume exists.
    pub(crate) async fn has_volume(&self, name: &str) -> bool {
        self.json(&format!("/volumes/{name}")).await.is_some()
    }

    async fn try_call(&self, request: Request<Full<Bytes>>) -> Option<Response<Bytes>> {
        let stream = tokio::net::UnixStream::connect(self.socket()).await.ok()?;
        http::exchange(stream, request).await
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Every process that names this engine's directory on its command line.
    fn processes(&self) -> Vec<Pid> {
        processes_of(&self.dir)
    }

    /// Containers would survive their engine; blocking, because it also serves a drop.
    fn remove_containers(&self) {
        let Some(listed) = self.ask("GET /containers/json?all=true") else { return };
        let body = listed.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let listed: Value = serde_json::from_str(body).unwrap_or_default();
        for container in listed.as_array().into_iter().flatten() {
            let id = container["Id"].as_str().unwrap_or_default();
            self.ask(&format!("DELETE /containers/{id}?force=true"));
        }
    }

    fn ask(&self, line: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(STOP_LIMIT)).ok()?;
        // HTTP/1.0: the answer is not chunked and ends with the connection.
        write!(stream, "{line} HTTP/1.0\r\nHost: engine\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(20)..];
            eprintln!("--- the engine's last words:\n{}", last.join("\n"));
        }
        self.remove_containers();
        self.stop();
        remove(&self.dir);
    }
}

/// Removes what earlier tests left behind that were killed before they could.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1));
        let gone = |maker: &str| !Path::new(&format!("/proc/{maker}")).exists();
        if maker.is_some_and(gone) {
            for process in processes_of(&entry.path()) {
                let _ = kill_process(process, Signal::KILL);
            }
            remove(&entry.path());
        }
    }
}

fn processes_of(dir: &Path) -> Vec<Pid> {
    let dir = dir.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&dir) {
            found.extend(number.and_then(Pid::from_raw));
        }
    }
    found
}

fn terminate(process: u32) {
    if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Unmounts everything below `dir`, the innermost first, and deletes it.
fn remove(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounted = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let below: Vec<&str> = mounted.filter(|at| Path::new(at).starts_with(dir)).collect();
    for place in below.iter().rev() {
        let _ = Command::new("umount").args(["--lazy", place]).status();
    }
    if let Err(error) = fs::remove_dir_all(dir) {
        eprintln!("{} could not be removed: {error}", dir.display());
    }
}
