//! A disk in memory: nothing waits, everything happens the same way each time, and it fails on
//! demand.
//!
//! Every sync of a file or a directory is a *sync point*, counted from one. A [`Fault`] planned
//! for a point happens there. After the power went off every call fails, those of database files
//! that are still open as well, until [`MemoryDisk::power_on`]; what is there then is what a
//! restarted machine would find.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{DatabaseError, StorageBackend};
use tokio::time::Instant;

use super::content::{Content, Loss};
use super::names::{Kind, Names};

/// What goes wrong at a sync point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power goes off just before the sync takes effect.
    PowerOff(Loss),
    /// The sync fails, and what it should have kept will not survive the next power cut.
    SyncFails,
    /// The sync finds no space left, once.
    Full,
    /// The sync succeeds; from then on every read fails, until the power was off.
    ReadsFail,
}

/// The disk; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Clone, Debug, Default)]
struct Inner {
    names: Names,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    /// Database files in use.
    open: Vec<u64>,
    off: bool,
    /// How often the power went off: what was opened before is of no use after.
    cuts: u64,
    points: u64,
    plan: BTreeMap<u64, Fault>,
    reads_fail: bool,
    capacity: Option<u64>,
    /// Bytes of files that only take room.
    reserved: BTreeMap<u64, u64>,
    stalled_until: Option<Instant>,
}

