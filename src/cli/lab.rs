//! `trigon lab`: the main job on one machine.

use std::process::ExitCode;

use super::complain;
use crate::lab;

pub(super) fn run(options: &lab::Options) -> ExitCode {
    match lab::run(options) {
        Ok(lab::Verdict::Well) => ExitCode::SUCCESS,
        Ok(lab::Verdict::Bad) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
