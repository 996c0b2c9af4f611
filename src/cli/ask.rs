//! How the commands for a running node ask it, show the answer, and fail.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::{complain, say};
use crate::admin::client::Error;

/// Exit code when the cluster could not confirm a change.
pub(super) const UNCONFIRMED: u8 = 4;

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
        match serde_json::to_string_pretty(&answer) {
            Ok(text) => {
                say(&text);
                ExitCode::SUCCESS
            }
            Err(error) => {
                complain(&error);
                ExitCode::FAILURE
            }
        }
    }
}

/// Waits for the answer; what went wrong is printed.
pub(super) fn wait<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        complain(&error);
        ExitCode::FAILURE
    })?;
    runtime.block_on(answer).map_err(|error| {
        complain(&error);
        match error {
            Error::Unconfirmed(_) => ExitCode::from(UNCONFIRMED),
            _ => ExitCode::FAILURE,
        }
    })
}
