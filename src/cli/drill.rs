//! `trigon drill`: a planned failover there and back, with a probe running.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::ask::{self, Question, UNSAFE};
use super::{complain, complain_of, say};
use crate::config::value;
use crate::drill::{self, Target};

/// What to drill.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The virtual address; without it the first one of this node.
    #[arg(long, value_name = "VIP")]
    address: Option<IpAddr>,
    /// What to ask all the while: an http:// URL, best of an ExApp behind the address, or
    /// tcp://IP:PORT. Without it a connection to port 8780 of the address.
    #[arg(long, value_name = "URL")]
    probe: Option<Target>,
    /// Ask so often.
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = every)]
    every: Duration,
    /// The longest time without an answer that passes.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = bound)]
    within: Duration,
    /// How often there and back.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,
    /// Also write a report for people into this file (Markdown).
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    question: Question,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let drill = drill::Options {
        socket: options.question.socket().to_owned(),
        address: options.address,
        probe: options.probe.clone(),
        count: options.count,
        every: options.every,
        bound: options.within,
    };
    let outcome = ask::order(async {
        match drill::run(&drill, interrupted()).await {
            Ok(report) => Ok(Ok(report)),
            Err(drill::Error::Node(error)) => Err(error),
            Err(error @ drill::Error::Unsafe(_)) => Ok(Err(error)),
        }
    });
    let report = match outcome {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => {
            complain(&error);
            return ExitCode::from(UNSAFE);
        }
        Err(code) => return code,
    };
    if options.question.is_json() {
        if let Err(code) = ask::print_json(&report) {
            return code;
        }
    } else {
        say(&report.to_string());
    }
    if let Some(path) = &options.report
        && let Err(error) = std::fs::write(path, report.to_markdown())
    {
        complain_of(anyhow::Error::new(error).context(path.display().to_string()));
        return ExitCode::FAILURE;
    }
    if let Some(error) = &report.error {
        complain(error);
    }
    if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// An interrupted drill still brings the address back.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

fn every(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_millis(5)..=Duration::from_secs(1);
    let every = value::duration(text).filter(|every| bounds.contains(every));
    every.ok_or_else(|| "expected a time from 5ms to 1s".to_owned())
}

fn bound(text: &str) -> Result<Duration, String> {
    let bound = value::duration(text).filter(|bound| !bound.is_zero());
    bound.ok_or_else(|| "expected a time with its unit, such as 500ms or 2s".to_owned())
}
