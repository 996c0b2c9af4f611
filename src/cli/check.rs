//! `trigon check`: the same code as start-up, without starting.

use std::process::ExitCode;

use super::{Source, say};

pub(super) fn run(source: &Source) -> ExitCode {
    match source.load() {
        Ok((config, notes)) => {
            for hint in &config.hints {
                say(&format!("note: {hint}"));
            }
            for note in notes {
                say(&format!("{}: {note}", source.name()));
            }
            say(&format!("{}: no problem found", source.name()));
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}
