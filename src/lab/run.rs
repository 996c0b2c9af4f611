//! `trigon lab` from its first check to the last namespace removed.

use std::process::Command;

use rustix::process::geteuid;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::console::Console;
use super::report::Versions;
use super::topology::Lab;
use super::tunnel::Choice;
use super::{Error, Options, Outcome, rounds, soak};

/// Whether the experiment went as it should; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Service came back in every round, or no address moved.
    Well,
    /// It did not, or one did.
    Bad,
}

/// Runs the experiment and prints its report. Everything it made is gone when it returns, also
/// after an error, Ctrl-C or a panic. Must not be called from within a tokio runtime.
///
/// # Errors
/// [`Error`]; a service that did not come back is not one.
pub fn run(options: &Options) -> Result<Verdict, Error> {
    options.check()?;
    let tunnel = Choice::new(options.frpc.as_deref())?;
    if !geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return Err(Error::NoIproute);
    }
    // Everything timed runs on threads of its own; this one only conducts.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::network("the runtime could not be started"))?;
    let console = Console::new(options.json);
    runtime.block_on(async {
        let mut interrupts = Interrupts::new()?;
        let mut lab = None;
        let verdict = tokio::select! {
            verdict = experiment(&mut lab, options, &tunnel, &console) => verdict?,
            name = interrupts.next() => {
                console.progress(&format!("{name}: cleaning up"));
                return Err(Error::Interrupted(name));
            }
        };
        if let Some(lab) = lab.filter(|_built| options.keep) {
            console.progress(&format!("everything keeps running until Ctrl-C\n{}", lab.guide()));
            interrupts.next().await;
            console.progress("cleaning up");
        }
        Ok(verdict)
    })
}

async fn experiment(
    lab: &mut Option<Lab>,
    options: &Options,
    tunnel: &Choice,
    console: &Console,
) -> Result<Verdict, Error> {
    let built = lab.insert(Lab::build(options, tunnel, console).await?);
    if let Some(seconds) = options.soak {
        let soak = soak::run(built, options, seconds, console).await?;
        let json = || serde_json::json!({ "soak": soak }).to_string();
        console.result(&if options.json { json() } else { soak.line() });
        return Ok(if soak.transitions == 0 { Verdict::Well } else { Verdict::Bad });
    }
    let rounds = rounds::run(built, options, console).await?;
    let versions =
        Versions { trigon: env!("CARGO_PKG_VERSION").into(), frpc: tunnel.version().to_owned() };
    let outcome = Outcome::new(rounds, versions);
    if options.json {
        // Numbers and strings always have a JSON form.
        console.result(&serde_json::to_string(&outcome).unwrap_or_default());
    } else {
        console.result(&outcome.table());
    }
    Ok(if outcome.service_came_back() { Verdict::Well } else { Verdict::Bad })
}

/// The signals that end the lab.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Interrupts {
    fn new() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::network("signals cannot be received"));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }
}
