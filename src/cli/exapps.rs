//! `trigon exapps`: what the running node knows about ExApps.

use std::process::ExitCode;

use clap::Subcommand;

use super::ask::Question;
use crate::admin::client;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the ExApp records in force on this node.
    List(Question),
}

pub(super) fn run(command: &Command) -> ExitCode {
    let Command::List(question) = command;
    question.show(client::exapps(question.socket()))
}
