//! The log file: its tables, whom it belongs to, and what is found in it at start.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::dto::{EntryDto, LogIdDto, VoteDto};
use crate::error::StartError;
use crate::log_store::meta;
use crate::log_writer::begin;
use crate::record::NodeId;
use crate::types::{Entry, LogId, Vote};

/// Log entries by index.
pub(crate) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

/// Single values, see [`key`].
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Rows of [`META`].
pub(crate) mod key {
    pub(crate) const OWNER: &str = "owner";
    pub(crate) const BOOTS: &str = "boots";
    pub(crate) const VOTE: &str = "vote";
    pub(crate) const COMMITTED: &str = "committed";
    pub(crate) const PURGED: &str = "purged";
}

/// Memory redb may use for pages; the log is read from the decoded tail anyway.
const CACHE_BYTES: usize = 8 << 20;

/// Whom the file belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    cluster: String,
    node: NodeId,
}

/// An opened log and what stands in it.
pub(crate) struct Opened {
    pub(crate) database: Database,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
    /// How often this node has started, this time included.
    pub(crate) boot: u64,
}

/// Opens or makes the log of a node in `dir`, which is made when missing.
///
/// # Errors
/// The directory belongs to someone else, is in use, or cannot be read or written.
pub(crate) fn open(dir: &Path, cluster: &str, node: NodeId) -> Result<Opened, StartError> {
    private_dir(dir)?;
    let path = dir.join("raft.redb");
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(&path)
        .map_err(|error| refused(&path, &error))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .map_err(|error| unusable(&path, error))?;
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| unusable(dir, error))?;
    let broken = |error: redb::Error| unusable(&path, error);

    let transaction = begin(&database).map_err(broken)?;
    transaction.open_table(LOG).map_err(|error| broken(error.into()))?;
    transaction.open_table(META).map_err(|error| broken(error.into()))?;
    transaction.commit().map_err(|error| broken(error.into()))?;

    let owner = Owner { cluster: cluster.to_owned(), node };
    match row::<Owner>(&database, &path, key::OWNER)? {
        Some(found) if found != owner => {
            return Err(StartError::Foreign {
                dir: dir.to_owned(),
                found_node: found.node,
                found_cluster: found.cluster,
                node,
                cluster: owner.cluster,
            });
        }
        _ => {}
    }
    let boot = row::<u64>(&database, &path, key::BOOTS)?.unwrap_or(0) + 1;
    let transaction = begin(&database).map_err(broken)?;
    {
        let mut table = transaction.open_table(META).map_err(|error| broken(error.into()))?;
        for (key, bytes) in
            [(key::OWNER, codec::encode(&owner)), (key::BOOTS, codec::encode(&boot))]
        {
            let bytes = bytes.map_err(|error| unusable(&path, error))?;
            table.insert(key, bytes.as_slice()).map_err(|error| broken(error.into()))?;
        }
    }
    transaction.commit().map_err(|error| broken(error.into()))?;

    let purged = row::<LogIdDto>(&database, &path, key::PURGED)?.map(LogId::from);
    let expected = purged.map_or(0, |id| id.index + 1);
    if let Some(first) = first_index(&database).map_err(broken)?
        && first != expected
    {
        return Err(unusable(
            &path,
            format!("the log begins at entry {first}, expected {expected}; restore a backup"),
        ));
    }
    let last = last_entry(&database, &path)?.map(|entry| entry.log_id).or(purged);
    Ok(Opened {
        vote: row::<VoteDto>(&database, &path, key::VOTE)?.map(Vote::from),
        committed: row::<LogIdDto>(&database, &path, key::COMMITTED)?.map(LogId::from),
        purged,
        last,
        boot,
        database,
    })
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
        codec::decode("last log entry", &bytes).map_err(|error| unusable(path, error))?;
    Ok(Some(entry.into()))
}

fn row<T: DeserializeOwned>(
    database: &Database,
    path: &Path,
    key: &'static str,
) -> Result<Option<T>, StartError> {
    let Some(bytes) = meta(database, key).map_err(|error| unusable(path, error))? else {
        return Ok(None);
    };
    codec::decode(key, &bytes).map(Some).map_err(|error| unusable(path, error))
}

/// Makes a directory only this user may enter.
fn private_dir(dir: &Path) -> Result<(), StartError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| unusable(dir, error))
}

fn refused(path: &Path, error: &DatabaseError) -> StartError {
    let hint = match error {
        DatabaseError::DatabaseAlreadyOpen => {
            "another trigon runs on this directory; stop it first"
        }
        _ => {
            "check owner, mode and disk; if the file is damaged, restore a backup of this node or \
             give this host a new node id with an empty directory"
        }
    };
    unusable(path, format!("{error}; {hint}"))
}

pub(crate) fn unusable(path: &Path, error: impl std::fmt::Display) -> StartError {
    StartError::Storage { path: PathBuf::from(path), text: error.to_string() }
}
