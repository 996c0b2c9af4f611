//! Which member of which cluster a process is, made sure of before anything of the cluster starts.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::Context;
use cluster::{Founding, Passport};

use crate::config::Node;

/// Makes the state directory if it is missing. A machine that was in no cluster and is told
/// nothing of one founds its own, without a way in for others; if it is told of one, somebody has
/// to say whether it is the first or joins.
///
/// # Errors
/// What the admin has to do first.
pub(super) fn ensure(
    node: &Node,
    cluster: &cluster::Config,
    passport: Option<Passport>,
) -> anyhow::Result<Passport> {
    let dir = node.state_dir.as_path();
    make_private_dir(dir)?;
    if let Some(passport) = passport {
        return Ok(passport);
    }
    if cluster.listen.is_some() {
        anyhow::bail!(
            "node.state_dir {}: this machine is in no cluster yet, and there is a section \
             [cluster]: make it the first node with `trigon init`, or a member of a cluster that \
             exists with `trigon join TOKEN --peer IP:PORT`",
            dir.display()
        );
    }
    let founding = Founding {
        cluster_name: "trigon".to_owned(),
        node_name: node.name.clone(),
        advertise: None,
    };
    let passport = cluster::found(dir, &founding)?;
    tracing::info!(cluster = passport.cluster_name, "founded a cluster of one");
    Ok(passport)
}

/// Only a directory made here gets this mode: an existing one may be anything, even `/tmp`.
fn make_private_dir(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("node.state_dir {}", path.display()))
}
