//! `trigon certs list|renew|rotate-ca`: how long the certificates of the tunnel port and of the control
//! link last, and new ones.

use std::process::ExitCode;

use clap::Subcommand;

use super::ask::{self, Question, Socket};
use super::say;
use crate::admin::certificates::{Action, Authority, Order};
use crate::admin::client;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the certificates of the tunnel port and of the control link and when they end.
    List(Question),
    /// Make new certificates now, which happens by itself in time.
    ///
    /// Of the tunnel port: the server's, and the one new ExApps get; no tunnel is dropped, and
    /// clients that are installed keep theirs. Of the control link: this node's.
    Renew {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        socket: Socket,
    },
    /// Make a new certificate authority.
    ///
    /// Of the tunnel port: happens by itself when a third of its life is left. The older
    /// authorities stay trusted, so installed ExApps go on; ExApps installed from now on know the
    /// new one. Of the control link: every member gets a certificate of the new authority by
    /// itself, and then the old one is dropped.
    RotateCa {
        #[command(flatten)]
        whose: Whose,
        /// Trust only the newest authority from now on: after a leak, or once every ExApp was
        /// installed anew. Whoever has only an older certificate cannot connect any more. On the
        /// control link this happens by itself.
        #[arg(long)]
        drop_old: bool,
        #[command(flatten)]
        socket: Socket,
    },
}

/// Which authority.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Whose {
    /// Whose certificates: of the tunnel port, or of the control link between the members.
    #[arg(long, value_enum, default_value_t)]
    authority: Authority,
}

pub(super) fn run(command: &Command) -> ExitCode {
    let (socket, action, whose) = match command {
        Command::List(question) => return question.show(client::certificates(question.socket())),
        Command::Renew { whose, socket } => (socket, Action::Renew, whose),
        Command::RotateCa { whose, drop_old, socket } => {
            (socket, if *drop_old { Action::DropOldCas } else { Action::RotateCa }, whose)
        }
    };
    let order = Order { action, authority: whose.authority };
    match ask::wait(client::change_certificates(&socket.path, order)) {
        Ok(()) => {
            say(done(order));
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn done(order: Order) -> &'static str {
    match (order.authority, order.action) {
        (Authority::Tunnels, Action::Renew) => {
            "new certificates are in force; no tunnel is dropped"
        }
        (Authority::Tunnels, Action::RotateCa) => {
            "a new authority signs; the older ones are trusted until they end or are dropped"
        }
        (_, Action::DropOldCas) => {
            "only the newest authority is trusted; connected tunnels stay until they connect again"
        }
        (Authority::Cluster, Action::Renew) => {
            "this node gets a new certificate within moments; no connection is dropped"
        }
        (Authority::Cluster, Action::RotateCa) => {
            "every member gets a certificate of the new authority, then the old one is dropped; \
             `trigon certs list` says whom this waits for"
        }
    }
}
