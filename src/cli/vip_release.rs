//! `trigon vip-release`: leaves no virtual address behind, however the process ended.

use std::process::ExitCode;

use super::{ConfigFile, complain, say};

pub(super) fn run(file: &ConfigFile) -> ExitCode {
    let config = match file.load() {
        Ok(config) => config,
        Err(code) => return code,
    };
    match crate::app::release_addresses(&config) {
        Ok(removed) => {
            say(&format!("removed {removed} virtual addresses"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
