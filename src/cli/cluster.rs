//! `trigon cluster`: how the cluster stands, and what a pair of load balancers is told to do.

use std::process::ExitCode;

use clap::Subcommand;

use super::ask::{self, Question, Socket};
use super::say;
use crate::admin::client;
use crate::admin::cluster::Promotion;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show how the cluster stands: its generation, who votes, whether a pair has everything on
    /// both nodes, and what stands against a promotion of this node.
    Status {
        #[command(flatten)]
        question: Question,
    },
    /// Make the other node of a pair the voter, as before maintenance of this one. Nothing is
    /// interrupted.
    Handover {
        #[command(flatten)]
        socket: Socket,
    },
    /// Make this node of a pair go on alone although not every rule for that holds: changes it
    /// has not received are given up.
    Promote {
        /// Also without knowing that the other node is gone, or that this one reaches the world.
        /// Never against a voter that answers.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        socket: Socket,
    },
}

pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::Status { question } => question.show(client::cluster(question.socket())),
        Command::Handover { socket } => match ask::wait(client::hand_over(&socket.path)) {
            Ok(()) => {
                say("the other node is the voter now");
                ExitCode::SUCCESS
            }
            Err(code) => code,
        },
        Command::Promote { force, socket } => {
            match ask::wait(client::promote(&socket.path, Promotion { force: *force })) {
                Ok(promoted) => {
                    say(&format!("this node goes on alone in generation {}", promoted.generation));
                    ExitCode::SUCCESS
                }
                Err(code) => code,
            }
        }
    }
}
