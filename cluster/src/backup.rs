//! A backup: the replicated state of one moment in one file. Sans-io.
//!
//! It holds everything the nodes share, secrets sealed as they are in the log. The key that opens
//! them (KEK) is in it only on request: with it the file is worth as much as the cluster itself,
//! without it a restore needs the `kek` file of a load balancer of that cluster.
//!
//! Not in it: the log, votes and members' certificates. A restore founds a new generation
//! ([`restore`](crate::restore)), so none of them would be of use.

use serde::{Deserialize, Serialize};

use crate::checked::{self, Magic, Unchecked};
use crate::codec::{self, CodecError};
use crate::group::Group;
use crate::record::{Millis, NodeId};
use crate::seal::{Kek, NoKek, Secret};
use crate::state::State;

/// What every backup begins with.
const MAGIC: &Magic = b"TRIGBACK";

/// Largest backup that is read, in bytes.
pub const MAX_BACKUP: u64 = 512 << 20;

/// Why bytes are not a usable backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something else.
    #[error("not a backup of trigon: wrong magic or too short")]
    Magic,
    /// A byte is not what was written.
    #[error("checksum does not match, the file is damaged; take another backup")]
    Checksum,
    /// Another layout.
    #[error("{0}")]
    Layout(String),
    /// The key in it is none.
    #[error("the key in it is damaged")]
    Kek(#[from] NoKek),
}

impl From<CodecError> for BackupError {
    fn from(error: CodecError) -> Self {
        Self::Layout(error.to_string())
    }
}

/// What a backup holds.
#[derive(Clone, Debug)]
pub struct Backup {
    /// The raft group it was taken from.
    pub group: Group,
    /// What people call the cluster.
    pub cluster_name: String,
    /// Wall-clock milliseconds when it was taken.
    pub made_at: Millis,
    /// Number of the member it was taken on.
    pub made_by: NodeId,
    /// Entries applied to the state.
    pub applied: u64,
    /// The state.
    pub state: State,
    /// The key of the secrets, if it was asked for: [`KEK_LEN`](crate::seal::KEK_LEN) bytes.
    pub(crate) kek: Option<Secret>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    group: Group,
    cluster_name: String,
    made_at: Millis,
    made_by: NodeId,
    applied: u64,
    kek: Option<Vec<u8>>,
    state: State,
}

impl Backup {
    /// The bytes of the file.
    ///
    /// # Errors
    /// The state cannot be written down.
    pub fn encode(&self) -> Result<Vec<u8>, BackupError> {
        let body = Body {
            group: self.group,
            cluster_name: self.cluster_name.clone(),
            made_at: self.made_at,
            made_by: self.made_by,
            applied: self.applied,
            kek: self.kek.as_ref().map(|kek| kek.expose().to_vec()),
            state: self.state.clone(),
        };
        Ok(checked::wrap(MAGIC, &codec::encode(&body)?))
    }

    /// Checks and reads the bytes of a file.
    ///
    /// # Errors
    /// [`BackupError`] says what it is instead.
    pub fn decode(bytes: &[u8]) -> Result<Self, BackupError> {
        let body = checked::unwrap(MAGIC, bytes).map_err(|error| match error {
            Unchecked::Magic => BackupError::Magic,
            Unchecked::Sum => BackupError::Checksum,
        })?;
        let body: Body = codec::decode("backup", body)?;
        Ok(Self {
            group: body.group,
            cluster_name: body.cluster_name,
            made_at: body.made_at,
            made_by: body.made_by,
            applied: body.applied,
            state: body.state,
            kek: body.kek.map(Secret::new),
        })
    }

    /// Whether the key of the secrets is in it.
    pub fn has_key(&self) -> bool {
        self.kek.is_some()
    }

    /// The key of the secrets, if it is in it.
    ///
    /// # Errors
    /// It is damaged.
    pub fn kek(&self) -> Result<Option<Kek>, BackupError> {
        Ok(self.kek.as_ref().map(|kek| Kek::from_bytes(kek.expose())).transpose()?)
    }
}
