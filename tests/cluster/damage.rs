//! A node whose disk was damaged while it was stopped: it says which file, and how to come back,
//! and never starts with half a state. The others do not notice.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::machine::Machine;
use crate::place::{Place, Setup, Side};

#[tokio::test]
async fn a_damaged_log_is_refused_with_the_way_out_and_a_mended_one_is_taken() {
    let mut place = Place::start(Setup::default()).await;
    place.confirms(Side::B, "damage").await;
    place.b.end(Signal::TERM);
    let log = newest(&place.b, "redb");
    let whole = fs::read(&log).unwrap();
    let half = whole.len() / 2;
    let overwritten = |from: usize| {
        let mut bytes = whole.clone();
        bytes[from..].fill(0xff);
        bytes
    };
    let damages = [
        ("not a log at all", b"not a log".to_vec()),
        ("its tail is gone", whole[..half].to_vec()),
        ("everything but its head is overwritten", overwritten(8192)),
        ("empty", Vec::new()),
    ];
    for (damage, bytes) in damages {
        fs::write(&log, bytes).unwrap();
        let told = place.b.log().len();
        place.b.start();
        assert!(!place.b.ends().await.success(), "{damage}: started");
        let words = &place.b.log()[told..];
        assert!(words.contains(&*log.display().to_string()), "{damage}: {words}");
        assert!(words.contains("trigon join"), "{damage}: {words}");
        place.confirms(Side::A, "damage").await;
    }
    fs::write(&log, whole).unwrap();
    place.b.start();
    place.is_whole().await;
}

#[tokio::test]
async fn a_damaged_snapshot_is_put_aside_while_the_log_reaches_back() {
    let mut place = Place::start(Setup::default()).await;
    place.confirms(Side::B, "damage").await;
    // A clean stop stores one.
    place.b.end(Signal::TERM);
    let snapshot = newest(&place.b, "snapshot");
    let mut bytes = fs::read(&snapshot).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&snapshot, bytes).unwrap();
    place.b.start();
    place.is_whole().await;
    assert!(!snapshot.exists(), "{} is still there", snapshot.display());
    assert!(newest(&place.b, "damaged").exists(), "kept for whoever wants to look at it");
}

/// The file of the state directory with that extension and the last name.
fn newest(machine: &Machine, extension: &str) -> PathBuf {
    let mut found = Vec::new();
    walk(&machine.dir().join("state"), &mut |path| {
        if path.extension().is_some_and(|has| has == extension) {
            found.push(path.to_owned());
        }
    });
    found.into_iter().max().unwrap_or_else(|| panic!("no file {extension}"))
}

fn walk(dir: &Path, each: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, each) } else { each(&path) }
    }
}
