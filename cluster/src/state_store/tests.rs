mod crash;
mod damage;
mod model;

use std::path::PathBuf;

use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{CommittedLeaderId, RaftLogReader};

use super::*;
use crate::command::{Command, SoftBatch};
use crate::disk::{Disk, Fault, MemoryDisk};
use crate::fatal::Fatal;
use crate::log_file;
use crate::log_store::LogStore;
use crate::record::NodeId;
use crate::types::Proposal;

fn open(dir: &Path) -> (LogStore, StateStore) {
    open_on(&Disk::Files, dir)
}

fn open_on(disk: &Disk, dir: &Path) -> (LogStore, StateStore) {
    let storage = Storage::open(disk.clone(), dir).unwrap();
    let opened = log_file::open(&storage, dir, Group::sample(1), 1).unwrap();
    let (purged, view) = (opened.purged, Arc::new(View::new()));
    let log = LogStore::new(storage.clone(), opened);
    let state = StateStore::open(storage, dir, Group::sample(1), purged, view).unwrap();
    (log, state)
}

fn open_log(disk: &Disk, dir: &Path) -> (LogStore, Fatal) {
    let storage = Storage::open(disk.clone(), dir).unwrap();
    let opened = log_file::open(&storage, dir, Group::sample(1), 1).unwrap();
    (LogStore::new(storage.clone(), opened), storage.fatal)
}

fn refused(dir: &Path, node: NodeId) -> String {
    let storage = Storage::open(Disk::Files, dir).unwrap();
    log_file::open(&storage, dir, Group::sample(1), node).err().unwrap().to_string()
}

struct OnFiles;

impl StoreBuilder<Types, LogStore, StateStore, tempfile::TempDir> for OnFiles {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateStore), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let (log, state) = open(dir.path());
        Ok((dir, log, state))
    }
}

struct InMemory;

impl StoreBuilder<Types, LogStore, StateStore> for InMemory {
    async fn build(&self) -> Result<((), LogStore, StateStore), StorageError> {
        let (log, state) = open_on(&Disk::Memory(MemoryDisk::default()), Path::new("/state"));
        Ok(((), log, state))
    }
}

#[test]
fn the_engines_own_suite_passes_on_both_disks() {
    Suite::test_all(OnFiles).unwrap();
    Suite::test_all(InMemory).unwrap();
}

fn entry(index: u64) -> Entry {
    let command = Arc::new(Command::Soft(SoftBatch { now: index, ..SoftBatch::default() }));
    Entry {
        log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
        payload: EntryPayload::Normal(Proposal { ticket: None, at: index, command }),
    }
}

async fn closed(log: LogStore) {
    let closed = log.closed();
    drop(log);
    closed.await;
}

#[tokio::test]
async fn the_log_is_the_same_after_a_restart_and_beyond_the_tail() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    for start in (0..5000).step_by(500) {
        log.blocking_append((start..start + 500).map(entry)).await.unwrap();
    }
    log.save_committed(Some(entry(4000).log_id)).await.unwrap();
    log.truncate(entry(4990).log_id).await.unwrap();
    log.purge(entry(9).log_id).await.unwrap();
    log.blocking_append([entry(4990)]).await.unwrap();
    assert_eq!(indexes(&mut log, 0..12).await, [10, 11], "from disk, below the tail");
    closed(log).await;

    let storage = Storage::open(Disk::Files, dir.path()).unwrap();
    let opened = log_file::open(&storage, dir.path(), Group::sample(1), 1).unwrap();
    let mut log = LogStore::new(storage, opened);
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id.unwrap().index, 9);
    assert_eq!(state.last_log_id.unwrap().index, 4990);
    assert_eq!(log.read_committed().await.unwrap().unwrap().index, 4000);
    assert_eq!(indexes(&mut log, 4989..u64::MAX).await, [4989, 4990]);
}

async fn indexes(log: &mut LogStore, range: std::ops::Range<u64>) -> Vec<u64> {
    let entries = log.try_get_log_entries(range).await.unwrap();
    entries.iter().map(|entry| entry.log_id.index).collect()
}

#[tokio::test]
async fn a_directory_of_another_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let busy = refused(dir.path(), 1);
    assert!(busy.contains("another trigon runs on this directory"), "{busy}");
    closed(log).await;
    let foreign = refused(dir.path(), 2);
    assert!(foreign.contains("belongs to node 1 (incarnation 0)"), "{foreign}");
}

#[tokio::test]
async fn an_entry_of_a_newer_build_stops_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    log.blocking_append([entry(0), entry(1)]).await.unwrap();
    closed(log).await;
    {
        let database = redb::Database::open(dir.path().join("raft.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let newer: &[u8] = &[9, 9, 9];
        transaction.open_table(log_file::LOG).unwrap().insert(0, newer).unwrap();
        transaction.commit().unwrap();
    }
    let (mut log, fatal) = open_log(&Disk::Files, dir.path());
    log.try_get_log_entries(0..2).await.unwrap_err();
    let reason = fatal.raised().await;
    assert!(reason.contains("entry 0: log entry has format version 9"), "{reason}");
}

/// A node with snapshots at 3 and 6 and the log purged up to `purged`.
async fn with_two_snapshots(purged: u64) -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, mut state) = open(dir.path());
    for chunk in [0..4u64, 4..7] {
        log.blocking_append(chunk.clone().map(entry)).await.unwrap();
        state.apply(chunk.map(entry)).await.unwrap();
        state.get_snapshot_builder().await.build_snapshot().await.unwrap();
    }
    log.purge(entry(purged).log_id).await.unwrap();
    let files = state.snapshots.files().unwrap();
    closed(log).await;
    (dir, files)
}

