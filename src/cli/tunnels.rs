//! `trigon tunnels`: the tunnels the running node knows.

use std::process::ExitCode;

use clap::Subcommand;

use super::ask::Question;
use crate::admin::client;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List every tunnel registered in the cluster.
    List(Question),
}

pub(super) fn run(command: &Command) -> ExitCode {
    let Command::List(question) = command;
    question.show(client::tunnels(question.socket()))
}
