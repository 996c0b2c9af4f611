//! A plan on disk, and what becomes of it after a crash: see `generation`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::EntryPayload;
use openraft::storage::RaftLogReader;

use super::generation::{Found, Plan, Step, outlived};
use crate::disk::Disk;
use crate::error::StartError;
use crate::fatal::Fatal;
use crate::group::Group;
use crate::log_file::{self, unusable};
use crate::log_store::LogStore;
use crate::running;
use crate::space::Storage;
use crate::state::State;
use crate::state_store::StateStore;
use crate::types::RaftId;
use crate::view::View;

/// Name of the file below the state directory.
const PLAN_FILE: &str = "plan.json";

/// Largest such file that is read, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// How a start begins.
pub(crate) enum Opening {
    /// With the group the passport names.
    Present,
    /// By founding the planned group; the passport still names the one before.
    Founding(Plan),
    /// By following the planned group.
    Following(Plan),
}

/// What a start finds to go on with. Leftovers are removed.
pub(crate) fn resume(disk: &Disk, state_dir: &Path, present: Group) -> Result<Opening, StartError> {
    let plan = load(disk, state_dir).map_err(|error| unusable(&path(state_dir), error))?;
    let found = Found { plan, present };
    match found.step() {
        // A plan that is carried out stays until what it leaves is given over and cleared away.
        Step::Go | Step::Clear => Ok(Opening::Present),
        Step::Found(plan) => Ok(Opening::Founding(plan)),
        Step::Adopt(plan) => Ok(Opening::Following(plan)),
    }
}

/// The plan under way.
pub(crate) fn load(disk: &Disk, state_dir: &Path) -> io::Result<Option<Plan>> {
    let path = path(state_dir);
    if !disk.exists(&path)? {
        return Ok(None);
    }
    let bytes = disk.read(&path, MAX_BYTES)?;
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other)
}

pub(crate) fn store(disk: &Disk, state_dir: &Path, plan: &Plan) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(plan).map_err(io::Error::other)?;
    disk.store(&path(state_dir), &bytes)
}

/// The plan is carried out: removes it, and the groups that have outlived their use.
pub(crate) fn clear(disk: &Disk, state_dir: &Path, present: Group) -> io::Result<()> {
    let path = path(state_dir);
    if disk.exists(&path)? {
        disk.remove(&path)?;
        disk.sync_dir(state_dir)?;
    }
    let raft = state_dir.join("raft");
    let groups: Vec<_> = disk.list(&raft)?.iter().filter_map(|dir| present.of_dir(dir)).collect();
    for group in outlived(&groups, present) {
        disk.remove_tree(&group.dir(state_dir))?;
    }
    disk.sync_dir(&raft)
}

/// Removes what a crash left of a group that was being founded.
pub(crate) fn wipe(disk: &Disk, state_dir: &Path, group: Group) -> io::Result<()> {
    disk.remove_tree(&group.dir(state_dir))
}

/// Everything a group's directory holds: its state with every entry of the log applied, and how
/// many entries that are. The log of a learner may go on behind what it knows to be committed;
/// its leader was a quorum of one, so all of it is.
pub(crate) async fn export(
    storage: &Storage,
    state_dir: &Path,
    group: Group,
    id: RaftId,
) -> Result<(State, u64), StartError> {
    // What is wrong with it is the caller's to tell.
    let storage = Storage { fatal: Fatal::new(), ..storage.clone() };
    let dir = group.dir(state_dir);
    let opened = {
        let (disk, storage, dir) = (storage.disk.clone(), storage.clone(), dir.clone());
        running::opened(&disk, move || log_file::open(&storage, &dir, group, id)).await?
    };
    let purged = opened.purged;
    let last = opened.last.map_or(0, |id| id.index + 1);
    let mut log = LogStore::new(storage.clone(), opened);
    let closed = log.closed();
    let states = {
        let (disk, view) = (storage.disk.clone(), Arc::new(View::new()));
        let open = move || StateStore::open(storage, &dir, group, purged, view);
        running::opened(&disk, open).await?
    };
    let (mut state, applied) = states.into_parts();
    let mut next = applied.map_or(0, |id| id.index + 1);
    while next < last {
        let entries = log.try_get_log_entries(next..last).await;
        let entries = entries.map_err(|error| StartError::Engine(error.to_string()))?;
        let Some(newest) = entries.last().map(|entry| entry.log_id.index) else { break };
        for entry in entries {
            if let EntryPayload::Normal(proposal) = entry.payload {
                state.apply_once(&proposal);
            }
        }
        next = newest + 1;
    }
    drop(log);
    closed.await;
    Ok((state, next))
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(PLAN_FILE)
}
