//! `trigon status`: asks the running process over the admin socket.

use std::process::ExitCode;

use super::ask::{self, Question};
use super::say;
use crate::admin::check::{Check, Severity};
use crate::admin::client::{self, Error};

/// How to show it.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// One line for monitoring, and its exit codes.
    #[arg(long, conflicts_with = "json")]
    check: bool,
    #[command(flatten)]
    question: Question,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let question = &options.question;
    if !options.check {
        return question.show(client::status(question.socket()));
    }
    let check = match ask::block_on(client::status(question.socket())) {
        Ok(Ok(status)) => Check::of(&status),
        // Whoever watches a machine wants to know that the service is down.
        Ok(Err(error @ Error::Unreachable { .. })) => Check::without(Severity::Critical, &error),
        Ok(Err(error)) => Check::without(Severity::Unknown, &error),
        Err(_) => Check::without(Severity::Unknown, &"no runtime"),
    };
    say(&check.to_string());
    ExitCode::from(check.severity.code())
}
