//! Applies the log to the [`State`], shows every step to readers, and makes snapshots.
//!
//! The state lives in memory only: at start it is the newest sound snapshot plus the log up to
//! what was committed.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder};

use crate::command::Reply;
use crate::error::{REJOIN, StartError};
use crate::group::Group;
use crate::log_file::unusable;
use crate::mutation::mutated;
use crate::snapshot::{self, SnapshotDir};
use crate::space::{Space, Storage, is_no_room};
use crate::state::State;
use crate::types::{
    Entry, LogId, Snapshot, SnapshotMeta, StorageError, StorageIOError, StoredMembership, Types,
};
use crate::view::View;

/// The state machine of one node.
pub(crate) struct StateStore {
    state: State,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: SnapshotDir,
    view: Arc<View>,
    storage: Storage,
    forgoes_sessions: bool,
}

impl StateStore {
    /// Starts from the newest sound snapshot; `purged` is where the log begins.
    ///
    /// # Errors
    /// No snapshot is sound that reaches as far as the beginning of the log: the records between
    /// are lost on this node.
    pub(crate) fn open(
        storage: Storage,
        dir: &Path,
        group: Group,
        purged: Option<LogId>,
        view: Arc<View>,
    ) -> Result<Self, StartError> {
        let snapshots = SnapshotDir::open(storage.disk.clone(), dir, group)
            .map_err(|error| unusable(&dir.join("snapshots"), error))?;
        let files = snapshots.files().map_err(|error| unusable(snapshots.path(), error))?;
        let mut store = Self {
            state: State::default(),
            last_applied: None,
            membership: StoredMembership::default(),
            snapshots,
            view,
            storage,
            forgoes_sessions: false,
        };
        let mut damaged = Vec::new();
        for path in files {
            match store.snapshots.read(&path) {
                Ok((_, content)) => {
                    store.adopt(content);
                    break;
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "snapshot cannot be used");
                    damaged.push(path);
                }
            }
        }
        if store.last_applied < purged {
            let needed = purged.map_or(0, |id| id.index);
            let found = store.last_applied.map_or("none".to_owned(), |id| id.index.to_string());
            return Err(unusable(
                store.snapshots.path(),
                format!(
                    "no sound snapshot reaches the beginning of the log (needed: entry {needed}, \
                     found: {found}). To recover, {REJOIN}"
                ),
            ));
        }
        for path in damaged {
            store.snapshots.set_aside(&path);
        }
        store.publish();
        Ok(store)
    }

    /// For a node that is never asked for a session.
    #[must_use]
    pub(crate) fn without_sessions(mut self) -> Self {
        self.forgoes_sessions = true;
        self.state.forgo_sessions();
        self
    }

    fn adopt(&mut self, content: snapshot::Content) {
        self.last_applied = content.meta.last_log_id;
        self.membership = content.meta.last_membership;
        self.state = content.state;
        if self.forgoes_sessions {
            self.state.forgo_sessions();
        }
    }

    /// The parts it is made of: the state and the last entry in it.
    pub(crate) fn into_parts(self) -> (State, Option<LogId>) {
        (self.state, self.last_applied)
    }

    /// A group that goes on from another one is empty for a moment, and readers go on with what
    /// they have.
    fn publish(&self) {
        if self.snapshots.group().generation > 1 && !self.state.is_founded() {
            return;
        }
        let applied = self.last_applied.map_or(0, |id| id.index + 1);
        self.view.publish(self.state.clone(), Some(self.snapshots.group()), applied);
    }

    fn builder(&self) -> Builder {
        let last = self.last_applied;
        let (index, term, node) =
            last.map_or((0, 0, 0), |id| (id.index, id.leader_id.term, id.leader_id.node_id));
        Builder {
            meta: SnapshotMeta {
                last_log_id: last,
                last_membership: self.membership.clone(),
                snapshot_id: format!("{index}-{term}-{node}"),
            },
            state: if mutated!(SnapshotEmpty) { State::default() } else { self.state.clone() },
            snapshots: self.snapshots.clone(),
            storage: self.storage.clone(),
        }
    }
}

