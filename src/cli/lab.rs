//! `trigon lab`: the main job on one machine.

use std::process::ExitCode;

use super::complain;
use crate::lab;

pub(super) fn run(options: &lab::Options) -> ExitCode {
    match lab::run(options) {
        Ok(outcome) if outcome.service_came_back() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
