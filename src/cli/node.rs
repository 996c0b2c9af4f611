//! `trigon node` and `trigon leave`: who belongs to the cluster.

use std::process::ExitCode;

use clap::Subcommand;

use super::ask::{self, Question, Socket};
use super::{complain, say};
use crate::admin::client;
use crate::admin::nodes::Removal;

/// Exit code of `node remove` when there was no such member.
const UNKNOWN: u8 = 3;

/// What the disk of a load balancer means once its node is removed.
const KEY: &str = "\
its disk still holds the key of the cluster's secrets, its certificate and shared.key. Wipe it. If it \
may be in strange hands, change what it knew, at once and in this order:
  trigon certs rotate-ca --authority cluster     the authority of the control link
  trigon certs rotate-ca                         the authority of the tunnel port
  exapps.shared_key_file on every node and in Nextcloud
  after the ExApps were installed again: trigon certs rotate-ca --drop-old
The key itself stays the same: do not let backups get where that disk is";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the members: what each is for, where it is reached and what it does now.
    List {
        #[command(flatten)]
        question: Question,
    },
    /// Remove a member for good, such as one whose machine is lost. What is left of it is refused
    /// from then on; to come back it has to join as a new member.
    Remove {
        /// Its number, as `trigon node list` shows it.
        id: u64,
        #[command(flatten)]
        socket: Socket,
    },
}

pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::List { question } => question.show(client::nodes(question.socket())),
        Command::Remove { id, socket } => remove(*id, socket),
    }
}

fn remove(id: u64, socket: &Socket) -> ExitCode {
    match ask::wait(client::remove_node(&socket.path, Removal { id })) {
        Ok(removed) if removed.found => {
            say(&format!("node {id}: removed; nothing that comes from it is accepted any more"));
            if removed.had_key {
                say(KEY);
            }
            ExitCode::SUCCESS
        }
        Ok(_) => {
            complain(&format!("node {id}: no such member; `trigon node list` names them"));
            ExitCode::from(UNKNOWN)
        }
        Err(code) => code,
    }
}

/// This node leaves the cluster.
pub(super) fn leave(socket: &Socket) -> ExitCode {
    match ask::wait(client::leave(&socket.path)) {
        Ok(()) => {
            say(
                "this node has left the cluster and stops; to come back, move its state directory \
                 away and join as a new member",
            );
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}
