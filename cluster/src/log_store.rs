//! The log, the vote and the commit mark on disk, as the engine wants them.
//!
//! Reads come from memory (the decoded tail) or a read transaction; all writes go through
//! `log_writer`, one after the other. A read or write that fails, or an entry this build cannot decode,
//! raises [`Fatal`](crate::fatal::Fatal): the engine must never see a gap.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader};
use redb::{Database, ReadableDatabase};
use tokio::sync::oneshot;

use crate::codec;
use crate::dto::{EntryDto, LogIdDto, VoteDto};
use crate::log_file::{LOG, META, Opened, key};
use crate::log_writer::{LogDatabase, Write, Writer};
use crate::space::Storage;
use crate::types::{Entry, LogId, StorageError, StorageIOError, Types, Vote};

/// Entries kept decoded: the leader reads each one again to apply and to replicate it. What a
/// member that lags needs besides comes from disk.
const TAIL: usize = 1024;

/// Bytes of encoded entries the tail stands for; decoded they take some three times as much.
const TAIL_BYTES: usize = 1 << 20;

/// Bytes of entries handed to replication at once, so that a message stays below the frame limit.
const BATCH_BYTES: usize = 2 << 20;

/// The store; clones are readers of the same log.
#[derive(Clone)]
pub(crate) struct LogStore {
    database: Arc<LogDatabase>,
    storage: Storage,
    tail: Arc<RwLock<Tail>>,
    writer: Writer,
    /// Appends handed to the writer so far.
    appends: u64,
    vote: Option<Vote>,
    committed: Option<LogId>,
}

/// The newest entries, without a gap, and the two ends of the log. What is not on disk yet is
/// always among them, however much that is.
#[derive(Default)]
struct Tail {
    purged: Option<LogId>,
    /// Index of the first entry; of the next one while the log is empty.
    first: u64,
    last: Option<LogId>,
    entries: VecDeque<Kept>,
    bytes: usize,
}

/// An entry of the tail.
struct Kept {
    entry: Entry,
    /// Of its encoded form, in bytes.
    size: usize,
    /// The append that brought it.
    append: u64,
}

impl LogStore {
    /// Takes over an opened file.
    pub(crate) fn new(storage: Storage, opened: Opened) -> Self {
        let database = Arc::new(LogDatabase::new(opened.path, opened.database));
        let tail = Tail {
            purged: opened.purged,
            first: opened.purged.map_or(0, |id| id.index + 1),
            last: opened.last,
            ..Tail::default()
        };
        Self {
            writer: Writer::new(storage.clone(), Arc::clone(&database)),
            database,
            storage,
            tail: Arc::new(RwLock::new(tail)),
            appends: 0,
            vote: opened.vote,
            committed: opened.committed,
        }
    }

