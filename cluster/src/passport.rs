//! Who this node is: `node.json` below its state directory, written when it founds or joins a
//! cluster and kept true afterwards.
//!
//! The file is what makes a directory a node's: without it a node must be founded or joined, and
//! with it no other node may use the directory. It also says whom to look for after a start, until
//! the replicated members are read.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Role;
use crate::disk::Disk;
use crate::group::Group;
use crate::record::{Member, NodeId};
use crate::types::{RaftId, raft_id};

/// Name of the file below the state directory.
pub const PASSPORT_FILE: &str = "node.json";

/// The layout this build reads and writes.
const FORMAT: u32 = 1;

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The lasting identity of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passport {
    /// Layout of the file.
    format: u32,
    /// The raft group it takes part in.
    #[serde(flatten)]
    pub group: Group,
    /// What people call the cluster.
    pub cluster_name: String,
    /// This member's number, given once and never again.
    pub number: NodeId,
    /// How often this member came back with an empty log by consent of the cluster.
    pub incarnation: u32,
    /// What people call the node.
    pub node_name: String,
    /// Serves or only votes.
    pub role: Role,
    /// Where the others reach it; none for a cluster of one without a listener.
    pub advertise: Option<SocketAddr>,
    /// Whether the raft directory of the group was made: from then on it must be there.
    pub begun: bool,
    /// How often the node has started, whatever became of its raft directory.
    pub boots: u64,
    /// The members known last, this one included.
    pub seeds: Vec<Seed>,
}

/// A member as far as it must be known to reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// Its number.
    pub number: NodeId,
    /// Its name.
    pub name: String,
    /// Serves or only votes.
    pub role: Role,
    /// Where it listens for peers.
    pub address: Option<SocketAddr>,
}

impl From<&Member> for Seed {
    fn from(member: &Member) -> Self {
        Self {
            number: member.id,
            name: member.name.clone(),
            role: member.role,
            address: member.address,
        }
    }
}

/// A passport that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PassportError {
    /// Disk or permissions.
    #[error("{}: cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not what this build wrote.
    #[error(
        "{}: {text}; restore the file from a backup of this node, or remove the node from the \
         cluster, empty the directory and join again", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        text: String,
    },
    /// Written by a later release.
    #[error(
        "{}: has format {found}, this build knows {FORMAT}; run the version of trigon that wrote \
         it", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

impl Passport {
    /// The passport of a member of `group` that has not started yet.
    pub fn new(group: Group, cluster_name: impl Into<String>, member: Seed) -> Self {
        Self {
            format: FORMAT,
            group,
            cluster_name: cluster_name.into(),
            number: member.number,
            incarnation: 0,
            node_name: member.name.clone(),
            role: member.role,
            advertise: member.address,
            begun: false,
            boots: 0,
            seeds: vec![member],
        }
    }

    /// Its id in the raft group.
    pub fn raft_id(&self) -> RaftId {
        raft_id(self.number, self.incarnation)
    }

    /// This node as the others know it.
    pub fn seed(&self) -> Seed {
        Seed {
            number: self.number,
            name: self.node_name.clone(),
            role: self.role,
            address: self.advertise,
        }
    }

    /// Where the passport of a state directory lies.
    pub fn path(state_dir: &Path) -> PathBuf {
        state_dir.join(PASSPORT_FILE)
    }

    /// Reads the passport of a state directory; none when there is none.
    ///
    /// # Errors
    /// The file is there but cannot be read or believed.
    pub fn load(state_dir: &Path) -> Result<Option<Self>, PassportError> {
        Self::load_from(&Disk::Files, state_dir)
    }

    /// The same on any disk.
    ///
    /// # Errors
    /// As [`Passport::load`].
    pub fn load_from(disk: &Disk, state_dir: &Path) -> Result<Option<Self>, PassportError> {
        /// What every format begins with.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }

        let path = Self::path(state_dir);
        let bytes = match disk.read(&path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(PassportError::Io { path, source }),
        };
        let damaged = |text: String| PassportError::Damaged { path: Self::path(state_dir), text };
        let Format { format } =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if format > FORMAT {
            return Err(PassportError::Newer { path, found: format });
        }
        let passport: Self =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        match passport.problem() {
            Some(text) => Err(damaged(text)),
            None => Ok(Some(passport)),
        }
    }

    /// Writes it so that a power cut leaves either the old or the new one; mode 0600. The
    /// directory is made when missing.
    ///
    /// # Errors
    /// The disk or its permissions.
    pub fn store(&self, state_dir: &Path) -> Result<(), PassportError> {
        self.store_on(&Disk::Files, state_dir)
    }

    /// The same on any disk.
    ///
    /// # Errors
    /// As [`Passport::store`].
    pub fn store_on(&self, disk: &Disk, state_dir: &Path) -> Result<(), PassportError> {
        let path = Self::path(state_dir);
        let write = || {
            disk.create_dir(state_dir)?;
            let mut text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
            text.push(b'\n');
            disk.store(&path, &text)
        };
        write().map_err(|source| PassportError::Io { path: path.clone(), source })
    }

    /// What no node would have written.
    fn problem(&self) -> Option<String> {
        if self.number == 0 || self.number > u64::from(u32::MAX) {
            return Some(format!("number {} is none a cluster gives", self.number));
        }
        if self.group.cluster.get_version_num() != 4 || self.group.generation == 0 {
            return Some(format!("{} is no group of a cluster", self.group));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn sample() -> Passport {
        let address = Some("192.0.2.11:7443".parse().unwrap());
        let member = Seed { number: 2, name: "lb2".into(), role: Role::Node, address };
        let mut passport = Passport::new(Group::sample(0xcd), "alpha", member);
        passport.incarnation = 1;
        passport
    }

    #[test]
    fn a_stored_passport_is_read_back_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("new/state");
        assert_eq!(Passport::load(&state_dir).unwrap(), None);
        let passport = sample();
        passport.store(&state_dir).unwrap();
        assert_eq!(Passport::load(&state_dir).unwrap(), Some(passport.clone()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&Passport::path(&state_dir)), 0o600);
        assert_eq!(mode(&state_dir), 0o700);
        assert_eq!(passport.raft_id(), (1 << 32) + 2);
        assert_eq!(fs::read_dir(&state_dir).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn the_layout_of_the_file_never_changes() {
        let text = serde_json::to_string_pretty(&sample()).unwrap();
        assert_eq!(text, include_str!("../tests/golden/passport.json").trim_end());
    }

    #[test]
    fn a_damaged_or_newer_passport_is_refused_with_the_way_out() {
        let good = serde_json::to_string(&sample()).unwrap();
        let table = [
            ("empty", String::new(), "EOF"),
            ("cut", good[..good.len() / 2].to_owned(), "remove the node from the cluster"),
            ("no format", "{}".to_owned(), "missing field `format`"),
            ("newer", good.replace("\"format\":1", "\"format\":2"), "has format 2"),
            ("number 0", good.replace("\"number\":2", "\"number\":0"), "number 0"),
            ("lineage", good.replace(&"cd".repeat(16), "xyz"), "32 hexadecimal digits"),
            ("generation", good.replace("\"generation\":1", "\"generation\":0"), "no group"),
        ];
        for (name, text, expected) in table {
            let dir = tempfile::tempdir().unwrap();
            fs::write(Passport::path(dir.path()), text).unwrap();
            let error = Passport::load(dir.path()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("node.json"), "{name}: {error}");
        }
    }
}
