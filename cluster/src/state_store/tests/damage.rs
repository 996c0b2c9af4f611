//! Bits that flip on disk: the stores refuse to start or hold exactly what they held. Nothing in
//! between, and no panic.

use openraft::storage::RaftLogStorage;

use super::*;

const DIR: &str = "/state";

/// Twenty entries, five of them purged, two snapshots; cleanly closed.
async fn prepared() -> MemoryDisk {
    let memory = MemoryDisk::default();
    let (mut log, mut state) = open_on(&Disk::Memory(memory.clone()), Path::new(DIR));
    log.save_vote(&crate::types::Vote::new(3, 1)).await.unwrap();
    log.blocking_append((0..20).map(entry)).await.unwrap();
    for applied in [0..6, 6..12] {
        state.apply(applied.map(entry)).await.unwrap();
        state.get_snapshot_builder().await.build_snapshot().await.unwrap();
    }
    log.purge(entry(4).log_id).await.unwrap();
    memory
}

/// What a start finds, or why it is refused.
async fn started(memory: MemoryDisk) -> Result<(Vec<u64>, Option<u64>, bool), String> {
    let disk = Disk::Memory(memory);
    let storage = Storage::open(disk, Path::new(DIR)).unwrap();
    let dir = Path::new(DIR);
    let opened =
        log_file::open(&storage, dir, Group::sample(1), 1).map_err(|error| error.to_string())?;
    let purged = opened.purged;
    let mut log = LogStore::new(storage.clone(), opened);
    let view = Arc::new(View::new());
    let state = StateStore::open(storage, dir, Group::sample(1), purged, view)
        .map_err(|e| e.to_string())?;
    let read = log.try_get_log_entries(0..u64::MAX).await.map_err(|error| error.to_string())?;
    let indexes = read.iter().map(|entry| entry.log_id.index).collect();
    let voted = log.read_vote().await.unwrap() == Some(crate::types::Vote::new(3, 1));
    Ok((indexes, state.last_applied.map(|id| id.index), voted))
}

#[tokio::test]
async fn a_flipped_bit_in_the_log_is_refused_or_harmless() {
    let memory = prepared().await;
    let whole = started(memory.copy()).await.unwrap();
    let path = Path::new("/state/raft.redb");
    let size = Disk::Memory(memory.clone()).read(path, 64 << 20).unwrap().len();
    let (mut refused, mut harmless) = (0, 0);
    // Every bit of the first header; for the rest a prime, so that every part of a page is met.
    let header = (0..64).flat_map(|at| (0..8).map(move |bit| (at, bit)));
    let rest = (64..320).step_by(3).chain((320..size).step_by(1511)).zip((0..8).cycle());
    for (at, bit) in header.chain(rest) {
        let copy = memory.copy();
        copy.flip(path, at, bit).unwrap();
        match started(copy).await {
            Ok(found) => {
                assert_eq!(found, whole, "bit {bit} at {at}");
                harmless += 1;
            }
            Err(text) => {
                assert!(text.contains("/state/raft.redb"), "bit at {at}: {text}");
                assert!(text.contains("trigon node remove"), "bit at {at}: {text}");
                refused += 1;
            }
        }
    }
    println!("{size} bytes: {refused} flips refused, {harmless} harmless");
    assert!(refused > 50, "{refused}");
}
