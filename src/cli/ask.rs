//! How the commands for a running node ask it, show the answer, and fail.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::{complain, say};
use crate::admin::client::Error;

/// Exit code when the cluster could not confirm a change.
pub(super) const UNCONFIRMED: u8 = 4;

/// Exit codes of orders to a running node: nobody answers at the socket (LSB status), it would do
/// harm now, the conversation broke (`EX_UNAVAILABLE`), not done in time (`EX_TEMPFAIL`).
pub(super) const NOT_RUNNING: u8 = 3;
pub(super) const UNSAFE: u8 = 4;
pub(super) const UNREACHABLE: u8 = 69;
pub(super) const TRY_AGAIN: u8 = 75;

/// Which node.
#[derive(Debug, clap::Args)]
pub(super) struct Socket {
    /// Admin socket of the node (`node.admin_socket`).
    #[arg(long = "socket", value_name = "PATH", default_value = "/run/trigon/admin.sock")]
    pub(super) path: PathBuf,
}

/// Which node, and how to show what it says.
#[derive(Debug, clap::Args)]
pub(super) struct Question {
    #[command(flatten)]
    socket: Socket,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

impl Question {
    pub(super) fn socket(&self) -> &Path {
        &self.socket.path
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Waits for the answer and prints it.
    pub(super) fn show<T: Display + Serialize>(
        &self,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> ExitCode {
        if self.json {
            return self.show_json(answer);
        }
        match wait(answer) {
            Ok(answer) => {
                say(&answer.to_string());
                ExitCode::SUCCESS
            }
            Err(code) => code,
        }
    }

    /// The same for an answer that has no form for people.
    pub(super) fn show_json<T: Serialize>(
        &self,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> ExitCode {
        let answer = match wait(answer) {
            Ok(answer) => answer,
            Err(code) => return code,
        };
        print_json(&answer).map_or_else(|code| code, |()| ExitCode::SUCCESS)
    }
}

/// Prints a value as JSON, or why it cannot be.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), ExitCode> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            say(&text);
            Ok(())
        }
        Err(error) => {
            complain(&error);
            Err(ExitCode::FAILURE)
        }
    }
}

/// Waits for the outcome of an order; what went wrong is printed.
pub(super) fn order<T>(outcome: impl Future<Output = Result<T, Error>>) -> Result<T, ExitCode> {
    let outcome = block_on(outcome)?;
    outcome.map_err(|error| {
        complain(&error);
        match error {
            Error::Unreachable { .. } => ExitCode::from(NOT_RUNNING),
            Error::Unsafe(_) => ExitCode::from(UNSAFE),
            Error::Configuration(_) => ExitCode::from(super::USAGE),
            Error::Silent | Error::Broken(_) => ExitCode::from(UNREACHABLE),
            Error::Refused(_) | Error::Unconfirmed(_) => ExitCode::FAILURE,
        }
    })
}

/// Runs it here and waits.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        complain(&error);
        ExitCode::FAILURE
    })?;
    Ok(runtime.block_on(future))
}

/// Waits for the answer; what went wrong is printed.
pub(super) fn wait<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, ExitCode> {
    block_on(answer)?.map_err(|error| {
        complain(&error);
        match error {
            Error::Unconfirmed(_) => ExitCode::from(UNCONFIRMED),
            _ => ExitCode::FAILURE,
        }
    })
}
