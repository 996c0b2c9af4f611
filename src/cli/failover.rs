//! `trigon failover`: virtual addresses move to another node on purpose.

use std::net::IpAddr;
use std::process::ExitCode;

use super::ask::{self, Question};
use super::say;
use crate::admin::client;
use crate::admin::failover::Order;

/// What moves where.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Name or number of the node that is to hold the addresses; without it the next in line.
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// Only the virtual router with this address.
    #[arg(long, value_name = "VIP")]
    address: Option<IpAddr>,
    /// Also to a node that is not ready. It gets 3 s to take the address, then it comes back.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    question: Question,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let Options { to, address, force, question } = options;
    let order = Order { to: to.clone(), address: *address, force: *force };
    let moved = match ask::order(client::failover(question.socket(), &order)) {
        Ok(moved) => moved,
        Err(code) => return code,
    };
    if question.is_json() {
        return ask::print_json(&moved).map_or_else(|code| code, |()| ExitCode::SUCCESS);
    }
    say(&moved.to_string());
    ExitCode::SUCCESS
}
