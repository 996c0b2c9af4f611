//! `trigon certs list|renew|rotate-ca`: how long the certificates of the tunnel port last, and new ones.

use std::process::ExitCode;

use clap::Subcommand;

use super::ask::{self, Question, Socket};
use super::say;
use crate::admin::certificates::Action;
use crate::admin::client;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the certificates of the tunnel port and when they end.
    List(Question),
    /// Make new certificates for the tunnel port now: the server's, and the one new ExApps get.
    ///
    /// Happens by itself in time. No tunnel is dropped; clients that are installed keep theirs.
    Renew(Socket),
    /// Give the tunnel port a new certificate authority.
    ///
    /// Happens by itself when a third of its life is left. The older authorities stay trusted, so
    /// installed ExApps go on; ExApps installed from now on know the new one.
    RotateCa {
        /// Trust only the newest authority from now on: after a leak, or once every ExApp was
        /// installed anew. Whoever has only an older certificate cannot connect any more.
        #[arg(long)]
        drop_old: bool,
        #[command(flatten)]
        socket: Socket,
    },
}

pub(super) fn run(command: &Command) -> ExitCode {
    let (socket, action, done) = match command {
        Command::List(question) => return question.show(client::certificates(question.socket())),
        Command::Renew(socket) => {
            (socket, Action::Renew, "new certificates are in force; no tunnel is dropped")
        }
        Command::RotateCa { drop_old: false, socket } => {
            let done = "a new authority signs; the older ones are trusted until they end or are \
                        dropped";
            (socket, Action::RotateCa, done)
        }
        Command::RotateCa { drop_old: true, socket } => {
            let done = "only the newest authority is trusted; connected tunnels stay until they \
                        connect again";
            (socket, Action::DropOldCas, done)
        }
    };
    match ask::wait(client::change_certificates(&socket.path, action)) {
        Ok(()) => {
            say(done);
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}
