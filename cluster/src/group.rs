//! Which raft group a node belongs to. Sans-io.
//!
//! A group is a cluster, a generation and a lineage. Log, votes and snapshots of one group never
//! mix with those of another: the group stands in the name of its directory, in every snapshot
//! and in every request. A new generation begins when a survivor goes on alone (pair mode) or a
//! backup is restored; the lineage tells two generations of the same number apart.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A cluster for ever: UUID version 4.
pub type ClusterId = Uuid;

/// One raft group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Group {
    /// The cluster.
    pub cluster: ClusterId,
    /// Counts how often the cluster went on from one node's memory; begins at 1.
    pub generation: u64,
    /// Which of several generations of that number.
    pub lineage: Lineage,
}

impl Group {
    /// The first generation of a cluster.
    pub fn first(cluster: ClusterId, lineage: Lineage) -> Self {
        Self { cluster, generation: 1, lineage }
    }

    /// The generation after this one.
    #[must_use]
    pub fn next(self, lineage: Lineage) -> Self {
        Self { generation: self.generation + 1, lineage, ..self }
    }

    /// Where log and snapshots of this group live below a state directory.
    pub fn dir(&self, state_dir: &Path) -> PathBuf {
        state_dir.join("raft").join(format!("{}-{}", self.generation, self.lineage))
    }

    /// The group of the same cluster whose directory that is.
    pub(crate) fn of_dir(self, dir: &Path) -> Option<Self> {
        let (generation, lineage) = dir.file_name()?.to_str()?.split_once('-')?;
        let (generation, lineage) = (generation.parse().ok()?, lineage.parse().ok()?);
        Some(Self { generation, lineage, ..self })
    }
}

#[cfg(test)]
impl Group {
    /// One of several for tests.
    pub(crate) fn sample(which: u8) -> Self {
        let cluster = uuid::Builder::from_random_bytes([which; 16]).into_uuid();
        Self::first(cluster, Lineage([which; 16]))
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.generation, self.lineage)
    }
}

/// 16 random bytes, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage(pub [u8; 16]);

/// A text that is not a lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hexadecimal digits")]
pub struct NotALineage;

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Lineage {
    type Err = NotALineage;

    fn from_str(text: &str) -> Result<Self, NotALineage> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(is_hex) {
            return Err(NotALineage);
        }
        u128::from_str_radix(text, 16).map(|bits| Self(bits.to_be_bytes())).map_err(|_| NotALineage)
    }
}

impl Serialize for Lineage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Lineage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 16]>::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_text_for_people_and_few_bytes_between_nodes() {
        let group = Group::sample(0xab).next(Lineage([1; 16]));
        let text = serde_json::to_string(&group).unwrap();
        assert!(text.contains("\"01010101010101010101010101010101\""), "{text}");
        assert_eq!(serde_json::from_str::<Group>(&text).unwrap(), group);
        let bytes = postcard::to_allocvec(&group).unwrap();
        assert_eq!(bytes.len(), 1 + 16 + 1 + 16);
        assert_eq!(postcard::from_bytes::<Group>(&bytes).unwrap(), group);
    }

    #[test]
    fn a_lineage_is_read_only_in_the_one_way_it_is_written() {
        let lineage = Lineage([0xab; 16]);
        assert_eq!(lineage.to_string().parse(), Ok(lineage));
        for wrong in ["", "ab", &"AB".repeat(16), &"+1".repeat(16), &"ab".repeat(17)] {
            assert_eq!(wrong.parse::<Lineage>(), Err(NotALineage), "{wrong}");
        }
    }

    #[test]
    fn every_group_has_a_directory_of_its_own() {
        let (one, next) = (Group::sample(0xab), Group::sample(0xab).next(Lineage([2; 16])));
        let dir = one.dir(Path::new("/state"));
        assert_eq!(dir, Path::new("/state/raft/1-abababababababababababababababab"));
        assert_ne!(next.dir(Path::new("/state")), dir);
        assert_eq!(next.of_dir(&dir), Some(one));
        assert_eq!(next.of_dir(Path::new("/state/raft/lost+found")), None);
    }
}
