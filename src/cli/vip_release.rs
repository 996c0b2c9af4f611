//! `trigon vip-release`: leaves no virtual address behind, however the process ended and whatever
//! else is wrong with its configuration.

use std::process::ExitCode;

use super::{ConfigFile, complain, say};
use crate::{app, config};

pub(super) fn run(file: &ConfigFile) -> ExitCode {
    let routers = match file.read(config::load_routers) {
        Ok(routers) => routers,
        Err(code) => return code,
    };
    match app::release_addresses(&routers) {
        Ok(removed) => {
            say(&format!("virtual addresses removed: {removed}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
