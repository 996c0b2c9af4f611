//! The guardian process: starts it, tells the VRRP thread how to reach it, notices when it is gone
//! and starts another. What it does is written in `vrrp::guardian`.
//!
//! It is this very binary, started anew rather than forked: a fork would keep a copy of all memory
//! there is at that moment, and could not be repeated once threads run. The binary is
//! `/proc/self/exe`, the file this process runs, also after an upgrade has replaced it. The
//! environment stays behind, as HaRP's variables contain a key.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

use vrrp::guardian::{Lifeline, Observer};

use crate::admin::status;
use crate::observe::log::{Config, Format};

/// The environment variable that goes along.
const LOG: &str = "TRIGON_LOG";

/// Whether standard error goes to the journal.
const JOURNAL: &str = "JOURNAL_STREAM";

/// Wait before another guardian is started; doubled up to [`LONGEST_WAIT`] while they do not live
/// longer than that.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A guardian that nobody has told anything yet.
pub(super) struct Guardian {
    format: Format,
    first: io::Result<Started>,
}

/// What is known about the guardian, for `trigon status`.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    facts: Arc<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    /// 0: there is none.
    pid: AtomicU32,
    restarts: AtomicU64,
}

struct Started {
    child: Child,
    lifeline: Lifeline,
    observer: Observer,
    at: Instant,
}

impl Guardian {
    /// Starts the process. To be called early: from then on the death of this one is noticed.
    pub(super) fn start(log: &Config) -> Self {
        Self { format: log.format, first: launch(log.format) }
    }

    /// Hands the guardian, and each that replaces it, to `give`. The calling thread decides what
    /// the later ones may do: it must have the capabilities of the VRRP thread.
    ///
    /// # Errors
    /// No more threads.
    pub(super) fn attach(self, give: impl Fn(Lifeline) + Send + 'static) -> io::Result<View> {
        let view = View::default();
        let facts = Arc::clone(&view.facts);
        let keeper = move || keep(self.first, self.format, &facts, give);
        thread::Builder::new().name("guardian-keeper".to_owned()).spawn(keeper)?;
        Ok(view)
    }
}

impl View {
    /// One look.
    pub(super) fn status(&self) -> status::Guardian {
        let pid = Some(self.facts.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0);
        status::Guardian { pid, restarts: self.facts.restarts.load(Ordering::Relaxed) }
    }
}

/// Runs for the rest of the process.
fn keep(first: io::Result<Started>, format: Format, facts: &Facts, give: impl Fn(Lifeline)) -> ! {
    let (mut next, mut wait) = (first, FIRST_WAIT);
    loop {
        match next {
            Ok(Started { child, lifeline, observer, at }) => {
                give(lifeline);
                attend(child, &observer, facts);
                if at.elapsed() > LONGEST_WAIT {
                    wait = FIRST_WAIT;
                }
            }
            Err(error) => tracing::warn!(
                %error,
                "no guardian: if this process is killed, its addresses stay until their lease ends"
            ),
        }
        thread::sleep(wait);
        wait = (wait * 2).min(LONGEST_WAIT);
        facts.restarts.fetch_add(1, Ordering::Relaxed);
        next = launch(format);
    }
}

/// Returns when the guardian is gone.
fn attend(mut child: Child, observer: &Observer, facts: &Facts) {
    let pid = child.id();
    match observer.wait_ready() {
        Ok(true) => {
            facts.pid.store(pid, Ordering::Relaxed);
            tracing::debug!(pid, "the guardian watches");
            let _ = observer.wait_end();
            facts.pid.store(0, Ordering::Relaxed);
        }
        // A socket that cannot be read is of no use to the guardian either.
        Ok(false) | Err(_) => {
            let _ = child.kill();
        }
    }
    match child.wait() {
        Ok(how) => tracing::warn!(pid, %how, "the guardian is gone; another is started"),
        Err(error) => tracing::warn!(pid, %error, "the guardian is gone; another is started"),
    }
}

fn launch(format: Format) -> io::Result<Started> {
    let (lifeline, observer, its_end) = vrrp::guardian::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("trigon").arg("vip-guard").env_clear().current_dir("/");
    for inherited in [LOG, JOURNAL] {
        if let Some(value) = std::env::var_os(inherited) {
            command.env(inherited, value);
        }
    }
    if format == Format::Json {
        command.arg("--json");
    }
    let child = command.stdin(its_end).stdout(Stdio::null()).spawn()?;
    Ok(Started { child, lifeline, observer, at: Instant::now() })
}
