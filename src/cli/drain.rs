//! `trigon drain` and `trigon undrain`: before and after work on this machine.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::ask::{self, Question, Socket, TRY_AGAIN};
use super::{complain, say};
use crate::admin::client::{self, Error};
use crate::admin::drain::{Drain, MAX_WITHIN_SECONDS, Order};
use crate::config::value;

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(100);

/// How much longer than its requests a drain may take: the addresses move, leadership goes.
const BESIDES: Duration = Duration::from_secs(15);

/// How to drain.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// How long requests in flight get to end, such as 30s or 2m; at most 1h.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = wait)]
    wait: Duration,
    /// Drain although no other node is ready to take over: the service may be down until this
    /// node is back.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    question: Question,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let order = Order { within_seconds: Some(options.wait.as_secs()), force: options.force };
    let drained = match ask::order(follow(options.question.socket(), order, options.wait)) {
        Ok(drained) => drained,
        Err(code) => return code,
    };
    if options.question.is_json() {
        if let Err(code) = ask::print_json(&drained) {
            return code;
        }
    } else {
        say(&drained.to_string());
    }
    if !drained.is_done() {
        complain(&"not drained in time; it goes on: `trigon status` shows how far it is");
        return ExitCode::from(TRY_AGAIN);
    }
    if drained.cut > 0 {
        complain(&format!("drained, but {} requests had not ended in time", drained.cut));
        return ExitCode::from(TRY_AGAIN);
    }
    ExitCode::SUCCESS
}

/// Orders it and waits until it is done.
async fn follow(socket: &Path, order: Order, wait: Duration) -> Result<Drain, Error> {
    let deadline = Instant::now() + wait + BESIDES;
    let mut drain = client::drain(socket, order).await?;
    while !drain.is_done() && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
        drain = client::draining(socket).await?.ok_or_else(|| {
            Error::Refused("the drain was undone by somebody else meanwhile".to_owned())
        })?;
    }
    Ok(drain)
}

pub(super) fn undo(socket: &Socket) -> ExitCode {
    match ask::order(client::undrain(&socket.path)) {
        Ok(undrained) => {
            let text = match undrained.was_draining {
                true => "back in service",
                false => "it was in service; nothing to do",
            };
            say(text);
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn wait(text: &str) -> Result<Duration, String> {
    let most = Duration::from_secs(MAX_WITHIN_SECONDS);
    let wait = value::duration(text).filter(|wait| *wait <= most);
    wait.ok_or_else(|| "expected a time with its unit of at most 1h, such as 30s or 2m".to_owned())
}
