//! `trigon run`: a node or a witness in the foreground.

use std::process::ExitCode;

use super::{Source, complain};
use crate::{app, observe};

pub(super) fn run(source: &Source) -> ExitCode {
    let (config, notes) = match source.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let log = match observe::log::start(&config.log) {
        Ok(log) => log,
        Err(error) => {
            complain(&error);
            return ExitCode::from(super::USAGE);
        }
    };
    if let Some(access) = config.log.access.clone()
        && let Err(error) = observe::access::start(access)
    {
        complain(&error);
        return ExitCode::FAILURE;
    }
    for note in notes {
        let (variable, what) = (&note.variable, &note.text);
        if note.warn {
            tracing::warn!(variable, what, "environment variable");
        } else {
            tracing::info!(variable, what, "environment variable");
        }
    }
    let source = source.clone();
    let reload = app::Reload::new(move || source.read().map(|(config, _notes)| config), log);
    match app::run(config, reload) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "trigon stops");
            ExitCode::FAILURE
        }
    }
}