    /// Ends once the engine, its readers and the writer have let go of the file.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + use<> {
        let mut open = self.database.open.subscribe();
        async move { while open.changed().await.is_ok() {} }
    }

    async fn written(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Write,
    ) -> Result<(), String> {
        let (done, written) = oneshot::channel();
        self.storage.disk.ready().await;
        self.writer.send(make(done))?;
        written.await.unwrap_or_else(|_| Err("the log writer has stopped".to_owned()))
    }

    /// The entries of `[start, end)` that exist, up to a budget of bytes.
    async fn read(&self, wanted: (u64, u64), budget: usize) -> Result<Vec<Entry>, StorageError> {
        loop {
            let (start, end) = {
                let tail = self.tail();
                let (start, end) = tail.clamp(wanted);
                if start == end {
                    return Ok(Vec::new());
                }
                if let Some(entries) = tail.range(start, end, budget) {
                    return Ok(entries);
                }
                (start, end)
            };
            let database = Arc::clone(&self.database);
            let read = self.storage.disk.work(move || read_disk(&database, start, end, budget));
            let found = read.await.unwrap_or_else(|error| Err(error.to_string()));
            match found {
                Ok(entries) => return Ok(entries),
                // Replication of a leader that just lost its place may read what is truncated or
                // purged in the same moment; then less exists now.
                Err(_) if self.tail().clamp(wanted) != (start, end) => {}
                Err(text) => {
                    let text = format!("log entries {start} to {end} cannot be read: {text}");
                    self.storage.fatal.raise(text.clone());
                    return Err(StorageIOError::read_logs(AnyError::error(text)).into());
                }
            }
        }
    }

    fn tail(&self) -> std::sync::RwLockReadGuard<'_, Tail> {
        self.tail.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail_mut(&self) -> std::sync::RwLockWriteGuard<'_, Tail> {
        self.tail.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_disk(
    database: &LogDatabase,
    start: u64,
    end: u64,
    budget: usize,
) -> Result<Vec<Entry>, String> {
    let transaction = database.with(ReadableDatabase::begin_read);
    let transaction = transaction.ok_or("the log is closed")?.map_err(|e| e.to_string())?;
    let log = transaction.open_table(LOG).map_err(|e| e.to_string())?;
    let mut entries = Vec::new();
    let mut bytes = 0;
    for (expected, item) in (start..end).zip(log.range(start..end).map_err(|e| e.to_string())?) {
        let (index, value) = item.map_err(|e| e.to_string())?;
        if index.value() != expected {
            return Err(format!("entry {expected} is missing"));
        }
        bytes += value.value().len();
        if bytes > budget && !entries.is_empty() {
            return Ok(entries);
        }
        let entry: EntryDto = codec::decode("log entry", value.value())
            .map_err(|error| format!("entry {expected}: {error}"))?;
        entries.push(entry.into());
    }
    let found = entries.len() as u64;
    if found < end - start {
        return Err(format!("entry {} is missing", start + found));
    }
    Ok(entries)
}

impl Tail {
    /// The part of `[start, end)` that fits the budget, if memory holds its beginning.
    fn range(&self, start: u64, end: u64, budget: usize) -> Option<Vec<Entry>> {
        let first = self.entries.front()?.entry.log_id.index;
        let skip = usize::try_from(start.checked_sub(first)?).ok()?;
        let take = usize::try_from(end.saturating_sub(start)).ok()?;
        if skip + take > self.entries.len() {
            return None;
        }
        let mut bytes = 0;
        let fits = self.entries.range(skip..skip + take).enumerate().take_while(|(n, kept)| {
            bytes += kept.size;
            bytes <= budget || *n == 0
        });
        Some(fits.map(|(_, kept)| kept.entry.clone()).collect())
    }

    fn push(&mut self, kept: Kept) {
        if self.last == self.purged {
            self.first = kept.entry.log_id.index;
        }
        self.last = Some(kept.entry.log_id);
        self.bytes += kept.size;
        self.entries.push_back(kept);
    }

    /// Drops the oldest beyond the limits, if the append that brought them is among the `written`
    /// first ones.
    fn trim(&mut self, written: u64) {
        while (self.entries.len() > TAIL || self.bytes > TAIL_BYTES)
            && self.entries.front().is_some_and(|kept| kept.append <= written)
        {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(kept) = self.entries.pop_front() {
            self.bytes -= kept.size;
        }
    }

    /// Drops entries from `from` on; `last` is what stands before them.
    fn truncate(&mut self, from: u64, last: Option<LogId>) {
        while self.entries.back().is_some_and(|kept| kept.entry.log_id.index >= from) {
            if let Some(kept) = self.entries.pop_back() {
                self.bytes -= kept.size;
            }
        }
        self.last = last;
    }

    fn purge(&mut self, upto: LogId) {
        while self.entries.front().is_some_and(|kept| kept.entry.log_id.index <= upto.index) {
            self.drop_first();
        }
        self.purged = Some(upto);
        self.first = upto.index + 1;
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = Some(upto);
        }
    }

    /// The part of `[start, end)` that exists.
    fn clamp(&self, (start, end): (u64, u64)) -> (u64, u64) {
        let next = self.last.map_or(0, |id| id.index + 1);
        let start = start.max(self.first);
        (start, end.min(next).max(start))
    }
}

