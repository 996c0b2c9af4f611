//! The log file: its tables, whom it belongs to, and what is found in it at start.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::disk::Disk;
use crate::dto::{EntryDto, LogIdDto, VoteDto};
use crate::error::{REJOIN, StartError};
use crate::group::Group;
use crate::log_store::meta;
use crate::log_writer::begin;
use crate::space::Storage;
use crate::types::{Entry, LogId, RaftId, Vote, number_of};

/// Log entries by index.
pub(crate) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

/// Single values, see [`key`].
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Rows of [`META`].
pub(crate) mod key {
    pub(crate) const OWNER: &str = "owner";
    pub(crate) const VOTE: &str = "vote";
    pub(crate) const COMMITTED: &str = "committed";
    pub(crate) const PURGED: &str = "purged";
}

/// The file in a node's directory.
const FILE: &str = "raft.redb";

/// Whom the file belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    group: Group,
    id: RaftId,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, incarnation) = (number_of(self.id), self.id >> 32);
        write!(f, "node {number} (incarnation {incarnation}) of cluster {}", self.group)
    }
}

/// An opened log and what stands in it.
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) database: Database,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
}

/// Opens or makes the log of a node in `dir`, which is made when missing.
///
/// # Errors
/// The directory belongs to someone else, is in use, or cannot be read or written.
pub(crate) fn open(
    storage: &Storage,
    dir: &Path,
    group: Group,
    id: RaftId,
) -> Result<Opened, StartError> {
    let disk = &storage.disk;
    disk.create_dir(dir).map_err(|error| unusable(dir, error))?;
    let path = dir.join(FILE);
    let owner = Owner { group, id };
    if !disk.exists(&path).map_err(|error| unusable(&path, error))? {
        make(disk, dir, &path, &owner)?;
    }
    let database = disk.database(&path).map_err(|error| refused(&path, &error))?;
    match row::<Owner>(&database, &path, key::OWNER)? {
        Some(found) if found == owner => {}
        Some(found) => {
            return Err(StartError::Foreign {
                dir: dir.to_owned(),
                found: found.to_string(),
                expected: owner.to_string(),
            });
        }
        None => return Err(damaged(&path, "it does not say whose it is")),
    }

    let purged = row::<LogIdDto>(&database, &path, key::PURGED)?.map(LogId::from);
    let expected = purged.map_or(0, |id| id.index + 1);
    if let Some(first) = first_index(&database).map_err(|error| unusable(&path, error))?
        && first != expected
    {
        return Err(damaged(&path, format!("it begins at entry {first}, expected {expected}")));
    }
    let last = last_entry(&database, &path)?.map(|entry| entry.log_id).or(purged);
    Ok(Opened {
        vote: row::<VoteDto>(&database, &path, key::VOTE)?.map(Vote::from),
        committed: row::<LogIdDto>(&database, &path, key::COMMITTED)?.map(LogId::from),
        purged,
        last,
        database,
        path,
    })
}

/// Makes the log of a node that begins after `at`, which a snapshot covers, and has voted.
pub(crate) fn make_after(
    disk: &Disk,
    dir: &Path,
    group: Group,
    id: RaftId,
    vote: Vote,
    at: LogId,
) -> Result<(), StartError> {
    disk.create_dir(dir).map_err(|error| unusable(dir, error))?;
    let path = dir.join(FILE);
    make(disk, dir, &path, &Owner { group, id })?;
    let database = disk.database(&path).map_err(|error| refused(&path, &error))?;
    let rows = [
        (key::VOTE, codec::encode(&VoteDto::from(vote))),
        (key::PURGED, codec::encode(&LogIdDto::from(at))),
    ];
    for (key, bytes) in rows {
        let bytes = bytes.map_err(|error| unusable(&path, error))?;
        set_row(&database, key, &bytes).map_err(|error| unusable(&path, error))?;
    }
    database.close().map_err(|error| refused(&path, &error))
}

/// Makes an empty log under another name first, so that a power cut leaves no half of one.
fn make(disk: &Disk, dir: &Path, path: &Path, owner: &Owner) -> Result<(), StartError> {
    let aside = path.with_extension("part");
    match disk.remove(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(unusable(&aside, error));
        }
        _ => {}
    }
    let database = disk.database(&aside).map_err(|error| refused(&aside, &error))?;
    let bytes = codec::encode(owner).map_err(|error| unusable(&aside, error))?;
    set_row(&database, key::OWNER, &bytes).map_err(|error| unusable(&aside, error))?;
    database.close().map_err(|error| refused(&aside, &error))?;
    disk.rename(&aside, path)
        .and_then(|()| disk.sync_dir(dir))
        .map_err(|error| unusable(path, error))
}

/// Writes one row, and makes the tables if they are not there.
fn set_row(database: &Database, key: &str, bytes: &[u8]) -> Result<(), redb::Error> {
    let transaction = begin(database)?;
    transaction.open_table(LOG)?;
    transaction.open_table(META)?.insert(key, bytes)?;
    transaction.commit()?;
    Ok(())
}

fn first_index(database: &Database) -> Result<Option<u64>, redb::Error> {
    let table = database.begin_read()?.open_table(LOG)?;
    Ok(table.first()?.map(|(index, _)| index.value()))
}

fn last_entry(database: &Database, path: &Path) -> Result<Option<Entry>, StartError> {
    let read = || -> Result<Option<Vec<u8>>, redb::Error> {
        let table = database.begin_read()?.open_table(LOG)?;
        Ok(table.last()?.map(|(_, value)| value.value().to_vec()))
    };
    let Some(bytes) = read().map_err(|error| unusable(path, error))? else { return Ok(None) };
    let entry: EntryDto =
        codec::decode("last log entry", &bytes).map_err(|error| unreadable(path, error))?;
    Ok(Some(entry.into()))
}

fn row<T: DeserializeOwned>(
    database: &Database,
    path: &Path,
    key: &'static str,
) -> Result<Option<T>, StartError> {
    let bytes = meta(database, key).map_err(|error| match error {
        // Every log is made with its tables: this one was emptied since.
        redb::Error::TableDoesNotExist(_) => damaged(path, "it is empty"),
        error => unusable(path, error),
    })?;
    let Some(bytes) = bytes else { return Ok(None) };
    codec::decode(key, &bytes).map(Some).map_err(|error| unreadable(path, error))
}

fn refused(path: &Path, error: &DatabaseError) -> StartError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => {
            unusable(path, format!("{error}; another trigon runs on this directory; stop it first"))
        }
        DatabaseError::Storage(redb::StorageError::Io(error))
            if error.kind() != io::ErrorKind::InvalidData =>
        {
            unusable(path, format!("{error}; check owner, mode and disk"))
        }
        _ => damaged(path, error),
    }
}

/// A value of another release is no damage.
fn unreadable(path: &Path, error: CodecError) -> StartError {
    match error {
        CodecError::Version { .. } => unusable(path, error),
        error => damaged(path, error),
    }
}

/// The file holds what it must not.
fn damaged(path: &Path, why: impl fmt::Display) -> StartError {
    unusable(path, format!("the log is damaged: {why}. To recover, {REJOIN}"))
}

pub(crate) fn unusable(path: &Path, error: impl fmt::Display) -> StartError {
    StartError::Storage { path: PathBuf::from(path), text: error.to_string() }
}
