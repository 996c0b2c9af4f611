//! `trigon vip-guard`: the guardian beside `trigon run`, which starts it with one end of a socket
//! pair as standard input.

use std::process::ExitCode;

use super::complain;
use crate::observe::log;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    /// Log as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    // Else it would be called after the link it was started by: `exe`.
    let _ = rustix::thread::set_name(c"trigon-guard");
    let format = if options.json { log::Format::Json } else { log::Format::Auto };
    // Without a log it guards all the same.
    let _log = log::start(&log::Config { format, ..log::Config::default() });
    match vrrp::guardian::keep_watch(std::io::stdin()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("vip-guard: {error}; it is started by `trigon run`, not by hand"));
            ExitCode::FAILURE
        }
    }
}
