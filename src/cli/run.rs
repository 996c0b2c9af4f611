//! `trigon run`: a node or a witness in the foreground.

use std::process::ExitCode;

use super::{ConfigFile, complain};
use crate::{app, observe};

pub(super) fn run(file: &ConfigFile) -> ExitCode {
    let config = match file.load() {
        Ok(config) => config,
        Err(code) => return code,
    };
    if let Err(error) = observe::log::start(&config.log) {
        complain(&error);
        return ExitCode::from(super::USAGE);
    }
    match app::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "trigon stops");
            ExitCode::FAILURE
        }
    }
}
