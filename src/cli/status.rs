//! `trigon status`: asks the running process over the admin socket.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{complain, say};
use crate::admin;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Admin socket of the node (`node.admin_socket`).
    #[arg(long, value_name = "PATH", default_value = "/run/trigon/admin.sock")]
    socket: PathBuf,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(admin::client::status(&options.socket)) {
        Ok(status) if options.json => match serde_json::to_string_pretty(&status) {
            Ok(text) => {
                say(&text);
                ExitCode::SUCCESS
            }
            Err(error) => {
                complain(&error);
                ExitCode::FAILURE
            }
        },
        Ok(status) => {
            say(&status.to_string());
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}
