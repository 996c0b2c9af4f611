//! Power cuts, failed syncs and failed reads at every sync point of every operation.
//!
//! Each operation is run once to count its sync points, then once more for each point and each
//! way to lose what was not synced. After the restart the stores have to hold what they had
//! before the operation or what they have after it, the latter if it was acknowledged, and they
//! have to work.

use openraft::storage::{RaftLogStorage, RaftLogStorageExt};

use super::*;
use crate::disk::Loss;
use crate::log_store::LogStore;
use crate::types::Vote;

const DIR: &str = "/state";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Append,
    Truncate,
    Purge,
    SaveVote,
    /// Rides on the append after it.
    SaveCommitted,
    StoreSnapshot,
    InstallSnapshot,
    /// The next start, which finds a log that was not closed.
    Open,
    Close,
}

const OPERATIONS: [Operation; 9] = [
    Operation::Append,
    Operation::Truncate,
    Operation::Purge,
    Operation::SaveVote,
    Operation::SaveCommitted,
    Operation::StoreSnapshot,
    Operation::InstallSnapshot,
    Operation::Open,
    Operation::Close,
];

/// What is on disk, as far as anybody was told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    vote: Option<Vote>,
    committed: Option<u64>,
    purged: Option<u64>,
    /// Index and term.
    log: Vec<(u64, u64)>,
    snapshot: Option<u64>,
}

fn entry_of(index: u64, term: u64) -> Entry {
    Entry { log_id: LogId::new(CommittedLeaderId::new(term, 1), index), ..entry(index) }
}

/// Ten entries, two of them purged, a snapshot of seven, one vote.
async fn prepared(disk: &Disk) -> (LogStore, StateStore) {
    let (mut log, mut state) = open_on(disk, Path::new(DIR));
    log.save_vote(&Vote::new(1, 1)).await.unwrap();
    log.blocking_append((0..10).map(entry)).await.unwrap();
    for applied in [0..4, 4..7] {
        state.apply(applied.map(entry)).await.unwrap();
        state.get_snapshot_builder().await.build_snapshot().await.unwrap();
    }
    log.save_committed(Some(entry(6).log_id)).await.unwrap();
    log.blocking_append([entry(10)]).await.unwrap();
    log.purge(entry(1).log_id).await.unwrap();
    (log, state)
}

/// The bytes of a snapshot some other node has made.
async fn foreign_snapshot() -> (SnapshotMeta, Vec<u8>) {
    let (_, mut state) = open_on(&Disk::Memory(MemoryDisk::default()), Path::new(DIR));
    state.apply((0..21).map(entry)).await.unwrap();
    let snapshot = state.get_snapshot_builder().await.build_snapshot().await.unwrap();
    (snapshot.meta, snapshot.snapshot.into_inner())
}

type Stores = (LogStore, StateStore);

/// Whether it was acknowledged, and the stores if they are still open: closing them has sync
/// points of its own.
async fn carry_out(
    operation: Operation,
    (mut log, mut state): Stores,
    (meta, bytes): (SnapshotMeta, Vec<u8>),
) -> (bool, Option<Stores>) {
    let done = match operation {
        Operation::Append => log.blocking_append((11..14).map(|at| entry_of(at, 2))).await.is_ok(),
        Operation::Truncate => log.truncate(entry(8).log_id).await.is_ok(),
        Operation::Purge => log.purge(entry(6).log_id).await.is_ok(),
        Operation::SaveVote => log.save_vote(&Vote::new_committed(3, 2)).await.is_ok(),
        Operation::SaveCommitted => {
            log.save_committed(Some(entry(9).log_id)).await.is_ok()
                && log.blocking_append([entry_of(11, 2)]).await.is_ok()
        }
        Operation::StoreSnapshot => {
            state.apply((7..10).map(entry)).await.unwrap();
            state.get_snapshot_builder().await.build_snapshot().await.is_ok()
        }
        Operation::InstallSnapshot => {
            state.install_snapshot(&meta, Box::new(Cursor::new(bytes))).await.is_ok()
        }
        Operation::Open => {
            let storage = state.storage.clone();
            drop((log, state));
            let opened = log_file::open(&storage, Path::new(DIR), Group::sample(1), 1);
            return (opened.is_ok_and(|opened| opened.database.close().is_ok()), None);
        }
        Operation::Close => {
            drop((log, state));
            return (true, None);
        }
    };
    (done, Some((log, state)))
}

