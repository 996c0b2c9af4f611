//! `trigon bans`: who is kept out of the cluster.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use cluster::record::Subnet;

use super::ask::{self, Question, Socket};
use super::{complain, say};
use crate::admin::bans::{NewBan, Removal};
use crate::admin::client;
use crate::config::value;

/// Exit code of `bans remove` when there was nothing to remove.
const UNKNOWN: u8 = 3;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List who is kept out, why, and until when.
    List {
        /// Also those who have failed, but not often enough.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        question: Question,
    },
    /// Keep an address or a network out, on every node.
    Add {
        /// Such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/48; an IPv6 address stands for its /64.
        address: Subnet,
        /// For how long, such as 30m, 1h or 7d; without it until it is removed.
        #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
        length: Option<Duration>,
        /// Words for whoever reads the list later.
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        #[command(flatten)]
        socket: Socket,
    },
    /// Let an address or a network in again and forget its failures, on every node.
    Remove {
        /// Everything within it, whatever brought the ban.
        address: Subnet,
        #[command(flatten)]
        socket: Socket,
    },
}

pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::List { all, question } => question.show(client::bans(question.socket(), *all)),
        Command::Add { address, length, reason, socket } => {
            let for_seconds = length.map(|length| length.as_secs().max(1));
            let (address, reason) = (address.to_string(), reason.clone());
            let new = NewBan { address, for_seconds, reason };
            match ask::wait(client::ban(&socket.path, &new)) {
                Ok(()) => {
                    say(&format!("{}: kept out on every node", new.address));
                    ExitCode::SUCCESS
                }
                Err(code) => code,
            }
        }
        Command::Remove { address, socket } => remove(*address, socket),
    }
}

fn remove(address: Subnet, socket: &Socket) -> ExitCode {
    let removal = Removal { address: address.to_string() };
    let removed = match ask::wait(client::pardon(&socket.path, &removal)) {
        Ok(removed) => removed,
        Err(code) => return code,
    };
    if let Some(wider) = removed.still_banned_by {
        complain(&format!("{address}: still kept out by the ban of {wider}; remove that one"));
        return ExitCode::FAILURE;
    }
    if !removed.found {
        complain(&format!("{address}: no ban and no failure is known"));
        return ExitCode::from(UNKNOWN);
    }
    say(&format!("{address}: let in again on every node, its failures are forgotten"));
    ExitCode::SUCCESS
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let length = value::duration(text).filter(|length| !length.is_zero());
    length.ok_or_else(|| "expected a time with its unit, such as 30m, 1h or 7d".to_owned())
}
