//! The names in the directories of a disk in memory: which file each stands for now, and after
//! the power went off. Sans-io.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::content::{Loss, mix};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dir,
    /// A file, by its number.
    File(u64),
}

#[derive(Clone, Debug)]
enum Change {
    Add(PathBuf, Kind),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// Every name by its whole path.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    live: BTreeMap<PathBuf, Kind>,
    safe: BTreeMap<PathBuf, Kind>,
    unsynced: Vec<Change>,
}

impl Names {
    pub(super) fn kind(&self, path: &Path) -> Option<Kind> {
        // What is above every directory was there before the disk.
        if path == Path::new("/") || path == Path::new("") || path == Path::new(".") {
            return Some(Kind::Dir);
        }
        self.live.get(path).copied()
    }

    pub(super) fn in_dir(&self, dir: &Path) -> Vec<PathBuf> {
        self.live.keys().filter(|path| path.parent() == Some(dir)).cloned().collect()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = u64> {
        self.live.values().filter_map(|kind| match kind {
            Kind::File(number) => Some(*number),
            Kind::Dir => None,
        })
    }

    pub(super) fn add(&mut self, path: &Path, kind: Kind) {
        self.change(Change::Add(path.to_owned(), kind));
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.change(Change::Remove(path.to_owned()));
    }

    fn change(&mut self, change: Change) {
        change.apply_to(&mut self.live);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self, dir: &Path) {
        for change in std::mem::take(&mut self.unsynced) {
            if change.dir() == Some(dir) {
                change.apply_to(&mut self.safe);
            } else {
                self.unsynced.push(change);
            }
        }
    }

    /// Like [`Content::sync_in_vain`](super::content::Content::sync_in_vain).
    pub(super) fn sync_in_vain(&mut self, dir: &Path) {
        self.unsynced.retain(|change| change.dir() != Some(dir));
    }

    /// Names change in order, in a journal, so that only the last ones can be missing.
    pub(super) fn lose_power(&mut self, loss: Loss) {
        let count = self.unsynced.len();
        let kept = match loss {
            Loss::All => 0,
            Loss::Nothing => count,
            Loss::Torn { seed } | Loss::Scattered { seed } => {
                usize::try_from(mix(!seed) % (count as u64 + 1)).unwrap_or(0)
            }
        };
        for change in self.unsynced.drain(..).take(kept) {
            change.apply_to(&mut self.safe);
        }
        // Nothing is left in a directory whose own name is gone.
        let dirs = self.safe.clone();
        self.safe.retain(|path, _| {
            path.ancestors().skip(1).all(|dir| dir.parent().is_none() || dirs.contains_key(dir))
        });
        self.live.clone_from(&self.safe);
    }
}

impl Change {
    fn dir(&self) -> Option<&Path> {
        let (Self::Add(path, _) | Self::Rename(_, path) | Self::Remove(path)) = self;
        path.parent()
    }

    fn apply_to(&self, names: &mut BTreeMap<PathBuf, Kind>) {
        match self {
            Self::Add(path, kind) => {
                names.insert(path.clone(), *kind);
            }
            Self::Rename(from, to) => {
                if let Some(kind) = names.remove(from) {
                    names.insert(to.clone(), kind);
                }
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}
