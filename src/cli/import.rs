//! `trigon import`: a configuration file from what another program was started with.

mod harp;
mod keepalived;

use std::process::ExitCode;

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