/// What a start finds. It must not fail.
async fn found(disk: &Disk, what: &str) -> Known {
    let dir = Path::new(DIR);
    let storage = Storage::open(disk.clone(), dir).unwrap();
    let opened = log_file::open(&storage, dir, Group::sample(1), 1);
    let opened = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    let (fatal, purged) = (storage.fatal.clone(), opened.purged);
    let mut log = LogStore::new(storage.clone(), opened);
    let view = Arc::new(View::new());
    let state = StateStore::open(storage, dir, Group::sample(1), purged, view);
    let state = state.unwrap_or_else(|error| panic!("{what}: {error}"));
    let entries = log.try_get_log_entries(0..u64::MAX).await.unwrap();
    let ends = log.get_log_state().await.unwrap();
    let last = entries.last().map(|entry| entry.log_id).or(ends.last_purged_log_id);
    assert_eq!(ends.last_log_id, last, "{what}");
    let known = Known {
        vote: log.read_vote().await.unwrap(),
        committed: log.read_committed().await.unwrap().map(|id| id.index),
        purged: ends.last_purged_log_id.map(|id| id.index),
        log: entries.iter().map(|at| (at.log_id.index, at.log_id.leader_id.term)).collect(),
        snapshot: state.last_applied.map(|id| id.index),
    };
    // And it goes on.
    let next = ends.last_log_id.map_or(0, |id| id.index + 1);
    log.save_vote(&Vote::new(9, 1)).await.unwrap();
    log.blocking_append([entry_of(next, 9)]).await.unwrap();
    state.builder().build_snapshot().await.unwrap();
    assert!(!fatal.is_raised(), "{what}");
    known
}

async fn without_faults(operation: Option<Operation>) -> (Known, u64) {
    let memory = MemoryDisk::default();
    let disk = Disk::Memory(memory.clone());
    let stores = prepared(&disk).await;
    let before = memory.points();
    let stores = match operation {
        Some(operation) => {
            let (done, stores) = carry_out(operation, stores, foreign_snapshot().await).await;
            assert!(done, "{operation:?}");
            stores
        }
        None => Some(stores),
    };
    let points = memory.points() - before;
    drop(stores);
    (found(&disk, "without faults").await, points)
}

fn losses() -> impl Iterator<Item = Loss> {
    let chosen = (0..12).flat_map(|seed| [Loss::Torn { seed }, Loss::Scattered { seed }]);
    [Loss::All, Loss::Nothing].into_iter().chain(chosen)
}

#[tokio::test]
async fn every_power_cut_leaves_what_was_acknowledged_and_no_half_of_anything() {
    let (before, _) = without_faults(None).await;
    let snapshot = foreign_snapshot().await;
    let mut total = 0;
    for operation in OPERATIONS {
        let (after, points) = without_faults(Some(operation)).await;
        assert!(points >= 2, "{operation:?} is not durable after {points} sync points");
        // One more than there are: just after the operation.
        for cut in 1..=points + 1 {
            for loss in losses() {
                let what = format!("{operation:?}, power off at point {cut} of {points}, {loss:?}");
                let memory = MemoryDisk::default();
                let disk = Disk::Memory(memory.clone());
                let stores = prepared(&disk).await;
                memory.plan(memory.points() + cut, Fault::PowerOff(loss));
                let (done, stores) = carry_out(operation, stores, snapshot.clone()).await;
                assert_eq!(memory.is_off(), cut <= points, "{what}: the point was not reached");
                memory.power_off(loss);
                drop(stores);
                memory.power_on();
                let found = found(&disk, &what).await;
                if done && operation != Operation::Close {
                    assert_eq!(found, after, "{what}: acknowledged");
                } else {
                    assert!(found == before || found == after, "{what}: found {found:?}");
                }
            }
        }
        println!("{operation:?}: {points} sync points");
        total += points;
    }
    println!("{total} sync points, {} ways to lose at each and after each", losses().count());
}

#[tokio::test]
async fn a_failed_sync_at_any_point_is_fatal_and_never_reported_as_done() {
    let (before, _) = without_faults(None).await;
    let snapshot = foreign_snapshot().await;
    let lasting = |operation: &Operation| !matches!(operation, Operation::Open | Operation::Close);
    for operation in OPERATIONS.into_iter().filter(lasting) {
        let (after, points) = without_faults(Some(operation)).await;
        for at in 1..=points {
            let what = format!("{operation:?}, sync {at} of {points} fails");
            let memory = MemoryDisk::default();
            let disk = Disk::Memory(memory.clone());
            let stores = prepared(&disk).await;
            let fatal = stores.1.storage.fatal.clone();
            memory.plan(memory.points() + at, Fault::SyncFails);
            let (done, stores) = carry_out(operation, stores, snapshot.clone()).await;
            assert!(!done, "{what}: reported as done");
            assert!(fatal.is_raised(), "{what}: goes on");
            memory.power_off(Loss::All);
            drop(stores);
            memory.power_on();
            let found = found(&disk, &what).await;
            assert!(found == before || found == after, "{what}: found {found:?}");
        }
    }
}

#[tokio::test]
async fn a_disk_that_cannot_be_read_is_refused_at_start() {
    let memory = MemoryDisk::default();
    let disk = Disk::Memory(memory.clone());
    drop(prepared(&disk).await);
    let storage = Storage::open(disk.clone(), Path::new(DIR)).unwrap();
    memory.plan(memory.points() + 1, Fault::ReadsFail);
    disk.sync_dir(Path::new(DIR)).unwrap();
    let refused =
        log_file::open(&storage, Path::new(DIR), Group::sample(1), 1).err().unwrap().to_string();
    assert!(refused.contains("/state/raft.redb: the disk cannot be read"), "{refused}");
}
