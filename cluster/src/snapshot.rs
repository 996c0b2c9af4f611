//! A snapshot as one file: magic, header, state, SHA-256 over all of it.
//!
//! The same bytes travel to a peer. Encoding and checking is pure; `SnapshotDir` below keeps the
//! files: written aside, synced, renamed, directory synced, the newest two kept.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checked::{self, Magic, Unchecked};
use crate::codec::{self, CodecError};
use crate::disk::Disk;
use crate::dto::SnapshotMetaDto;
use crate::group::Group;
use crate::state::State;
use crate::types::SnapshotMeta;

/// What every snapshot begins with.
const MAGIC: &Magic = b"TRIGSNAP";

/// Largest snapshot read or received, in bytes; every table of the state is bounded far below.
pub(crate) const MAX_SNAPSHOT: usize = 256 << 20;

/// Files kept: the newest, and one to fall back to.
const KEPT: usize = 2;

/// Why bytes are not a usable snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("not a snapshot: wrong magic or too short")]
    Magic,
    #[error("checksum does not match, the file is damaged")]
    Checksum,
    #[error("belongs to group {found}, this is {expected}")]
    Foreign { found: Group, expected: Group },
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<Unchecked> for SnapshotError {
    fn from(error: Unchecked) -> Self {
        match error {
            Unchecked::Magic => Self::Magic,
            Unchecked::Sum => Self::Checksum,
        }
    }
}

/// A decoded snapshot.
pub(crate) struct Content {
    pub(crate) meta: SnapshotMeta,
    pub(crate) state: State,
}

#[derive(Serialize)]
struct BodyRef<'a> {
    group: Group,
    meta: SnapshotMetaDto,
    state: &'a State,
}

#[derive(Deserialize)]
struct Body {
    group: Group,
    meta: SnapshotMetaDto,
    state: State,
}

/// The bytes of a snapshot.
pub(crate) fn encode(
    group: Group,
    meta: &SnapshotMeta,
    state: &State,
) -> Result<Vec<u8>, SnapshotError> {
    let body = codec::encode(&BodyRef { group, meta: meta.into(), state })?;
    Ok(checked::wrap(MAGIC, &body))
}

/// Checks and reads the bytes of a snapshot of this group.
pub(crate) fn decode(group: Group, bytes: &[u8]) -> Result<Content, SnapshotError> {
    let body: Body = codec::decode("snapshot", checked::unwrap(MAGIC, bytes)?)?;
    if body.group != group {
        return Err(SnapshotError::Foreign { found: body.group, expected: group });
    }
    Ok(Content { meta: body.meta.into(), state: body.state })
}

/// The files of one node.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotDir {
    disk: Disk,
    dir: PathBuf,
    group: Group,
}

