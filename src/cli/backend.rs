//! `trigon backend`: the servers behind the node on this machine.

use std::process::ExitCode;

use clap::Subcommand;

use super::ask::{self, Question};
use super::say;
use crate::admin::backends::Order;
use crate::admin::client;
use crate::balance::Admin;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List all backends, how they are and what they have to do.
    List(Question),
    /// Tell a backend what is wanted of it; the other nodes are not told.
    ///
    /// It holds until this node starts anew. Exit code 0: done, 1: no such backend, 3: no node
    /// runs here.
    Set {
        /// Name of the backend, as listed; its pool may be left out.
        name: String,
        /// `ready`: works as its health allows. `drain`: ends what it has and gets nothing new.
        /// `maint`: the same, and nobody checks it.
        #[arg(value_name = "ready|drain|maint")]
        admin: Admin,
        #[command(flatten)]
        question: Question,
    },
}

pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::List(question) => question.show(client::backends(question.socket())),
        Command::Set { name, admin, question } => {
            let order = Order { name: name.clone(), admin: *admin };
            let member = match ask::order(client::tell_backend(question.socket(), &order)) {
                Ok(member) => member,
                Err(code) => return code,
            };
            if question.is_json() {
                return ask::print_json(&member).map_or_else(|code| code, |()| ExitCode::SUCCESS);
            }
            let in_flight = member.in_flight;
            say(&format!("{} is {admin} here, with {in_flight} in flight", member.full_name()));
            ExitCode::SUCCESS
        }
    }
}
