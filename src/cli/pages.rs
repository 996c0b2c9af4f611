//! What a package brings along: shell completions and man pages, made from the command line
//! itself so that they cannot lag behind it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use clap_complete::Shell;

/// For which shell.
#[derive(Debug, Parser)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

/// Where to.
#[derive(Debug, Parser)]
pub(super) struct Man {
    /// Directory the pages are written to; it is made if it is missing.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Prints the script for that shell.
pub(super) fn completions(options: &Completions) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut super::Cli::command(), "trigon", &mut script);
    // A closed pipe is no failure of ours.
    let _ = std::io::stdout().write_all(&script);
    ExitCode::SUCCESS
}

/// Writes one page for each command.
pub(super) fn man(options: &Man) -> ExitCode {
    match write_pages(&options.dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::complain_of(error);
            ExitCode::FAILURE
        }
    }
}

fn write_pages(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
    clap_mangen::generate_to(super::Cli::command(), dir)
        .with_context(|| format!("{}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_visible_command_has_a_page_and_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        write_pages(dir.path()).unwrap();
        let mut script = Vec::new();
        clap_complete::generate(
            Shell::Bash,
            &mut super::super::Cli::command(),
            "trigon",
            &mut script,
        );
        let script = String::from_utf8(script).unwrap();
        for command in super::super::Cli::command().get_subcommands() {
            if command.is_hide_set() {
                continue;
            }
            let name = command.get_name();
            let page = dir.path().join(format!("trigon-{name}.1"));
            let page = std::fs::read_to_string(&page).unwrap();
            assert!(page.contains(".SH SYNOPSIS"), "{name}");
            assert!(script.contains(name), "{name}");
        }
        assert!(dir.path().join("trigon.1").exists());
    }
}
