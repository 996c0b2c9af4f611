//! `trigon events`: the timeline, once or as it grows.

use std::process::ExitCode;
use std::time::Duration;

use super::ask::{Question, wait};
use super::{complain, say};
use crate::admin::client;
use crate::admin::events::Events;

/// Between two looks of `--follow`.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Which events, and how to show them.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    question: Question,
    /// Only those after the event with this number (`seq` in the JSON).
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
    /// Go on and show each event as it comes, until interrupted; with --json one a line.
    #[arg(long)]
    follow: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let Options { question, after, follow } = options;
    if !follow {
        return question.show(client::events(question.socket(), *after));
    }
    let mut after = *after;
    match wait(async {
        loop {
            let events = client::events(question.socket(), after).await?;
            after = events.0.last().map_or(after, |newest| newest.seq);
            if let Err(error) = print(&events, question.is_json()) {
                return Ok(error);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }) {
        Ok(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
        Err(code) => code,
    }
}

fn print(events: &Events, json: bool) -> Result<(), serde_json::Error> {
    for event in &events.0 {
        if json {
            say(&serde_json::to_string(event)?);
        } else {
            let outage =
                event.outage_ms.map(|outage| format!("  (nobody answered for {outage} ms)"));
            let outage = outage.unwrap_or_default();
            say(&format!("{}  node {}  {}{outage}", event.moment(), event.node, event.text));
        }
    }
    Ok(())
}
