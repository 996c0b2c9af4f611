//! The ExApp's tunnel client: a stock frpc, or the built-in client when none is given.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::Error;
use super::configs::Files;
use super::namespaces::Host;
use super::node::{start_logged, tail};

/// Which client, checked before anything is built.
pub(super) struct Choice {
    frpc: PathBuf,
    version: String,
}

impl Choice {
    /// Asks the binary for its version.
    pub(super) fn new(frpc: Option<&Path>) -> Result<Self, Error> {
        let Some(frpc) = frpc else {
            return Err(Error::NotBuilt {
                option: "the built-in tunnel client".into(),
                instead: "name a stock frpc with --frpc PATH",
            });
        };
        let unusable = |reason: String| Error::Frpc { path: frpc.to_owned(), reason };
        let output = Command::new(frpc)
            .arg("--version")
            .output()
            .map_err(|reason| unusable(reason.to_string()))?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || version.is_empty() {
            return Err(unusable(format!("`--version` ended with {}", output.status)));
        }
        // Namespaces share the file system, but a relative path depends on where we stand.
        let frpc = frpc.canonicalize().map_err(|reason| unusable(reason.to_string()))?;
        Ok(Self { frpc, version })
    }

    /// For the report.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Starts the client on the ExApp's host.
    pub(super) fn start(&self, host: &Host, files: &Files) -> Result<TunnelClient, Error> {
        let mut command = host.command(&self.frpc);
        command.arg("-c").arg(files.write_frpc()?);
        let log = files.directory("app").join("frpc.log");
        let process = start_logged(command, &log).map_err(|reason| Error::Process {
            program: "frpc".into(),
            what: "started",
            reason,
        })?;
        Ok(TunnelClient { process, log })
    }
}

/// A running tunnel client; ended on drop.
pub(super) struct TunnelClient {
    process: Child,
    log: PathBuf,
}

impl TunnelClient {
    /// Fails if it has ended by itself.
    pub(super) fn check_alive(&mut self) -> Result<(), Error> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Error::Died {
                who: "frpc".into(),
                how: status.to_string(),
                logs: self.log_tail(),
            }),
            Err(reason) => Err(Error::Process { program: "frpc".into(), what: "watched", reason }),
        }
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self) -> String {
        tail("frpc", &self.log)
    }
}

impl Drop for TunnelClient {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
