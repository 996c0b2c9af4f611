//! Network namespaces joined by a bridge: a small local network inside one machine.
//!
//! [`Lan`] is the switch, [`Host`] one machine on it with one interface, `eth0`. Dropping a host
//! ends every process on it and removes its namespace, also while a panic unwinds. What a hard
//! killed maker left behind is swept by the next `Lan` of that prefix.
//! Needs root and iproute2. Knows nothing of the lab: integration tests use it as well.

use std::fs;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::ports::Ports;

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";
/// The only interface of every host.
pub const INTERFACE: &str = "eth0";

/// The switch; it lives until the last of its hosts is dropped.
pub struct Lan {
    base: String,
    switch: Arc<Switch>,
}

impl Lan {
    /// Makes an empty switch. Names begin with `prefix`, the process id and a counter, so that
    /// any number of networks can exist at once; `prefix` is letters, digits and `-`.
    ///
    /// # Errors
    /// No root, no `ip`, or the kernel's refusal, with the text `ip` gave.
    pub fn new(prefix: &str) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep(prefix);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let base = format!("{prefix}-{}-{number}", std::process::id());
        let space = Space::new(format!("{base}-switch"))?;
        ip_in(&space.name, &["link", "add", "bridge", "type", "bridge", "mcast_snooping", "0"])?;
        ip_in(&space.name, &["link", "set", "bridge", "up"])?;
        let ports = space.within(Ports::open)??;
        Ok(Self { base, switch: Arc::new(Switch { space, ports }) })
    }

    /// Plugs in a host with one address in a /24 (`name`: at most 15 characters).
    ///
    /// # Errors
    /// The kernel's refusal, for instance of a name that is taken.
    pub fn host(&self, name: &str, address: Ipv4Addr) -> io::Result<Host> {
        let space = Space::new(format!("{}-{name}", self.base))?;
        let host = Host { name: name.to_owned(), address, space, switch: Arc::clone(&self.switch) };
        host.plug_in()?;
        Ok(host)
    }
}

struct Switch {
    space: Space,
    ports: Ports,
}

/// One machine on the [`Lan`].
pub struct Host {
    name: String,
    address: Ipv4Addr,
    space: Space,
    switch: Arc<Switch>,
}

impl Host {
    /// The short name given to [`Lan::host`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address given to [`Lan::host`].
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The name for `ip netns exec`.
    pub fn namespace(&self) -> &str {
        &self.space.name
    }

