//! What the simulation of this crate sees of a running node, and how it seeds it. Compiled only
//! with the feature `sim`, which nothing but this crate's own tests switches on.

use std::hash::{DefaultHasher, Hasher};
use std::path::Path;
use std::sync::Arc;

use crate::codec;
use crate::dice;
use crate::disk::{Disk, MemoryDisk};
use crate::handle::{Backend, Handle};
use crate::pair::Sync;
use crate::state::State;
use crate::status::ClusterStatus;

/// Does `work` with every random number of this thread drawn from `seed`.
pub fn with_seed<T>(seed: u64, work: impl FnOnce() -> T) -> T {
    dice::seeded::with(seed, work)
}

/// Begins a step of a simulation on this thread; tells what broke in the one before: a task that
/// panicked, or tasks that ran in circles.
pub fn step() -> Option<String> {
    crate::guarded::simulated::step()
}

/// Names one log entry: term and node of the leader that wrote it, and its index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Term of its leader.
    pub term: u64,
    /// Its leader.
    pub leader: u64,
    /// Its place.
    pub index: u64,
}

/// The vote a node has given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vote {
    /// In which term.
    pub term: u64,
    /// To whom.
    pub node: u64,
    /// Whether a majority agreed.
    pub committed: bool,
}

/// One node at one moment.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// What it says about the cluster.
    pub status: ClusterStatus,
    /// Its vote as stored.
    pub vote: Vote,
    /// Whether the other node of a pair has what this one confirms.
    pub sync: Sync,
    /// Newest entry applied, as the engine reports it.
    pub applied: Option<EntryId>,
    /// Newest entry a snapshot covers.
    pub snapshot: Option<EntryId>,
    /// Newest entry dropped from the log.
    pub purged: Option<EntryId>,
    /// Voters by the newest membership in its log; two sets while they change.
    pub voters: Vec<Vec<u64>>,
    /// Learners by it.
    pub learners: Vec<u64>,
    /// Its view is of its group, not of the one it left.
    pub has_state: bool,
    /// Its view, and how many entries that contains.
    pub view: (Arc<State>, u64),
}

/// Looks at a node; call it on the runtime the node lives on. `None` for a cluster in memory.
pub fn inspect(handle: &Handle) -> Option<Inspection> {
    let Backend::Engine { slot, .. } = &handle.backend else { return None };
    let engine = slot.engine();
    let metrics = engine.metrics();
    let entry = |id: crate::types::LogId| EntryId {
        term: id.leader_id.term,
        leader: id.leader_id.node_id,
        index: id.index,
    };
    let membership = metrics.membership_config.membership();
    Some(Inspection {
        status: handle.status(),
        vote: Vote {
            term: metrics.vote.leader_id.term,
            node: metrics.vote.leader_id.node_id,
            committed: metrics.vote.committed,
        },
        sync: engine.bond.sync(),
        applied: metrics.last_applied.map(entry),
        snapshot: metrics.snapshot.map(entry),
        purged: metrics.purged.map(entry),
        voters: membership
            .get_joint_config()
            .iter()
            .map(|voters| voters.iter().copied().collect())
            .collect(),
        learners: membership.learner_ids().collect(),
        has_state: engine.has_state(),
        view: engine.view.load_counted(),
    })
}

/// Copies everything below a directory to a fresh disk, but for one folder of it.
///
/// # Errors
/// A file cannot be read or written.
pub fn copy(from: &MemoryDisk, dir: &Path, without: &str) -> std::io::Result<MemoryDisk> {
    let fresh = MemoryDisk::default();
    copy_to(&Disk::Memory(from.clone()), &Disk::Memory(fresh.clone()), dir, without)?;
    Ok(fresh)
}

fn copy_to(from: &Disk, to: &Disk, dir: &Path, without: &str) -> std::io::Result<()> {
    to.create_dir(dir)?;
    for path in from.list(dir)? {
        match from.read(&path, u64::MAX) {
            Ok(bytes) => to.store(&path, &bytes)?,
            Err(_) if path.file_name().is_some_and(|name| name == without) => {}
            Err(_) => copy_to(from, to, &path, without)?,
        }
    }
    Ok(())
}

/// A number that is the same for equal states and hardly ever for different ones. Sessions do
/// not count: replicas may differ in them.
///
/// # Panics
/// The state cannot be encoded, which no state of a running node is.
pub fn digest(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&codec::encode(state).expect("a state can be encoded"));
    hasher.finish()
}
