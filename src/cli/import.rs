//! `trigon import`: a configuration file from what another program was started with.

mod harp;
mod keepalived;

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, clap::Subcommand)]
enum From {
    /// From the environment variables of a HaRP container.
    Harp(harp::Harp),
    /// The virtual routers of a keepalived.conf.
    Keepalived(keepalived::Keepalived),
}

pub(super) fn run(options: &Options) -> ExitCode {
    match &options.from {
        From::Harp(harp) => harp::run(harp),
        From::Keepalived(keepalived) => keepalived::run(keepalived),
    }
}

/// Writes a file that must not be there yet.
fn write_new(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| path.display().to_string())?;
    file.write_all(text.as_bytes()).with_context(|| path.display().to_string())
}
