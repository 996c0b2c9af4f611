//! `trigon init`: the first node of a new cluster.

use std::process::ExitCode;

use cluster::{Founding, Passport};
use serde_json::json;

use super::place::{self, Place};
use super::{USAGE, complain, complain_of, say};

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Name of the cluster: 1 to 40 of a-z, 0-9 and inner hyphens.
    #[arg(long, default_value = "trigon")]
    name: String,
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
    let before = match place::passport(&home) {
        Ok(before) => before,
        Err(code) => return code,
    };
    let dir = home.state_dir.display();
    if let Some(passport) = before {
        if passport.cluster_name == options.name && passport.number == 1 {
            tell(&passport, false, options.json);
            return ExitCode::SUCCESS;
        }
        let (number, cluster) = (passport.number, &passport.cluster_name);
        complain(&format!(
            "{dir}: this machine is node {number} of cluster {cluster:?} already; to found another \
             one, stop trigon and move the directory away"
        ));
        return ExitCode::from(USAGE);
    }
    if home.role == Some(cluster::Role::Witness) {
        complain(
            &"node.role: found \"witness\", expected \"node\": a cluster is founded on a machine \
              that serves; let the witness join it with `trigon join`",
        );
        return ExitCode::from(USAGE);
    }
    if place::runs(&home) {
        let socket = home.admin_socket.display();
        complain(&format!("{socket}: a trigon runs on this machine; stop it first"));
        return ExitCode::FAILURE;
    }
    let founding = Founding {
        cluster_name: options.name.clone(),
        node_name: place::name_of(&home),
        advertise: home.advertise,
    };
    match cluster::found(&home.state_dir, &founding) {
        Ok(passport) => {
            tell(&passport, true, options.json);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain_of(error);
            ExitCode::FAILURE
        }
    }
}

fn tell(passport: &Passport, founded: bool, as_json: bool) {
    let Passport { cluster_name, group, number, node_name, advertise, .. } = passport;
    if as_json {
        let told = json!({
            "founded": founded,
            "cluster": cluster_name,
            "cluster_id": group.cluster.to_string(),
            "id": number,
            "name": node_name,
            "advertise": advertise,
        });
        say(&format!("{told:#}"));
        return;
    }
    let did = if founded { "founded" } else { "exists already" };
    say(&format!("cluster {cluster_name} {did}: this machine is node {number}, {node_name}"));
    if advertise.is_none() {
        say("no other machine can join before it has cluster.listen and an address to advertise");
    }
    if founded {
        say("next: start it with `trigon run`; `trigon token create` lets others join");
    }
}
