//! `trigon doctor`: which leg fails, and what to do.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::{Source, complain, say};
use crate::doctor::{self, Report, Verdict};

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    source: Source,
    /// An ExApp that is installed in Nextcloud. Without it one that is on record is asked for, if
    /// there is any.
    #[arg(long, value_name = "ID")]
    app: Option<String>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let mut report = Report::default();
    let tried = options.source.name();
    let started = Instant::now();
    let config = match options.source.read() {
        Ok((config, _)) => config,
        Err(problems) => {
            for problem in &problems.0 {
                let advice = "nothing else is tried before the configuration is right";
                let verdict = Verdict::fail(problem.to_string(), advice);
                report.add("configuration", tried.clone(), verdict, started.elapsed());
            }
            show(&report, options.json);
            return ExitCode::from(super::USAGE);
        }
    };
    report.add("configuration", tried, Verdict::ok("no problem found"), started.elapsed());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let what = doctor::Options { app: options.app.clone() };
    runtime.block_on(doctor::examine(&config, &what, &mut report));
    // Names may still be looked up in threads of their own.
    runtime.shutdown_timeout(Duration::ZERO);
    show(&report, options.json);
    if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(report: &Report, json: bool) {
    if json {
        say(&format!("{:#}", report.json()));
    } else {
        say(&report.to_string());
    }
}
