//! The database node every load balancer sends writes to. Sans-io.

use serde::{Deserialize, Serialize};

use super::{Millis, NodeId};

/// Most bytes of a database node's name.
pub const MAX_WRITER_NAME: usize = 64;

/// Which node of the Galera cluster writes, as the load balancers have agreed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// Counts the agreements from 1.
    pub epoch: u64,
    /// The database node's name in the configuration.
    pub name: String,
    /// The load balancer that proposed it.
    pub by: NodeId,
    /// When, by that one's clock.
    pub at: Millis,
}

impl Writer {
    /// Whether it is the agreement after `known`. Of two load balancers that propose at once the
    /// second comes too late, and finds out what the first has brought about.
    pub fn follows(&self, known: Option<&Self>) -> bool {
        let next = known.map_or(1, |known| known.epoch.saturating_add(1));
        self.epoch == next && (1..=MAX_WRITER_NAME).contains(&self.name.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_proposals_at_once_the_first_counts() {
        let writer = |epoch, name: &str| Writer { epoch, name: name.to_owned(), by: 1, at: 5 };
        assert!(writer(1, "db1").follows(None));
        assert!(!writer(2, "db1").follows(None));
        let known = writer(1, "db1");
        assert!(writer(2, "db2").follows(Some(&known)));
        for wrong in [writer(1, "db3"), writer(3, "db3"), writer(2, ""), writer(2, &"x".repeat(65))]
        {
            assert!(!wrong.follows(Some(&known)), "{wrong:?}");
        }
    }
}
