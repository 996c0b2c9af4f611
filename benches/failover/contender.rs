//! keepalived and Trigon with the same VRID, timers and priorities, each in its best dress: real-time
//! scheduling, locked memory, version 3.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;
use cluster::{Admission, Founding, Role};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use trigon::lab::namespaces::{Host, INTERFACE};

use crate::place::{Place, VIP};

const VRID: u8 = 77;
const CLUSTER: &str = "bench";
const CLUSTER_PORT: u16 = 7443;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    Keepalived,
    Trigon,
}

/// A pair of nodes, a preferred, and for Trigon a witness.
pub(crate) struct Contender {
    kind: Kind,
    directory: TempDir,
    /// On a, b and the witness.
    processes: Vec<Child>,
}

impl Contender {
    pub(crate) fn start(kind: Kind, place: &Place, interval: Duration) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("trigon-bench-").tempdir()?;
        let hosts = [(&place.a, Some(254)), (&place.b, Some(253)), (&place.witness, None)];
        let path = directory.path();
        match kind {
            Kind::Keepalived => {
                for (host, priority) in hosts {
                    let Some(priority) = priority else { continue };
                    let text = keepalived(interval, priority);
                    fs::write(path.join(format!("{}.conf", host.name())), text)?;
                }
            }
            Kind::Trigon => {
                fs::write(path.join("shared.key"), "of the bench")?;
                prepare(path, place)?;
                for (host, priority) in hosts {
                    let text = trigon(path, host, interval, priority);
                    fs::write(path.join(format!("{}.conf", host.name())), text)?;
                }
            }
        }
        let mut contender = Self { kind, directory, processes: Vec::new() };
        for (host, priority) in hosts {
            if kind == Kind::Trigon || priority.is_some() {
                let process = contender.run(host)?;
                contender.processes.push(process);
            }
        }
        Ok(contender)
    }

    /// Starts the program on a again.
    pub(crate) fn start_a(&mut self, place: &Place) -> anyhow::Result<()> {
        let process = self.run(&place.a)?;
        if let Some(mut old) = self.processes.first_mut().map(|a| std::mem::replace(a, process)) {
            let _ = old.kill();
            old.wait()?;
        }
        Ok(())
    }

    /// Kills everything on a.
    pub(crate) fn kill(&mut self, host: &Host, processes: Vec<Pid>) -> anyhow::Result<()> {
        for process in processes {
            let _ = kill_process(process, Signal::KILL);
        }
        Ok(host.kill_all()?)
    }

    /// Tells the program on a to stop.
    pub(crate) fn stop(&self) -> anyhow::Result<()> {
        let pid = self.processes.first().and_then(|child| i32::try_from(child.id()).ok());
        let pid = pid.and_then(Pid::from_raw).context("no process on a")?;
        Ok(kill_process(pid, Signal::TERM)?)
    }

    /// Waits until nothing runs on a any more.
    pub(crate) async fn wait_for_end(&mut self, host: &Host) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(15);
        loop {
            if let Some(a) = self.processes.first_mut() {
                a.try_wait()?;
            }
            if host.processes()?.is_empty() {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < end, "a did not stop; {}", self.logs());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The last lines of every log.
    pub(crate) fn logs(&self) -> String {
        let tail = |name: &str| {
            let text = fs::read_to_string(self.directory.path().join(format!("{name}.log")));
            let text = text.unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(8)..];
            last.iter().map(|line| format!("\n  {name}: {line}")).collect::<String>()
        };
        ["a", "b", "witness"].into_iter().map(tail).collect()
    }

    fn run(&self, host: &Host) -> anyhow::Result<Child> {
        let file = |end: &str| self.directory.path().join(format!("{}.{end}", host.name()));
        let mut command: Command;
        match self.kind {
            Kind::Keepalived => {
                command = host.command("keepalived");
                command.args(["--vrrp", "--dont-fork", "--log-console"]);
                command.arg("--use-file").arg(file("conf"));
                command.arg("--pid").arg(file("pid")).arg("--vrrp_pid").arg(file("vrrp"));
                for pid in ["pid", "vrrp"] {
                    let _ = fs::remove_file(file(pid));
                }
            }
            Kind::Trigon => {
                command = host.command(env!("CARGO_BIN_EXE_trigon"));
                command.arg("run").arg("--config").arg(file("conf"));
            }
        }
        let log = File::options().create(true).append(true).open(file("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("{:?} on {}", self.kind, host.name()))
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn keepalived(interval: Duration, priority: u8) -> String {
    format!(
        "global_defs {{\n  vrrp_version 3\n  vrrp_rt_priority 50\n  vrrp_no_swap\n}}\n\
         vrrp_instance bench {{\n  state BACKUP\n  interface {INTERFACE}\n  virtual_router_id \
         {VRID}\n  priority {priority}\n  advert_int {}\n  virtual_ipaddress {{\n    {VIP}/32\n  \
         }}\n}}\n",
        interval.as_secs_f64()
    )
}

/// Makes the three state directories members of one cluster.
fn prepare(directory: &Path, place: &Place) -> anyhow::Result<()> {
    let state = |host: &Host| directory.join(format!("{}.state", host.name()));
    let at = |host: &Host| SocketAddr::from((host.address(), CLUSTER_PORT));
    let founding = Founding {
        cluster_name: CLUSTER.into(),
        node_name: place.a.name().into(),
        advertise: Some(at(&place.a)),
    };
    cluster::found(&state(&place.a), &founding)?;
    for (host, role) in [(&place.b, Role::Node), (&place.witness, Role::Witness)] {
        let admission = Admission { node_name: host.name().into(), role, advertise: at(host) };
        cluster::admit(&state(&place.a), &state(host), &admission)?;
    }
    Ok(())
}

fn trigon(directory: &Path, host: &Host, interval: Duration, priority: Option<u8>) -> String {
    let name = host.name();
    let file = |name: String| -> PathBuf { directory.join(name) };
    let role = if priority.is_some() { "node" } else { "witness" };
    let mut text = format!(
        "[node]\nname = '{name}'\nrole = '{role}'\nstate_dir = '{}'\nadmin_socket = '{}'\n\
         [cluster]\nlisten = '{}:{CLUSTER_PORT}'\n",
        file(format!("{name}.state")).display(),
        file(format!("{name}.sock")).display(),
        host.address(),
    );
    if let Some(priority) = priority {
        text += &format!(
            "[nextcloud]\nurl = 'http://127.0.0.1:9'\n[exapps]\nlisten = '0.0.0.0:8780'\n\
             shared_key_file = '{}'\n[frp]\nlisten = '0.0.0.0:8782'\n[docker]\nsocket = 'off'\n\
             [[vrrp]]\ninterface = '{INTERFACE}'\nvrid = {VRID}\npriority = {priority}\n\
             advert_interval = '{}ms'\naddresses = ['{VIP}']\n",
            file("shared.key".into()).display(),
            interval.as_millis()
        );
    }
    text
}
