//! Where a node keeps what it must not forget: the log file, snapshots and its few small files.
//!
//! [`Disk::Files`] is the file system, whose calls are made away from the runtime's threads.
//! [`Disk::Memory`] is a disk whose every call returns at once and does the same each time; it
//! loses, tears and refuses on demand, for simulations and for the crash tests of the stores.
//!
//! The rule both keep: bytes are safe after the sync of their file, names after the sync of
//! their directory, and nothing is safe before.

mod backend;
mod content;
mod files;
mod memory;
mod names;

use std::io;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError};

use backend::Backend;
pub use content::Loss;
pub use memory::{Fault, MemoryDisk};

/// Memory redb may use for pages; the log is read from the decoded tail anyway.
const CACHE_BYTES: usize = 2 << 20;

/// A disk; clones are the same one.
#[derive(Clone, Debug, Default)]
pub enum Disk {
    /// The file system of this machine.
    #[default]
    Files,
    /// One that lives in memory.
    Memory(MemoryDisk),
}

impl Disk {
    /// Makes a directory only this user may enter, and whatever is missing above it.
    pub(crate) fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if self.is_dir(dir) {
            return Ok(());
        }
        let parent = match dir.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        if parent != Path::new(".") {
            self.create_dir(parent)?;
        }
        match self {
            Self::Files => files::make_dir(dir)?,
            Self::Memory(disk) => disk.make_dir(dir)?,
        }
        self.sync_dir(parent)
    }

    fn is_dir(&self, dir: &Path) -> bool {
        match self {
            Self::Files => dir.is_dir(),
            Self::Memory(disk) => disk.is_dir(dir),
        }
    }

    /// Whether there is such a file or directory.
    pub(crate) fn exists(&self, path: &Path) -> io::Result<bool> {
        match self {
            Self::Files => path.try_exists(),
            Self::Memory(disk) => disk.exists(path),
        }
    }

    /// What a directory holds, sorted.
    pub(crate) fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        match self {
            Self::Files => files::list(dir),
            Self::Memory(disk) => disk.list(dir),
        }
    }

    /// All of a file.
    ///
    /// # Errors
    /// Also [`io::ErrorKind::FileTooLarge`] for one of more than `limit` bytes.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        match self {
            Self::Files => files::read(path, limit),
            Self::Memory(disk) => disk.read(path, limit),
        }
    }

    /// Stores a file only this user may read so that a power cut leaves either all of it or what
    /// was there before: written aside, synced, renamed, directory synced.
    pub(crate) fn store(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let aside = path.with_extension("part");
        let written = match self {
            Self::Files => files::write(&aside, bytes),
            Self::Memory(disk) => disk.write(&aside, bytes),
        };
        if let Err(error) = written {
            // Half a file only takes the room that was missing.
            let _ = self.remove(&aside);
            return Err(error);
        }
        self.rename(&aside, path)?;
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }

    /// Gives a file another name within its directory. Safe after [`Disk::sync_dir`].
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            Self::Files => std::fs::rename(from, to),
            Self::Memory(disk) => disk.rename(from, to),
        }
    }

    /// Removes a file. Safe after [`Disk::sync_dir`].
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Files => std::fs::remove_file(path),
            Self::Memory(disk) => disk.remove(path),
        }
    }

    /// Removes a directory with everything in it, if it is there. Safe after [`Disk::sync_dir`]
    /// of the one above.
    pub(crate) fn remove_tree(&self, dir: &Path) -> io::Result<()> {
        if !self.exists(dir)? {
            return Ok(());
        }
        match self {
            Self::Files => std::fs::remove_dir_all(dir),
            Self::Memory(disk) => disk.remove_tree(dir),
        }
    }

    /// Waits until the names in a directory are safe.
    pub(crate) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self {
            Self::Files => files::sync_dir(dir),
            Self::Memory(disk) => disk.sync_dir(dir),
        }
    }

    /// Takes room on the disk: a file of `bytes` bytes that hold nothing. Not synced.
    pub(crate) fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()> {
        match self {
            Self::Files => files::reserve(path, bytes),
            Self::Memory(disk) => disk.reserve(path, bytes),
        }
    }

    /// Opens the database at `path`, or makes it.
    pub(crate) fn database(&self, path: &Path) -> Result<Database, DatabaseError> {
        let mut builder = Builder::new();
        // A damaged file is an error to report; without this it may be a panic.
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        match self {
            Self::Files => files::database(&builder, path),
            Self::Memory(disk) => builder.create_with_backend(Backend(disk.open(path)?)),
        }
    }

    /// Whether calls return at once, so that they may be made anywhere.
    pub(crate) fn is_immediate(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// Runs disk work where it may wait.
    ///
    /// # Errors
    /// The work panicked or the runtime is shutting down.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        match self {
            Self::Files => tokio::task::spawn_blocking(work).await,
            Self::Memory(disk) => {
                disk.ready().await;
                Ok(work())
            }
        }
    }

    /// Waits while the disk is stalled, which only one in memory can tell.
    pub(crate) async fn ready(&self) {
        if let Self::Memory(disk) = self {
            disk.ready().await;
        }
    }
}

#[cfg(test)]
mod tests;