/// Makes one snapshot of the moment it was created in; applying goes on meanwhile.
pub(crate) struct Builder {
    meta: SnapshotMeta,
    state: State,
    snapshots: SnapshotDir,
    storage: Storage,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let (meta, state, snapshots) =
            (self.meta.clone(), self.state.clone(), self.snapshots.clone());
        let space = self.storage.space.clone();
        let made = stored(&self.storage, "the snapshot cannot be written", move || {
            let bytes = snapshot::encode(snapshots.group(), &meta, &state)
                .map_err(|error| error.to_string())?;
            keep(&snapshots, &space, &meta, &bytes)?;
            tracing::info!(
                index = meta.last_log_id.map(|id| id.index),
                bytes = bytes.len(),
                "snapshot stored"
            );
            Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) })
        });
        made.await.map_err(|text| {
            let signature = Some(self.meta.signature());
            StorageIOError::write_snapshot(signature, AnyError::error(text)).into()
        })
    }
}

impl RaftStateMachine<Types> for StateStore {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Reply>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut replies = Vec::new();
        self.state.begin(self.view.local());
        for entry in entries {
            self.last_applied = Some(entry.log_id);
            replies.push(match entry.payload {
                EntryPayload::Blank => Reply::Done,
                EntryPayload::Normal(proposal) => self.state.apply_once(&proposal),
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Reply::Done
                }
            });
        }
        self.publish();
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.builder()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let bytes = snapshot.into_inner();
        let (snapshots, expected) = (self.snapshots.clone(), meta.clone());
        let space = self.storage.space.clone();
        let content = stored(&self.storage, "the received snapshot cannot be stored", move || {
            let content =
                snapshot::decode(snapshots.group(), &bytes).map_err(|error| error.to_string())?;
            if content.meta.last_log_id != expected.last_log_id {
                return Err("it covers another part of the log than announced".to_owned());
            }
            keep(&snapshots, &space, &content.meta, &bytes)?;
            Ok(content)
        });
        let content = content.await.map_err(|text| {
            StorageError::from(StorageIOError::write_snapshot(
                Some(meta.signature()),
                AnyError::error(text),
            ))
        })?;
        tracing::info!(index = meta.last_log_id.map(|id| id.index), "snapshot received");
        self.adopt(content);
        self.publish();
        Ok(())
    }

    /// From disk, because that is what a later start depends on. A file that went bad since is
    /// made again from memory.
    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let snapshots = self.snapshots.clone();
        let read = self.storage.disk.work(move || {
            let path = snapshots.files()?.into_iter().next();
            path.map(|path| snapshots.read(&path)).transpose()
        });
        match read.await {
            Ok(Ok(found)) => Ok(found.map(|(bytes, content)| Snapshot {
                meta: content.meta,
                snapshot: Box::new(Cursor::new(bytes)),
            })),
            Ok(Err(error)) => {
                tracing::error!(%error, "stored snapshot cannot be read, making it again");
                self.builder().build_snapshot().await.map(Some)
            }
            Err(error) => Err(StorageIOError::read_snapshot(None, AnyError::new(&error)).into()),
        }
    }
}

/// Stores a snapshot, with the ballast's room if there is no other.
fn keep(
    snapshots: &SnapshotDir,
    space: &Space,
    meta: &SnapshotMeta,
    bytes: &[u8],
) -> Result<(), String> {
    let mut stored = snapshots.store(meta, bytes);
    if stored.as_ref().is_err_and(is_no_room) && space.make_room() {
        stored = snapshots.store(meta, bytes);
    }
    stored.map_err(|error| error.to_string())
}

/// Disk work off the engine's tasks; a failure stops the node.
async fn stored<T: Send + 'static>(
    storage: &Storage,
    what: &str,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let result = match storage.disk.work(work).await {
        Ok(result) => result,
        Err(error) => Err(error.to_string()),
    };
    result.map_err(|error| {
        let text = format!("{what}: {error}; check the disk of state_dir");
        storage.fatal.raise(text.clone());
        text
    })
}

#[cfg(test)]
mod tests;