/// Any range as `[start, end)`.
fn half_open(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(at) => *at,
        Bound::Excluded(at) => at.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(at) => at.saturating_add(1),
        Bound::Excluded(at) => *at,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read(half_open(&range), usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read((start, end), BATCH_BYTES).await
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let tail = self.tail();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let failed = |text: String| StorageIOError::write_vote(AnyError::error(text));
        let bytes = codec::encode(&VoteDto::from(*vote)).map_err(|e| failed(e.to_string()))?;
        self.written(|done| Write::Meta { key: key::VOTE, bytes, done }).await.map_err(failed)?;
        self.vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.vote)
    }

    /// Not written at once: it rides on the next append, and losing it only means waiting for a
    /// leader to tell again what is committed.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.committed.min(self.tail().last))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let failed = |text: String| StorageIOError::write_logs(AnyError::error(text));
        self.storage.disk.ready().await;
        let mut encoded = Vec::new();
        for entry in entries {
            let bytes =
                codec::encode(&EntryDto::from(&entry)).map_err(|e| failed(e.to_string()))?;
            encoded.push((entry, bytes));
        }
        let mut rows = Vec::with_capacity(encoded.len());
        self.appends += 1;
        let append = self.appends;
        {
            let mut tail = self.tail_mut();
            tail.trim(self.database.written.load(Ordering::Acquire));
            for (entry, bytes) in encoded {
                let size = bytes.len();
                rows.push((entry.log_id.index, bytes));
                tail.push(Kept { entry, size, append });
            }
        }
        let committed = match self.committed {
            Some(id) => {
                Some(codec::encode(&LogIdDto::from(id)).map_err(|e| failed(e.to_string()))?)
            }
            None => None,
        };
        self.writer
            .send(Write::Append { rows, append, committed, done: callback })
            .map_err(failed)?;
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let from = log_id.index;
        let before = match from.checked_sub(1) {
            Some(before) => self.try_get_log_entries(before..from).await?.first().map(|e| e.log_id),
            None => None,
        };
        {
            let mut tail = self.tail_mut();
            let last = before.or(tail.purged);
            tail.truncate(from, last);
        }
        self.written(|done| Write::Truncate { from, done })
            .await
            .map_err(|text| StorageIOError::write_logs(AnyError::error(text)).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let failed = |text: String| StorageIOError::write_logs(AnyError::error(text));
        let mark = codec::encode(&LogIdDto::from(log_id)).map_err(|e| failed(e.to_string()))?;
        self.tail_mut().purge(log_id);
        self.written(|done| Write::Purge { upto: log_id.index, mark, done })
            .await
            .map_err(failed)?;
        Ok(())
    }
}

/// Bytes of one meta row, if there.
pub(crate) fn meta(database: &Database, key: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(META)?;
    Ok(table.get(key)?.map(|value| value.value().to_vec()))
}

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, EntryPayload};

    use super::*;

    fn kept(index: u64, size: usize, append: u64) -> Kept {
        let log_id = LogId::new(CommittedLeaderId::new(1, 1), index);
        Kept { entry: Entry { log_id, payload: EntryPayload::Blank }, size, append }
    }

    fn held(tail: &Tail) -> Vec<u64> {
        tail.entries.iter().map(|kept| kept.entry.log_id.index).collect()
    }

    /// Whoever asks for them finds them nowhere else.
    #[test]
    fn entries_that_are_not_on_disk_stay_whatever_they_weigh() {
        let mut tail = Tail::default();
        for index in 0..4 {
            tail.push(kept(index, TAIL_BYTES, index + 1));
        }
        tail.trim(0);
        assert_eq!(held(&tail), [0, 1, 2, 3], "the disk is slow");
        tail.trim(2);
        assert_eq!(held(&tail), [2, 3], "two appends are written");
        tail.trim(4);
        assert_eq!((held(&tail), tail.bytes), (vec![3], TAIL_BYTES));
    }

    #[test]
    fn the_tail_is_bounded_by_entries_too() {
        let mut tail = Tail::default();
        for index in 0..2 * TAIL as u64 {
            tail.push(kept(index, 1, index));
            tail.trim(index);
        }
        assert_eq!((tail.entries.len(), tail.bytes), (TAIL, TAIL));
    }
}
