//! The section `[cluster]`: where this node meets the others. Who they are does not stand in the
//! file: they join, and the cluster remembers them.

use std::net::SocketAddr;
use std::path::Path;

use cluster::{PairPolicy, SessionReplication};

use super::file::Section;

/// Keys of the static list that once stood here, and what replaces it.
const GONE: [&str; 5] = ["name", "ca", "certificate", "key", "members"];

/// Where the advertised address comes from when the file names none.
#[derive(Clone, Copy, Debug)]
pub(super) enum Otherwise {
    /// From the passport, if that has one.
    Passport(Option<SocketAddr>),
    /// Perhaps from the command line.
    Option,
}

pub(super) fn read(
    mut section: Section<'_, '_>,
    state_dir: &Path,
    otherwise: Otherwise,
) -> cluster::Config {
    let mut config = cluster::Config::new(state_dir);
    if !section.is_present() {
        return config;
    }
    for key in GONE {
        let found = if key == "members" { "a list of members" } else { "a key of that list" };
        let expected = "nothing: `trigon init` founds a cluster, `trigon join` adds a member";
        section.refuse(key, found, expected);
    }
    config.listen = section.required("listen");
    config.advertise = section.optional("advertise");
    config.snapshot_every = section.optional("snapshot_every").unwrap_or(config.snapshot_every);
    let policies = [("auto", PairPolicy::Auto), ("manual", PairPolicy::Manual)];
    config.pair.policy = section.choice("pair_policy", &policies, config.pair.policy);
    let after = section.optional("pair_promote_after");
    config.pair.promote_after = after.unwrap_or(config.pair.promote_after);
    let ways = [("batch", SessionReplication::Batch), ("off", SessionReplication::Off)];
    let sharing = section.choice("session_replication", &ways, config.session_replication);
    config.session_replication = sharing;
    if let (None, None, Otherwise::Passport(known)) =
        (config.advertise, config.advertised(), otherwise)
    {
        config.advertise = known;
    }
    let mut problems = config.problems();
    if config.advertise.is_none() && matches!(otherwise, Otherwise::Option) {
        problems.retain(|problem| problem.key != "cluster.advertise");
    }
    for problem in problems {
        section.complaint(problem.key, problem.text);
    }
    section.finish();
    config
}
