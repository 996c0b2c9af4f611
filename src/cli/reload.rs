//! `trigon reload`: the configuration again, without a restart.

use std::process::ExitCode;

use super::ask::{self, Question};
use super::say;
use crate::admin::client;

pub(super) fn run(question: &Question) -> ExitCode {
    let reloaded = match ask::order(client::reload(question.socket())) {
        Ok(reloaded) => reloaded,
        Err(code) => return code,
    };
    if question.is_json() {
        return ask::print_json(&reloaded).map_or_else(|code| code, |()| ExitCode::SUCCESS);
    }
    say(&reloaded.to_string());
    ExitCode::SUCCESS
}
