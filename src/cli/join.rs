//! `trigon join`: this machine becomes a member of a cluster that exists.

use std::io::Read;
use std::net::SocketAddr;
use std::process::ExitCode;

use cluster::{JoinError, JoinToken, Joining, Passport, Role};
use serde_json::json;

use super::ask::UNCONFIRMED;
use super::place::{self, Place};
use super::{USAGE, complain, complain_of, say};

/// Exit code when it did not succeed for another reason.
const FAILED: u8 = 1;

/// Exit code when the cluster does not take this token.
const TOKEN_REFUSED: u8 = 3;

/// Most bytes read from standard input: a token is far shorter.
const MAX_TOKEN: u64 = 4096;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// What `trigon token create` has printed; `-` reads it from standard input, which keeps it
    /// out of the list of processes.
    token: String,
    /// A member that can be asked; several are tried in turn.
    #[arg(long = "peer", value_name = "IP:PORT", required = true)]
    peers: Vec<SocketAddr>,
    /// What this machine becomes, in place of `node.role`: node or witness, as the token says.
    #[arg(long, value_name = "ROLE", value_parser = place::parse_role)]
    role: Option<Role>,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let home = match options.place.read() {
        Ok(home) => home,
        Err(code) => return code,
    };
    if place::runs(&home) {
        let socket = home.admin_socket.display();
        complain(&format!("{socket}: a trigon runs on this machine; stop it first"));
        return ExitCode::FAILURE;
    }
    let Some(advertise) = home.advertise else {
        complain(
            &"--advertise: found nothing, expected the address and port at which the other \
              members reach this machine, such as 192.0.2.12:7443",
        );
        return ExitCode::from(USAGE);
    };
    let token = match token(&options.token) {
        Ok(token) => token,
        Err(code) => return code,
    };
    let joining = Joining {
        token,
        peers: options.peers.clone(),
        advertise,
        node_name: place::name_of(&home),
        role: options.role.or(home.role).unwrap_or(Role::Node),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cluster::join(&home.state_dir, &joining)) {
        Ok(passport) => {
            tell(&passport, options.json);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = code(&error);
            complain_of(error);
            ExitCode::from(code)
        }
    }
}

fn token(given: &str) -> Result<JoinToken, ExitCode> {
    let mut text = given.to_owned();
    if given == "-" {
        text.clear();
        if let Err(error) = std::io::stdin().lock().take(MAX_TOKEN).read_to_string(&mut text) {
            complain(&format!("standard input: {error}"));
            return Err(ExitCode::FAILURE);
        }
    }
    text.parse().map_err(|error| {
        complain(&format!("token: {error}"));
        ExitCode::from(USAGE)
    })
}

/// The exit code for it.
fn code(error: &JoinError) -> u8 {
    match error {
        JoinError::WrongToken(_)
        | JoinError::SpentToken(_)
        | JoinError::ExpiredToken(_)
        | JoinError::WrongRole { .. } => TOKEN_REFUSED,
        JoinError::NoQuorum => UNCONFIRMED,
        JoinError::Directory(_) | JoinError::StillMember { .. } => USAGE,
        _ => FAILED,
    }
}

fn tell(passport: &Passport, as_json: bool) {
    let Passport { cluster_name, group, number, node_name, role, advertise, .. } = passport;
    if as_json {
        let told = json!({
            "cluster": cluster_name,
            "cluster_id": group.cluster.to_string(),
            "id": number,
            "name": node_name,
            "role": role,
            "advertise": advertise,
        });
        say(&format!("{told:#}"));
        return;
    }
    say(&format!("joined cluster {cluster_name} as node {number}, {node_name}"));
    say("next: start it with `trigon run`");
}