impl MemoryDisk {
    /// Sync points so far.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.inner().points
    }

    /// Lets `fault` happen at sync point `point`, counted like [`MemoryDisk::points`]. Nothing
    /// happens at a point that has passed.
    pub fn plan(&self, point: u64, fault: Fault) {
        self.inner().plan.insert(point, fault);
    }

    /// The power goes off now.
    pub fn power_off(&self, loss: Loss) {
        self.inner().lose_power(loss);
    }

    /// Whether a planned fault has turned it off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.inner().off
    }

    /// The machine starts again, with nothing planned and every read working.
    pub fn power_on(&self) {
        let mut inner = self.inner();
        inner.off = false;
        inner.reads_fail = false;
        inner.plan.clear();
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.inner().used()
    }

    /// Bytes that fit; unlimited at first.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.inner().capacity = bytes;
    }

    /// Every asynchronous call waits until then.
    pub fn stall_until(&self, moment: Instant) {
        self.inner().stalled_until = Some(moment);
    }

    /// Another disk with the same on it, of a machine that is off and on again in order.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut inner = self.inner().clone();
        inner.open.clear();
        inner.plan.clear();
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Flips bit `bit` (0 to 7) of byte `at` of a file.
    ///
    /// # Errors
    /// There is no such file.
    pub fn flip(&self, path: &Path, at: usize, bit: u8) -> io::Result<()> {
        let mut inner = self.inner();
        let number = inner.file(path)?;
        inner.content(number)?.flip(at, bit);
        Ok(())
    }

    pub(super) async fn ready(&self) {
        let until = self.inner().stalled_until.take_if(|until| *until > Instant::now());
        if let Some(until) = until {
            // Whoever comes next has to wait as well.
            self.stall_until(until);
            tokio::time::sleep_until(until).await;
        }
    }

    pub(super) fn is_dir(&self, dir: &Path) -> bool {
        self.inner().names.kind(dir) == Some(Kind::Dir)
    }

    pub(super) fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.powered()?;
        inner.names.add(dir, Kind::Dir);
        Ok(())
    }

    pub(super) fn exists(&self, path: &Path) -> io::Result<bool> {
        let inner = self.inner();
        inner.readable()?;
        Ok(inner.names.kind(path).is_some())
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let inner = self.inner();
        inner.readable()?;
        match inner.names.kind(dir) {
            Some(Kind::Dir) => Ok(inner.names.in_dir(dir)),
            Some(Kind::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut inner = self.inner();
        inner.readable()?;
        let number = inner.file(path)?;
        let bytes = inner.content(number)?.bytes();
        if bytes.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes.to_vec())
    }

    /// Makes or replaces a file and syncs its bytes, not its name.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.inner();
        inner.powered()?;
        let number = match inner.file(path) {
            Ok(number) => number,
            Err(_) => inner.make_file(path)?,
        };
        inner.content(number)?.set_len(0);
        inner.room_for(bytes.len() as u64)?;
        inner.content(number)?.write(0, bytes);
        inner.sync(number)
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.powered()?;
        inner.names.kind(from).ok_or(io::ErrorKind::NotFound)?;
        inner.names.rename(from, to);
        Ok(())
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.powered()?;
        inner.file(path)?;
        inner.names.remove(path);
        Ok(())
    }

    pub(super) fn remove_tree(&self, dir: &Path) -> io::Result<()> {
        for path in self.list(dir)? {
            if self.is_dir(&path) { self.remove_tree(&path)? } else { self.remove(&path)? }
        }
        let mut inner = self.inner();
        inner.powered()?;
        inner.names.remove(dir);
        Ok(())
    }

    pub(super) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.powered()?;
        match inner.point()? {
            Sync::Works => inner.names.sync(dir),
            Sync::Fails => {
                inner.names.sync_in_vain(dir);
                return Err(sync_failed());
            }
        }
        Ok(())
    }

    pub(super) fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut inner = self.inner();
        inner.powered()?;
        let number = match inner.file(path) {
            Ok(number) => number,
            Err(_) => inner.make_file(path)?,
        };
        let now = inner.reserved.get(&number).copied().unwrap_or(0);
        inner.room_for(bytes.saturating_sub(now))?;
        inner.reserved.insert(number, bytes);
        Ok(())
    }

    pub(super) fn open(&self, path: &Path) -> Result<impl StorageBackend, DatabaseError> {
        let mut inner = self.inner();
        inner.powered()?;
        let number = match inner.file(path) {
            Ok(number) => number,
            Err(_) => inner.make_file(path)?,
        };
        if inner.open.contains(&number) {
            return Err(DatabaseError::DatabaseAlreadyOpen);
        }
        inner.open.push(number);
        Ok(OpenFile { disk: self.clone(), number, cuts: inner.cuts })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Sync {
    Works,
    Fails,
}

impl Inner {
    fn powered(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn readable(&self) -> io::Result<()> {
        self.powered()?;
        if self.reads_fail { Err(io::Error::other("the disk cannot be read")) } else { Ok(()) }
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.names.kind(path) {
            Some(Kind::File(number)) => Ok(number),
            Some(Kind::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn make_file(&mut self, path: &Path) -> io::Result<u64> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        if self.names.kind(parent) != Some(Kind::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let number = self.next_file;
        self.next_file += 1;
        self.files.insert(number, Content::default());
        self.names.add(path, Kind::File(number));
        Ok(number)
    }

    fn content(&mut self, number: u64) -> io::Result<&mut Content> {
        self.files.get_mut(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn room_for(&self, more: u64) -> io::Result<()> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        if self.used() + more > capacity { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        let size = |number| {
            let bytes = self.files.get(&number).map_or(0, |content| content.bytes().len() as u64);
            bytes + self.reserved.get(&number).copied().unwrap_or(0)
        };
        self.names.files().map(size).sum()
    }

    fn sync(&mut self, number: u64) -> io::Result<()> {
        match self.point()? {
            Sync::Works => self.content(number)?.sync(),
            Sync::Fails => {
                self.content(number)?.sync_in_vain();
                return Err(sync_failed());
            }
        }
        Ok(())
    }

    fn point(&mut self) -> io::Result<Sync> {
        self.points += 1;
        match self.plan.remove(&self.points) {
            None => Ok(Sync::Works),
            Some(Fault::PowerOff(loss)) => {
                self.lose_power(loss);
                self.powered().map(|()| Sync::Works)
            }
            Some(Fault::SyncFails) => Ok(Sync::Fails),
            Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::ReadsFail) => {
                self.reads_fail = true;
                Ok(Sync::Works)
            }
        }
    }

    fn lose_power(&mut self, loss: Loss) {
        if self.off {
            return;
        }
        self.off = true;
        self.cuts += 1;
        self.open.clear();
        self.names.lose_power(loss);
        for content in self.files.values_mut() {
            content.lose_power(loss);
        }
        let named: Vec<u64> = self.names.files().collect();
        self.files.retain(|number, _| named.contains(number));
    }
}

fn sync_failed() -> io::Error {
    io::Error::other("the sync failed")
}

/// A database file in use.
#[derive(Debug)]
struct OpenFile {
    disk: MemoryDisk,
    number: u64,
    cuts: u64,
}

impl OpenFile {
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.disk.inner();
        inner.powered()?;
        if inner.cuts != self.cuts {
            return Err(io::Error::other("the power was off"));
        }
        work(&mut inner)
    }
}

impl StorageBackend for OpenFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|inner| Ok(inner.content(self.number)?.bytes().len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|inner| {
            inner.readable()?;
            inner.content(self.number)?.read(offset, out)
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|inner| {
            let now = inner.content(self.number)?.bytes().len() as u64;
            inner.room_for(len.saturating_sub(now))?;
            let len = usize::try_from(len).map_err(|_| io::ErrorKind::StorageFull)?;
            inner.content(self.number)?.set_len(len);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|inner| inner.sync(self.number))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|inner| {
            let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::StorageFull)?;
            inner.content(self.number)?.write(offset, data);
            Ok(())
        })
    }

    fn close(&self) -> io::Result<()> {
        self.with(|inner| {
            inner.open.retain(|number| *number != self.number);
            Ok(())
        })
    }
}
