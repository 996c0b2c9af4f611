//! A node out of a backup: the first and only member of a new generation.
//!
//! The state is put where a snapshot of the new generation would be, with one voter and no log
//! behind it, so that a start finds nothing unusual. What must not come back is left behind: other
//! members (they join again, under new numbers), tokens (some may have been spent since), tunnels
//! and tickets. Numbers go on where they were, so none is given twice.
//!
//! The passport is written last. A restore that was cut off has changed nothing that counts and
//! is simply done again.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use openraft::CommittedLeaderId;

use crate::backup::{Backup, BackupError};
use crate::config::Role;
use crate::disk::Disk;
use crate::error::StartError;
use crate::founding::{self, AUTHORITY_KEY, FoundError, random_lineage};
use crate::identity::{Authority, AuthorityError};
use crate::log_file;
use crate::pair::Parent;
use crate::passport::{Passport, PassportError, Seed};
use crate::record::{FEATURE, Member};
use crate::seal::{Kek, NoKek, Secret};
use crate::snapshot::{self, SnapshotDir};
use crate::types::{LogId, Membership, SnapshotMeta, StoredMembership, Vote, raft_id};

/// Where the restored node's term begins; its first election is for the one after.
const TERM: u64 = 1;

/// What the restored node is to be.
#[derive(Clone, Debug)]
pub struct Restoring {
    /// What people will call it.
    pub node_name: String,
    /// Where other nodes will reach it; none for a cluster that stays alone.
    pub advertise: Option<SocketAddr>,
    /// The key of the secrets, if neither the backup nor the directory has it.
    pub kek: Option<Secret>,
    /// Replaces what a member of the same cluster left in the directory.
    pub force: bool,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file.
    #[error("the backup cannot be used")]
    Backup(#[from] BackupError),
    /// The directory is a member's of the same cluster.
    #[error(
        "{}: belongs to node {node:?} of this cluster; with --force it becomes the only member of \
         a new generation and its present log is left behind", dir.display()
    )]
    Occupied {
        /// The directory.
        dir: PathBuf,
        /// Name of its node.
        node: String,
    },
    /// The directory is a member's of another cluster.
    #[error(
        "{}: belongs to node {node:?} of another cluster, {cluster:?}; use another directory",
        dir.display()
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// Name of its node.
        node: String,
        /// Name of its cluster.
        cluster: String,
    },
    /// Nobody has the key.
    #[error(
        "the secrets in the backup cannot be opened: the key is neither in it (trigon backup \
         --with-keys) nor in the directory; give the file `kek` of a load balancer of cluster \
         {cluster:?} with --kek"
    )]
    NoKey {
        /// Name of the cluster.
        cluster: String,
    },
    /// The key is that of another cluster.
    #[error("the key does not open the secrets in the backup; it is that of another cluster")]
    WrongKey,
    /// The cluster the backup was taken from had not been founded.
    #[error("the backup holds no cluster: it was taken before the first node led")]
    Unfounded,
    /// The name, the address or the disk.
    #[error(transparent)]
    Found(#[from] FoundError),
    /// The passport.
    #[error(transparent)]
    Passport(#[from] PassportError),
    /// A certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The new log.
    #[error(transparent)]
    Log(#[from] StartError),
    /// The new snapshot.
    #[error("{}: {text}", path.display())]
    Snapshot {
        /// Its directory.
        path: PathBuf,
        /// Why it was not stored.
        text: String,
    },
    /// Disk or permissions.
    #[error("{}: cannot be used", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Makes `dir` the directory of the only member of a new generation with the state of a backup.
/// Its node must not run.
///
/// # Errors
/// [`RestoreError`] names what to do instead; nothing that counts was changed.
pub fn restore(dir: &Path, bytes: &[u8], wish: &Restoring) -> Result<Passport, RestoreError> {
    let disk = Disk::Files;
    let backup = Backup::decode(bytes)?;
    founding::check_node_name(&wish.node_name)?;
    let before = predecessor(dir, &backup, wish.force)?;
    let kek = key(&disk, dir, &backup, wish)?;
    let signer = backup.state.signing_authority().ok_or(RestoreError::Unfounded)?;
    let pem = kek.open(AUTHORITY_KEY, &signer.key).ok_or(RestoreError::WrongKey)?;
    let pem = std::str::from_utf8(pem.expose()).map_err(|_| RestoreError::WrongKey)?;
    let authority =
        Authority::from_pem(&backup.group.cluster.to_string(), &signer.certificate, pem)?;

    let (number, incarnation) = match &before {
        Some(passport) => (passport.number, passport.incarnation + 1),
        None => (backup.state.next_number(), 0),
    };
    let member = Member {
        id: number,
        name: wish.node_name.clone(),
        role: Role::Node,
        address: wish.advertise,
        incarnation,
        feature: FEATURE,
        since: backup.made_at,
        papers: None,
    };
    let newest = before.as_ref().map_or(backup.group, |passport| passport.group.max(backup.group));
    let group = newest.next(random_lineage());
    let parent = Parent { group: backup.group, entries: backup.applied };
    let state = backup.state.begun_again(member, group.generation, parent);
    let me = raft_id(number, incarnation);

    let path = group.dir(dir);
    let at = LogId::new(CommittedLeaderId::new(TERM, me), 1);
    log_file::make_after(&disk, &path, group, me, Vote::new(TERM, me), at)?;
    let membership = Membership::new(vec![[me].into()], ());
    let meta = SnapshotMeta {
        last_log_id: Some(at),
        last_membership: StoredMembership::new(Some(at), membership),
        snapshot_id: format!("restored-{}", group.generation),
    };
    let stored = SnapshotDir::open(disk.clone(), &path, group)
        .map_err(|error| error.to_string())
        .and_then(|snapshots| {
            let bytes = snapshot::encode(group, &meta, &state).map_err(|e| e.to_string())?;
            snapshots.store(&meta, &bytes).map_err(|e| e.to_string())
        });
    stored.map_err(|text| RestoreError::Snapshot { path, text })?;

    let io = |source| RestoreError::Io { path: dir.to_owned(), source };
    kek.store(&disk, dir).map_err(io)?;
    founding::issue(&disk, dir, &authority, number)?;
    let seed =
        Seed { number, name: wish.node_name.clone(), role: Role::Node, address: wish.advertise };
    let mut passport = Passport::new(group, backup.cluster_name, seed);
    passport.incarnation = incarnation;
    passport.boots = before.map_or(0, |passport| passport.boots);
    passport.begun = true;
    passport.store(dir)?;
    Ok(passport)
}

/// The passport that is replaced.
fn predecessor(dir: &Path, backup: &Backup, force: bool) -> Result<Option<Passport>, RestoreError> {
    let Some(found) = Passport::load(dir)? else { return Ok(None) };
    let dir = dir.to_owned();
    if found.group.cluster != backup.group.cluster {
        let (node, cluster) = (found.node_name, found.cluster_name);
        return Err(RestoreError::Foreign { dir, node, cluster });
    }
    if !force {
        return Err(RestoreError::Occupied { dir, node: found.node_name });
    }
    // A witness had no key and becomes a load balancer; its number goes with it.
    Ok(Some(found))
}

fn key(disk: &Disk, dir: &Path, backup: &Backup, wish: &Restoring) -> Result<Kek, RestoreError> {
    if let Some(bytes) = &wish.kek {
        return Kek::from_bytes(bytes.expose()).map_err(|NoKek| RestoreError::WrongKey);
    }
    if let Some(kek) = backup.kek()? {
        return Ok(kek);
    }
    let io = |source| RestoreError::Io { path: dir.to_owned(), source };
    Kek::load(disk, dir)
        .map_err(io)?
        .ok_or_else(|| RestoreError::NoKey { cluster: backup.cluster_name.clone() })
}