    /// A command that will run on this host. The process id of the child is the program's own:
    /// `ip netns exec` replaces itself.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space.name]).arg(program.as_ref());
        command
    }

    /// Runs a short piece of blocking work on this host and waits for it. Sockets made there
    /// stay on this host for ever.
    ///
    /// # Errors
    /// The thread could not be started or not enter the namespace.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        self.space.within(work)
    }

    /// Runs a future on this host, on a thread and a tokio runtime of its own. Dropping the
    /// answer ends it.
    ///
    /// # Errors
    /// The thread could not be started or not enter the namespace.
    pub fn enter_thread<Work, Run, T>(&self, work: Work) -> io::Result<Entered<T>>
    where
        Work: FnOnce() -> Run + Send + 'static,
        Run: Future<Output = T>,
        T: Send + 'static,
    {
        let file = fs::File::open(self.space.path())?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (send_ready, ready) = std::sync::mpsc::channel();
        let (send, result) = oneshot::channel();
        let thread = thread::Builder::new().name(self.name.clone()).spawn(move || {
            let entered = enter(&file)
                .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
            let runtime = match entered {
                Ok(runtime) => {
                    let _ = send_ready.send(Ok(()));
                    runtime
                }
                Err(error) => {
                    let _ = send_ready.send(Err(error));
                    return;
                }
            };
            runtime.block_on(async {
                tokio::select! {
                    () = stopped.cancelled() => {}
                    value = work() => { let _ = send.send(value); }
                }
            });
            // A blocking resolver call must not hold the clean-up.
            runtime.shutdown_background();
        })?;
        let entered = Entered { stop, result: Some(result), thread: Some(thread) };
        match ready.recv() {
            Ok(Ok(())) => Ok(entered),
            Ok(Err(error)) => Err(error),
            Err(_gone) => Err(io::Error::other("the thread ended before it entered")),
        }
    }

    /// Pulls the cable or plugs it in again, at the switch: the host sees its carrier go.
    /// Returns when the kernel has done it, within microseconds.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn link(&self, up: bool) -> io::Result<()> {
        self.switch.ports.set(&self.name, up)
    }

    /// Has the switch forward nothing from or to this host, whose carrier stays: a broken switch
    /// rather than a pulled cable. `false` heals it.
    ///
    /// # Errors
    /// `ip`'s text.
    pub fn isolate(&self, isolated: bool) -> io::Result<()> {
        // Without spanning tree the bridge opens a port again that was set to blocking; one that
        // is no port any more it leaves alone.
        let port = ["link", "set", "dev", &self.name];
        let change: &[&str] = if isolated { &["nomaster"] } else { &["master", "bridge"] };
        ip_in(&self.switch.space.name, &[&port[..], change].concat())
    }

    /// Has the switch lose multicast to this host, as one whose IGMP snooping has gone wrong.
    /// `false` heals it.
    ///
    /// # Errors
    /// `ip`'s text.
    pub fn deafen(&self, deaf: bool) -> io::Result<()> {
        let flood = if deaf { "off" } else { "on" };
        let port = ["link", "set", "dev", &self.name, "type", "bridge_slave"];
        ip_in(&self.switch.space.name, &[&port[..], &["mcast_flood", flood]].concat())
    }

    /// Whether this host's kernel owns `address` at this moment.
    ///
    /// # Errors
    /// The namespace could not be entered, or a socket could not be made at all.
    pub fn holds(&self, address: Ipv4Addr) -> io::Result<bool> {
        // Binding without IP_FREEBIND is the kernel's own answer, and cheaper than `ip address`.
        match self.within(|| UdpSocket::bind((address, 0)))? {
            Ok(_socket) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Adds or removes a /32 on the host's interface and, when adding, announces it.
    ///
    /// # Errors
    /// `ip`'s text.
    pub fn set_address(&self, address: Ipv4Addr, present: bool) -> io::Result<()> {
        let verb = if present { "add" } else { "del" };
        let prefix = format!("{address}/32");
        ip_in(&self.space.name, &["address", verb, &prefix, "dev", INTERFACE])
    }

    /// Sets a kernel parameter of this host, by its dotted name (`net.ipv4.ping_group_range`).
    ///
    /// # Errors
    /// The kernel knows no such parameter or refuses the value.
    pub fn sysctl(&self, name: &str, value: &str) -> io::Result<()> {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        self.within(|| fs::write(path, value))?
    }

    /// Every process on this host, also those its processes started.
    ///
    /// # Errors
    /// The process table could not be read.
    pub fn processes(&self) -> io::Result<Vec<Pid>> {
        self.space.processes()
    }

    /// Kills every process on this host without asking.
    ///
    /// # Errors
    /// The process table could not be read.
    pub fn kill_all(&self) -> io::Result<()> {
        self.space.kill_all()
    }

    /// Brings the host back as after a power cut: no process, no socket, no address but its own,
    /// the cable plugged in. The hardware address stays.
    ///
    /// # Errors
    /// The kernel's refusal; the host is then unusable.
    pub fn reboot(&self) -> io::Result<()> {
        self.kill_all()?;
        // The pair of interfaces goes first: the namespace itself dies asynchronously.
        ip_in(&self.switch.space.name, &["link", "del", "dev", &self.name])?;
        ip(&["netns", "del", &self.space.name])?;
        ip(&["netns", "add", &self.space.name])?;
        self.plug_in()
    }

    fn plug_in(&self) -> io::Result<()> {
        let [a, b, c, d] = self.address.octets();
        let hardware = format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
        let own = self.space.name.as_str();
        let switch = self.switch.space.name.as_str();
        let peer = ["type", "veth", "peer", "name", INTERFACE, "address", &hardware, "netns", own];
        ip_in(switch, &[&["link", "add", "name", &self.name], &peer[..]].concat())?;
        ip_in(switch, &["link", "set", "dev", &self.name, "master", "bridge", "up"])?;
        let prefix = format!("{}/24", self.address);
        ip_in(own, &["link", "set", "lo", "up"])?;
        ip_in(own, &["address", "add", &prefix, "dev", INTERFACE])?;
        ip_in(own, &["link", "set", INTERFACE, "up"])
    }
}

/// A future running on a [`Host`].
pub struct Entered<T> {
    stop: CancellationToken,
    result: Option<oneshot::Receiver<T>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl<T> Entered<T> {
    /// Waits for the future's own end; `None` if it panicked or was stopped.
    pub async fn result(mut self) -> Option<T> {
        self.result.take()?.await.ok()
    }
}

impl<T> Drop for Entered<T> {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic in there was already printed; it must not become a second one here.
            let _ = thread.join();
        }
    }
}

