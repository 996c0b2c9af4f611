//! Child processes and what they cost.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long a process may take until it serves.
const START: Duration = Duration::from_secs(30);

/// Unit of CPU time in `/proc`: USER_HZ, which is 100 on every architecture Trigon runs on.
const TICKS: f64 = 100.0;

/// A running program; killed when dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with its output in a file of `directory`.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let out = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("{name}: {}", command.get_program().display()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Waits until `ready` gives a value.
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        mut ready: impl FnMut() -> Option<T>,
    ) -> anyhow::Result<T> {
        let limit = Instant::now() + START;
        loop {
            if let Some(value) = ready() {
                return Ok(value);
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > limit {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("{}: not {what} ({ended:?}); its log:\n{log}", self.name);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it accepts connections.
    pub(crate) fn until_it_listens(&mut self, at: SocketAddr) -> anyhow::Result<()> {
        self.until("listening", || TcpStream::connect(at).ok().map(drop))
    }

    /// What it has cost so far.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let pid = self.child.id();
        let gone = || format!("{} ended by itself", self.name);
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(gone)?;
        // The name, field 2, may hold blanks; utime and stime are fields 14 and 15 (proc(5)).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
        let (Some(user), Some(system)) = (ticks(12), ticks(13)) else { bail!(gone()) };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(gone)?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
            .with_context(gone)?;
        let cpu = f64::from(user + system) / TICKS;
        Ok(Usage { cpu_seconds: cpu, resident_kib: resident })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time since the start and memory now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_kib: u32,
}

/// All of them together.
pub(crate) fn usage<'p>(processes: impl IntoIterator<Item = &'p Process>) -> anyhow::Result<Usage> {
    let mut sum = Usage::default();
    for process in processes {
        let one = process.usage()?;
        sum.cpu_seconds += one.cpu_seconds;
        sum.resident_kib += one.resident_kib;
    }
    Ok(sum)
}

/// A port of the loopback address nobody listens on now.
pub(crate) fn free_port() -> io::Result<SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}
