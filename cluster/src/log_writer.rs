//! The one who writes the log file: every write is a durable transaction, in the order the engine
//! asked for. On a disk that waits it is a thread, on one that does not it writes at once.
//!
//! After a failed write nothing else is written: what is on disk is then unknown, and only a
//! restart can find out.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use openraft::storage::LogFlushed;
use redb::{Database, Durability, WriteTransaction};
use tokio::sync::{oneshot, watch};

use crate::disk::Disk;
use crate::log_file::{LOG, META, key};
use crate::mutation::mutated;
use crate::space::{Storage, is_no_room};
use crate::types::Types;

type Done = oneshot::Sender<Result<(), String>>;

/// The open file. Fields are dropped in order: whoever watches `open` learns of the end only
/// after the file is closed.
pub(crate) struct LogDatabase {
    /// None only after it could not be opened again.
    database: RwLock<Option<Database>>,
    path: PathBuf,
    /// The last append that can be read back, counted from the start of this process.
    pub(crate) written: AtomicU64,
    pub(crate) open: watch::Sender<()>,
}

impl LogDatabase {
    pub(crate) fn new(path: PathBuf, database: Database) -> Self {
        Self {
            database: RwLock::new(Some(database)),
            path,
            written: AtomicU64::new(0),
            open: watch::Sender::new(()),
        }
    }

    /// Works on the file.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Database) -> T) -> Option<T> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(work)
    }

    /// Closes the file after a write found no room, and opens it again: the database refuses to
    /// go on before.
    fn reopen(&self, disk: &Disk) -> Result<(), redb::Error> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(database.take());
        *database = Some(disk.database(&self.path)?);
        Ok(())
    }
}

/// One transaction.
pub(crate) enum Write {
    /// New entries, the how many-th append it is, and what was committed before them.
    Append {
        rows: Vec<(u64, Vec<u8>)>,
        append: u64,
        committed: Option<Vec<u8>>,
        done: LogFlushed<Types>,
    },
    /// One meta row.
    Meta { key: &'static str, bytes: Vec<u8>, done: Done },
    /// Entries from an index on are gone.
    Truncate { from: u64, done: Done },
    /// Entries up to an index are covered by a snapshot.
    Purge { upto: u64, mark: Vec<u8>, done: Done },
}

/// Where writes are handed in. The thread ends with its last clone.
#[derive(Clone)]
pub(crate) enum Writer {
    /// To the thread.
    Thread(Sender<Write>),
    /// At once, as long as none has failed.
    Immediate(Arc<Mutex<Pen>>),
}

/// Who writes, one at a time.
pub(crate) struct Pen {
    database: Arc<LogDatabase>,
    storage: Storage,
    failed: bool,
}

impl Writer {
    pub(crate) fn new(storage: Storage, database: Arc<LogDatabase>) -> Self {
        let fatal = storage.fatal.clone();
        let is_immediate = storage.disk.is_immediate();
        let mut pen = Pen { database, storage, failed: false };
        if is_immediate {
            return Self::Immediate(Arc::new(Mutex::new(pen)));
        }
        let (queue, writes): (_, Receiver<Write>) = channel();
        let thread = std::thread::Builder::new().name("cluster-log".to_owned());
        let run = move || {
            for write in writes {
                if !pen.write(write) {
                    return;
                }
            }
        };
        if let Err(error) = thread.spawn(run) {
            fatal.raise(format!("the log writer thread cannot be started: {error}"));
        }
        Self::Thread(queue)
    }

    pub(crate) fn send(&self, write: Write) -> Result<(), String> {
        let stopped = || "the log writer has stopped".to_owned();
        match self {
            Self::Thread(queue) => queue.send(write).map_err(|_| stopped()),
            Self::Immediate(pen) => {
                let mut pen = pen.lock().unwrap_or_else(PoisonError::into_inner);
                if pen.failed {
                    return Err(stopped());
                }
                pen.write(write);
                Ok(())
            }
        }
    }
}

impl Pen {
    /// Carries out one write and tells who asked for it. No more may follow after `false`.
    fn write(&mut self, write: Write) -> bool {
        let began = Instant::now();
        let mut result = self.carry_out(&write);
        if let Err(redb::Error::Io(error)) = &result
            && is_no_room(error)
            && self.storage.space.make_room()
        {
            result = self.database.reopen(&self.storage.disk).and_then(|()| self.carry_out(&write));
        }
        let result = result.map_err(|error| {
            let text = format!("the log cannot be written: {error}; check the disk of state_dir");
            self.storage.fatal.raise(text.clone());
            text
        });
        self.failed = result.is_err();
        self.storage.measures.fsync.observe(began.elapsed());
        match write {
            Write::Append { append, done, .. } => {
                if result.is_ok() {
                    self.database.written.store(append, Ordering::Release);
                }
                done.log_io_completed(result.map_err(std::io::Error::other));
            }
            Write::Meta { done, .. } | Write::Truncate { done, .. } | Write::Purge { done, .. } => {
                // The engine may have been dropped meanwhile; the write stands anyway.
                let _ = done.send(result);
            }
        }
        !self.failed
    }

    fn carry_out(&self, write: &Write) -> Result<(), redb::Error> {
        let done = self.database.with(|database| carry_out(database, write));
        done.unwrap_or(Err(redb::Error::DatabaseClosed))
    }
}

fn carry_out(database: &Database, write: &Write) -> Result<(), redb::Error> {
    let mut transaction = begin(database)?;
    if (mutated!(VoteNotSynced) && matches!(write, Write::Meta { .. }))
        || (mutated!(AppendNotSynced) && matches!(write, Write::Append { .. }))
    {
        transaction.set_two_phase_commit(false);
        transaction.set_durability(Durability::None)?;
    }
    {
        let mut log = transaction.open_table(LOG)?;
        let mut meta = transaction.open_table(META)?;
        match write {
            Write::Append { rows, committed, .. } => {
                for (index, bytes) in rows {
                    log.insert(index, bytes.as_slice())?;
                }
                if let Some(bytes) = committed
                    && !mutated!(CommittedForgotten)
                {
                    meta.insert(key::COMMITTED, bytes.as_slice())?;
                }
            }
            Write::Meta { key, bytes, .. } => {
                meta.insert(*key, bytes.as_slice())?;
            }
            Write::Truncate { from, .. } => log.retain_in(*from.., |_, _| false)?,
            Write::Purge { upto, mark, .. } => {
                log.retain_in(..=*upto, |_, _| false)?;
                meta.insert(key::PURGED, mark.as_slice())?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// A transaction that is on disk when its commit returns. Two-phase, because one-phase commits
/// tell torn writes by a checksum that is not cryptographic.
pub(crate) fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}