/// One named network namespace, removed on drop.
struct Space {
    name: String,
}

impl Space {
    fn new(name: String) -> io::Result<Self> {
        ip(&["netns", "add", &name])?;
        Ok(Self { name })
    }

    fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let file = fs::File::open(self.path())?;
        thread::scope(|scope| {
            // A thread cannot easily be trusted after it changed its namespace, so none is kept.
            let thread = scope.spawn(|| enter(&file).map(|()| work()));
            thread.join().map_err(|_panic| io::Error::other("work on the host panicked"))?
        })
    }

    fn processes(&self) -> io::Result<Vec<Pid>> {
        let own = fs::metadata(self.path())?;
        let me = std::process::id().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(number) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            // A process may end between the listing and the look: no longer of interest.
            let Ok(space) = fs::metadata(Path::new("/proc").join(&name).join("ns/net")) else {
                continue;
            };
            if space.ino() == own.ino() && space.dev() == own.dev() && name.to_str() != Some(&me) {
                found.extend(Pid::from_raw(number));
            }
        }
        Ok(found)
    }

    /// Twice, because a process may fork between the look and the signal.
    fn kill_all(&self) -> io::Result<()> {
        for _again in 0..2 {
            for process in self.processes()? {
                let _ = kill_process(process, Signal::KILL);
            }
        }
        Ok(())
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if let Err(error) = self.kill_all().and_then(|()| ip(&["netns", "del", &self.name])) {
            tracing::warn!(namespace = self.name, %error, "namespace could not be removed");
        }
    }
}

fn enter(namespace: &fs::File) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Removes namespaces of `prefix` whose maker no longer exists (it was killed hard).
fn sweep(prefix: &str) {
    for name in left_behind(Path::new(NAMES), prefix) {
        tracing::info!(namespace = name, "removing what an earlier run left behind");
        drop(Space { name });
    }
}

/// Entries of a directory called `<prefix>-<process id>-…` whose process no longer exists.
pub(super) fn left_behind(directory: &Path, prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let maker = |name: &str| {
        let rest = name.strip_prefix(prefix)?.strip_prefix('-')?;
        rest.split('-').next()?.parse::<u32>().ok()
    };
    let gone = |process: u32| !Path::new(&format!("/proc/{process}")).exists();
    names.filter(|name| maker(name).is_some_and(gone)).collect()
}

fn ip_in(namespace: &str, arguments: &[&str]) -> io::Result<()> {
    ip(&[&["-n", namespace], arguments].concat())
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {}: {}", arguments.join(" "), said.trim())))
}

/// Waits until `condition` holds, looking every 5 ms; `false` if `limit` passes first.
///
/// # Errors
/// The condition's own.
pub async fn wait_until<E>(
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool, E>,
) -> Result<bool, E> {
    let end = Instant::now() + limit;
    while !condition()? {
        if Instant::now() >= end {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