fn reopen(dir: &Path) -> Result<StateStore, StartError> {
    let storage = Storage::open(Disk::Files, dir).unwrap();
    let opened = log_file::open(&storage, dir, Group::sample(1), 1).unwrap();
    StateStore::open(storage, dir, Group::sample(1), opened.purged, Arc::new(View::new()))
}

#[tokio::test]
async fn a_damaged_snapshot_falls_back_to_the_older_when_the_log_still_reaches_it() {
    type Damage = fn(&Path);
    let truncate: Damage = |path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let flip: Damage = |path| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[12] ^= 0x40;
        std::fs::write(path, bytes).unwrap();
    };
    for damage in [truncate, flip] {
        let (dir, files) = with_two_snapshots(2).await;
        damage(&files[0]);
        let store = reopen(dir.path()).unwrap();
        assert_eq!(store.last_applied.unwrap().index, 3);
        assert!(!files[0].exists(), "kept aside under another name");

        let (dir, files) = with_two_snapshots(5).await;
        damage(&files[0]);
        let refused = reopen(dir.path()).err().unwrap().to_string();
        assert!(refused.contains("needed: entry 5, found: 3"), "{refused}");
        assert!(refused.contains("trigon node remove"), "{refused}");
        assert!(files[0].exists(), "nothing is touched when the start is refused");
    }
}

#[tokio::test]
async fn a_failed_sync_is_never_reported_as_stored_and_stops_the_node() {
    let memory = MemoryDisk::default();
    let (mut log, fatal) = open_log(&Disk::Memory(memory.clone()), Path::new("/state"));
    log.blocking_append([entry(0)]).await.unwrap();
    memory.plan(memory.points() + 1, Fault::SyncFails);
    log.blocking_append([entry(1)]).await.unwrap_err();
    assert!(fatal.raised().await.contains("the log cannot be written"));
    log.blocking_append([entry(1)]).await.unwrap_err();
    log.save_vote(&crate::types::Vote::new(3, 1)).await.unwrap_err();
}

#[tokio::test]
async fn a_reader_that_comes_after_a_truncation_or_purge_gets_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, fatal) = open_log(&Disk::Files, dir.path());
    log.blocking_append((0..10).map(entry)).await.unwrap();
    let mut reader = log.get_log_reader().await;
    log.truncate(entry(5).log_id).await.unwrap();
    log.purge(entry(1).log_id).await.unwrap();
    for (start, end, expected) in [(3, 10, vec![3, 4]), (7, 10, vec![]), (0, 4, vec![2, 3])] {
        let entries = reader.limited_get_log_entries(start, end).await.unwrap();
        let found: Vec<_> = entries.iter().map(|entry| entry.log_id.index).collect();
        assert_eq!(found, expected, "{start}..{end}");
    }
    assert!(!fatal.is_raised());
}

#[tokio::test]
async fn a_full_disk_gives_up_its_ballast_and_loses_nothing() {
    let memory = MemoryDisk::default();
    let disk = Disk::Memory(memory.clone());
    let (mut log, mut state) = open_on(&disk, Path::new("/state"));
    let space = state.storage.space.clone();
    memory.set_capacity(Some(memory.used()));
    let mut next = 0;
    while !space.is_full() {
        log.blocking_append((next..next + 100).map(entry)).await.unwrap();
        next += 100;
    }
    // The write that found no room is there, a snapshot fits, and the log can be cut.
    state.apply((0..next).map(entry)).await.unwrap();
    state.get_snapshot_builder().await.build_snapshot().await.unwrap();
    log.purge(entry(next - 10).log_id).await.unwrap();
    assert!(!space.recover(), "half a ballast would be gone at once");
    memory.set_capacity(Some(memory.used() + 3 * crate::space::BALLAST));
    assert!(space.recover() && !space.is_full());
    drop((log, state));
    memory.power_off(crate::disk::Loss::All);
    memory.power_on();
    let (mut log, state) = open_on(&disk, Path::new("/state"));
    assert_eq!(log.try_get_log_entries(0..u64::MAX).await.unwrap().len(), 9);
    assert_eq!(state.last_applied, Some(entry(next - 1).log_id));
}

#[tokio::test]
async fn a_start_on_a_full_disk_uses_the_ballast() {
    let memory = MemoryDisk::default();
    let disk = Disk::Memory(memory.clone());
    drop(open_on(&disk, Path::new("/state")));
    memory.set_capacity(Some(memory.used()));
    let (mut log, _state) = open_on(&disk, Path::new("/state"));
    log.save_vote(&crate::types::Vote::new(2, 1)).await.unwrap();
}
