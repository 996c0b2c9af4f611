//! What became of the history this node gave up last, kept beside the passport for whoever asks
//! later. The file is a note: without it nothing else is missing.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::merge::MergeReport;
use crate::disk::Disk;
use crate::group::Group;
use crate::record::Millis;

/// Name of the file below the state directory.
const FILE: &str = "healed.json";

/// Largest such file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// How a node came back to its pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healed {
    /// When.
    pub at: Millis,
    /// The history it gave up.
    pub left: Group,
    /// What of it went over, and what is lost.
    pub report: MergeReport,
}

impl Healed {
    /// Whether both sides had taken changes of their own.
    pub fn is_fork(&self) -> bool {
        self.report.given > 0 || self.report.is_loss()
    }

    /// Where the history is kept, below the state directory; the last three are.
    pub fn kept_in(&self) -> PathBuf {
        self.left.dir(Path::new(""))
    }
}

pub(super) fn load(disk: &Disk, state_dir: &Path) -> io::Result<Option<Healed>> {
    let path = state_dir.join(FILE);
    if !disk.exists(&path)? {
        return Ok(None);
    }
    let bytes = disk.read(&path, MAX_BYTES)?;
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other)
}

pub(super) fn store(disk: &Disk, state_dir: &Path, healed: &Healed) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(healed).map_err(io::Error::other)?;
    disk.store(&state_dir.join(FILE), &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_node_came_back_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(&Disk::Files, dir.path()).unwrap(), None);
        let report = MergeReport { overruled: vec!["app".into()], ..MergeReport::default() };
        let healed = Healed { at: 7, left: crate::pair::group(1), report };
        store(&Disk::Files, dir.path(), &healed).unwrap();
        assert_eq!(load(&Disk::Files, dir.path()).unwrap(), Some(healed.clone()));
        assert!(healed.is_fork());
        assert!(!Healed { report: MergeReport::default(), ..healed }.is_fork());
    }
}
