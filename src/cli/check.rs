//! `trigon check`: the same code as start-up, without starting.

use std::process::ExitCode;

use super::{ConfigFile, say};

pub(super) fn run(file: &ConfigFile) -> ExitCode {
    match file.load() {
        Ok(_) => {
            say(&format!("{}: no problem found", file.config.display()));
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}
