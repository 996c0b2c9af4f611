//! `trigon token`: who may join.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use cluster::record::MAX_USES;
use cluster::{MAX_TOKEN_LIFE, Role};

use super::ask::{self, Question, Socket};
use super::{complain, place, say};
use crate::admin::client;
use crate::admin::tokens::{NewToken, Revocation};
use crate::config::value;

/// Exit code of `token revoke` when there was no such token.
const UNKNOWN: u8 = 3;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a token with which a machine can join, and print it: it cannot be read again.
    Create {
        /// What the machine becomes: node or witness.
        #[arg(long, value_name = "ROLE", default_value = "node", value_parser = place::parse_role)]
        role: Role,
        /// How long the token is good for, such as 15m, 1h or 7d.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = lifetime)]
        ttl: Duration,
        /// How many machines may join with it, at most 32.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_USES)))]
        uses: u16,
        #[command(flatten)]
        question: Question,
    },
    /// List the tokens that are still good, without their secrets.
    List {
        #[command(flatten)]
        question: Question,
    },
    /// Take a token back; whoever has joined with it stays.
    Revoke {
        /// As `trigon token list` shows it.
        id: String,
        #[command(flatten)]
        socket: Socket,
    },
}

pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::Create { role, ttl, uses, question } => create(*role, *ttl, *uses, question),
        Command::List { question } => question.show(client::tokens(question.socket())),
        Command::Revoke { id, socket } => revoke(id, socket),
    }
}

/// Standard output gets the token and nothing else, so that a script can keep it.
fn create(role: Role, ttl: Duration, uses: u16, question: &Question) -> ExitCode {
    let new = NewToken { role, for_seconds: ttl.as_secs(), uses };
    let made = client::create_token(question.socket(), &new);
    if question.is_json() {
        return question.show_json(made);
    }
    let created = match ask::wait(made) {
        Ok(created) => created,
        Err(code) => return code,
    };
    say(&created.token);
    let machines = if uses == 1 { "one machine".to_owned() } else { format!("{uses} machines") };
    complain(&format!(
        "token {}: {machines} may join with it as {}, within {} s; keep it secret",
        created.id, created.role, created.ends_in_seconds
    ));
    ExitCode::SUCCESS
}

fn revoke(id: &str, socket: &Socket) -> ExitCode {
    let revocation = Revocation { id: id.to_owned() };
    match ask::wait(client::revoke_token(&socket.path, &revocation)) {
        Ok(revoked) if revoked.found => {
            say(&format!("{id}: nobody can join with it any more"));
            ExitCode::SUCCESS
        }
        Ok(_) => {
            complain(&format!("{id}: no such token is good any more"));
            ExitCode::from(UNKNOWN)
        }
        Err(code) => code,
    }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_secs(60)..=MAX_TOKEN_LIFE;
    let length = value::duration(text).filter(|length| bounds.contains(length));
    length.ok_or_else(|| "expected a time from 1m to 7d, such as 15m, 1h or 7d".to_owned())
}
