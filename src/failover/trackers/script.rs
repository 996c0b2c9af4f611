//! Runs a tracker's program once: no shell, a process group of its own, nothing of this process's
//! environment, output ignored, killed when it takes too long or is no longer waited for.

use std::io;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::config::Script;

/// Where programs without a path are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a run was no success.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("it could not be started: {0}")]
    Start(io::Error),
    #[error("{0}")]
    Ended(ExitStatus),
    #[error("it took longer than {0} ms and was killed")]
    TooLong(u128),
    #[error("its end was not seen: {0}")]
    Lost(io::Error),
}

/// Runs it and waits for its end.
pub(super) async fn run(script: &Script) -> Result<(), Failure> {
    let mut running = Running::start(script).map_err(Failure::Start)?;
    match timeout(script.timeout, running.child.wait()).await {
        Ok(Ok(status)) => {
            running.group = None;
            if status.success() { Ok(()) } else { Err(Failure::Ended(status)) }
        }
        Ok(Err(error)) => Err(Failure::Lost(error)),
        Err(_elapsed) => {
            running.kill();
            // Reaped here, so that the next run starts after the end of this one.
            let _ = running.child.wait().await;
            Err(Failure::TooLong(script.timeout.as_millis()))
        }
    }
}

/// A program under way; dropping it kills its whole group.
struct Running {
    child: Child,
    /// Set while the group's leader is not reaped, so that the number belongs to nobody else.
    group: Option<Pid>,
}

impl Running {
    fn start(script: &Script) -> io::Result<Self> {
        let Some((program, arguments)) = script.command.split_first() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut command = Command::new(program);
        // The environment may hold the shared key.
        command.args(arguments).env_clear().env("PATH", PATH).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.process_group(0).kill_on_drop(true);
        if let Some(user) = script.user {
            command.uid(user.uid).gid(user.gid);
        }
        let child = command.spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, group })
    }

    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // Gone already is as good.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn script(words: &[&str], timeout: Duration) -> Script {
        Script {
            command: words.iter().map(ToString::to_string).collect(),
            interval: Duration::from_secs(1),
            timeout,
            rise: 1,
            fall: 1,
            init_fail: false,
            user: None,
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn exit_code_0_is_success_and_everything_else_is_told() {
        for (words, told) in [
            (&["/bin/true"][..], ""),
            (&["true"], ""),
            (&["sh", "-c", "exit 3"], "exit status: 3"),
            (&["sh", "-c", "kill -9 $$"], "signal: 9"),
            (&["/no/such/program"], "it could not be started: No such file"),
            (&["sh", "-c", "test -z \"$HOME$CARGO_MANIFEST_DIR\""], ""),
        ] {
            let outcome = run(&script(words, LONG)).await;
            let text = outcome.err().map_or(String::new(), |failure| failure.to_string());
            assert!(
                text.starts_with(told) && text.is_empty() == told.is_empty(),
                "{words:?}: {text}"
            );
        }
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_killed_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let line = format!("sleep 600 & echo $! > {}; wait", pid.display());
        // Long enough for the file to be written, however busy the machine.
        let script = script(&["sh", "-c", &line], Duration::from_secs(2));
        let failure = run(&script).await.unwrap_err();
        assert!(matches!(failure, Failure::TooLong(2000)), "{failure}");
        let pid = std::fs::read_to_string(pid).unwrap();
        let stat = std::path::PathBuf::from(format!("/proc/{}/stat", pid.trim()));
        // A zombie until whoever inherited it looks.
        let lives = || {
            let stat = std::fs::read_to_string(&stat).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        while lives() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
