//! `trigon status`: asks the running process over the admin socket.

use std::process::ExitCode;

use super::ask::Question;
use crate::admin::client;

pub(super) fn run(question: &Question) -> ExitCode {
    question.show(client::status(question.socket()))
}