impl SnapshotDir {
    /// The directory inside `state_dir`, made when missing.
    pub(crate) fn open(disk: Disk, dir: &Path, group: Group) -> std::io::Result<Self> {
        let dir = dir.join("snapshots");
        disk.create_dir(&dir)?;
        Ok(Self { disk, dir, group })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn group(&self) -> Group {
        self.group
    }

    /// Files from the newest to the oldest; names begin with the log index.
    pub(crate) fn files(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut files = self.disk.list(&self.dir)?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "snapshot"));
        files.reverse();
        Ok(files)
    }

    /// Reads and checks one file.
    pub(crate) fn read(&self, path: &Path) -> Result<(Vec<u8>, Content), SnapshotError> {
        let bytes = self.disk.read(path, MAX_SNAPSHOT as u64)?;
        let content = decode(self.group, &bytes)?;
        Ok((bytes, content))
    }

    /// Stores a snapshot so that a power cut leaves either all of it or nothing, then removes
    /// what is older than the one before it.
    pub(crate) fn store(&self, meta: &SnapshotMeta, bytes: &[u8]) -> std::io::Result<()> {
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let term = meta.last_log_id.map_or(0, |id| id.leader_id.term);
        let path = self.dir.join(format!("{index:020}-{term:010}.snapshot"));
        // Records hold the secrets of ExApps: nobody else may read it.
        self.disk.store(&path, bytes)?;
        for old in self.files()?.into_iter().skip(KEPT) {
            self.disk.remove(&old)?;
        }
        Ok(())
    }

    /// Moves a damaged file out of the way, kept for whoever wants to look at it.
    pub(crate) fn set_aside(&self, path: &Path) {
        let aside = path.with_extension("damaged");
        if let Err(error) = self.disk.rename(path, &aside) {
            tracing::warn!(path = %path.display(), %error, "damaged snapshot cannot be moved aside");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_byte_and_any_cut_is_noticed() {
        let bytes = encode(Group::sample(1), &SnapshotMeta::default(), &State::default()).unwrap();
        assert!(decode(Group::sample(1), &bytes).is_ok());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(decode(Group::sample(1), &changed).is_err(), "byte {at}");
            assert!(decode(Group::sample(1), &bytes[..at]).is_err(), "cut at {at}");
        }
        let foreign = decode(Group::sample(2), &bytes).err().unwrap().to_string();
        assert!(foreign.contains("belongs to group"), "{foreign}");
    }

    #[test]
    fn a_snapshot_of_an_earlier_release_is_still_read() {
        let golden = include_str!("../tests/golden/snapshot.hex").trim_end();
        let bytes: Vec<_> = (0..golden.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&golden[at..at + 2], 16).unwrap())
            .collect();
        let (meta, state) = sample();
        assert_eq!(encode(Group::sample(1), &meta, &state).unwrap(), bytes, "and written alike");
        let content = decode(Group::sample(1), &bytes).unwrap();
        assert_eq!(content.state, state);
    }

    fn sample() -> (SnapshotMeta, State) {
        use crate::command::{Command, SoftBatch, SoftPart};
        use crate::record::{Strike, Tenant};
        use crate::types::{LogId, Membership, StoredMembership};
        use std::collections::BTreeSet;

        let mut state = State::default();
        let ticket = crate::state::Ticket { node: 2, boot: 3, seq: 4 };
        let command = Command::DeleteExApp { tenant: Tenant::new("second"), id: "app".into() };
        let command = std::sync::Arc::new(command);
        state.apply_once(&crate::types::Proposal { ticket: Some(ticket), at: 899, command });
        let strike = Strike { node: 1, address: [192, 0, 2, 7].into(), at: 900 };
        let part =
            SoftPart { origin: 1, boot: 2, seq: 3, strikes: vec![strike], ..SoftPart::default() };
        state.apply(&Command::Soft(SoftBatch { now: 1000, parts: vec![part] }));
        let id = |index| LogId::new(openraft::CommittedLeaderId::new(5, 1), index);
        let voters = BTreeSet::from([1, 2, 3]);
        let membership = Membership::new(vec![voters.clone()], voters);
        let meta = SnapshotMeta {
            last_log_id: Some(id(300)),
            last_membership: StoredMembership::new(Some(id(0)), membership),
            snapshot_id: "300-5-1".into(),
        };
        (meta, state)
    }

    #[test]
    fn only_the_newest_two_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = SnapshotDir::open(Disk::Files, dir.path(), Group::sample(1)).unwrap();
        for index in [5, 900, 10_000] {
            let last = openraft::LogId::new(openraft::CommittedLeaderId::new(1, 1), index);
            let meta = SnapshotMeta { last_log_id: Some(last), ..SnapshotMeta::default() };
            let bytes = encode(Group::sample(1), &meta, &State::default()).unwrap();
            snapshots.store(&meta, &bytes).unwrap();
        }
        let indexes: Vec<_> = snapshots
            .files()
            .unwrap()
            .iter()
            .map(|path| snapshots.read(path).unwrap().1.meta.last_log_id.unwrap().index)
            .collect();
        assert_eq!(indexes, [10_000, 900]);
    }
}
