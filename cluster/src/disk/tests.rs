use std::path::Path;

use super::*;

const DIR: &str = "/state";
const FILE: &str = "/state/note";

/// A disk with a synced file of `old` bytes and one that replaces it with `new` ones, cut off at
/// every sync point of the replacement: what is found after the restart.
fn after_each_cut(loss: Loss) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for cut in 1.. {
        let memory = MemoryDisk::default();
        let disk = Disk::Memory(memory.clone());
        disk.create_dir(Path::new(DIR)).unwrap();
        disk.store(Path::new(FILE), b"old").unwrap();
        memory.plan(memory.points() + cut, Fault::PowerOff(loss));
        let done = disk.store(Path::new(FILE), &[b'n'; 2000]).is_ok();
        if done {
            assert!(!memory.is_off());
            memory.power_off(loss);
        }
        assert!(disk.read(Path::new(FILE), 9000).is_err(), "nothing answers without power");
        memory.power_on();
        found.push(disk.read(Path::new(FILE), 9000).unwrap());
        if done {
            return found;
        }
    }
    unreachable!("the loop returns");
}

#[test]
fn a_stored_file_is_whole_or_the_one_before_at_every_cut() {
    let (old, new) = (b"old".to_vec(), vec![b'n'; 2000]);
    assert_eq!(after_each_cut(Loss::All), [old.clone(), old.clone(), new.clone()]);
    assert_eq!(after_each_cut(Loss::Nothing), [old.clone(), new.clone(), new.clone()]);
    for seed in 0..50 {
        for loss in [Loss::Torn { seed }, Loss::Scattered { seed }] {
            let found = after_each_cut(loss);
            assert_eq!(found.len(), 3, "two sync points and the end");
            assert!(found.iter().all(|bytes| *bytes == old || *bytes == new), "{loss:?}");
            assert_eq!(found[2], new, "{loss:?}");
        }
    }
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next_one() {
    let memory = MemoryDisk::default();
    let disk = Disk::Memory(memory.clone());
    disk.create_dir(Path::new(DIR)).unwrap();
    memory.plan(memory.points() + 1, Fault::SyncFails);
    memory.write(Path::new(FILE), b"lost").unwrap_err();
    disk.sync_dir(Path::new(DIR)).unwrap();
    memory.power_off(Loss::Nothing);
    memory.power_on();
    assert_eq!(disk.read(Path::new(FILE), 9000).unwrap(), b"");
}

#[test]
fn a_directory_that_was_never_synced_takes_its_files_along() {
    let memory = MemoryDisk::default();
    memory.make_dir(Path::new(DIR)).unwrap();
    let disk = Disk::Memory(memory.clone());
    disk.store(Path::new(FILE), b"gone").unwrap();
    memory.power_off(Loss::All);
    memory.power_on();
    assert!(!disk.is_dir(Path::new(DIR)));
    assert!(disk.read(Path::new(FILE), 9000).is_err());
}

#[test]
fn a_full_disk_says_so_and_leaves_nothing_behind() {
    let memory = MemoryDisk::default();
    let disk = Disk::Memory(memory.clone());
    disk.create_dir(Path::new(DIR)).unwrap();
    disk.store(Path::new(FILE), b"old").unwrap();
    memory.set_capacity(Some(1000));
    let error = disk.store(Path::new(FILE), &[0; 2000]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), [PathBuf::from(FILE)]);
    assert_eq!(disk.read(Path::new(FILE), 9000).unwrap(), b"old");
}

#[test]
fn both_kinds_do_the_same() {
    let real = tempfile::tempdir().unwrap();
    for (disk, root) in
        [(Disk::Files, real.path()), (Disk::Memory(MemoryDisk::default()), Path::new("/"))]
    {
        let dir = root.join("a/b");
        disk.create_dir(&dir).unwrap();
        disk.create_dir(&dir).unwrap();
        disk.store(&dir.join("two"), b"2").unwrap();
        disk.store(&dir.join("one"), b"1").unwrap();
        assert_eq!(disk.list(&dir).unwrap(), [dir.join("one"), dir.join("two")]);
        assert_eq!(disk.read(&dir.join("one"), 0).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        disk.remove(&dir.join("one")).unwrap();
        assert_eq!(disk.read(&dir.join("one"), 9).unwrap_err().kind(), io::ErrorKind::NotFound);
        disk.reserve(&dir.join("room"), 2 << 20).unwrap();
        disk.reserve(&dir.join("room"), 1 << 20).unwrap();
        drop(disk.database(&dir.join("db")).unwrap());
        let open = disk.database(&dir.join("db")).unwrap();
        assert!(matches!(disk.database(&dir.join("db")), Err(DatabaseError::DatabaseAlreadyOpen)));
        drop(open);
    }
}
