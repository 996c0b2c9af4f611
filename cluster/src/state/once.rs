//! Which proposals were applied already, so that repeating one after an unknown outcome (the
//! leader died before it answered) applies it once. Sans-io.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::table;
use crate::command::Reply;
use crate::record::NodeId;

/// Answers remembered per node. A node never has more than 256 proposals open, and gives up
/// repeating one once it is half a window behind its newest.
pub(crate) const WINDOW: u64 = 4096;

/// Names one proposal for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ticket {
    /// The node that proposes.
    pub(crate) node: NodeId,
    /// How often that node has started, counted on its disk.
    pub(crate) boot: u64,
    /// Counts its proposals since then.
    pub(crate) seq: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Once {
    #[serde(deserialize_with = "table::read")]
    origins: OrdMap<NodeId, Origin>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Origin {
    boot: u64,
    #[serde(deserialize_with = "table::read")]
    replies: OrdMap<u64, Reply>,
}

impl Once {
    /// The answer already given, or "nothing" for a proposal too old to tell.
    pub(super) fn earlier(&self, ticket: Ticket) -> Option<Reply> {
        let origin = self.origins.get(&ticket.node)?;
        if ticket.boot < origin.boot {
            return Some(Reply::Nothing);
        }
        if ticket.boot > origin.boot {
            return None;
        }
        let newest = origin.replies.get_max().map_or(0, |(seq, _)| *seq);
        let outdated = ticket.seq.saturating_add(WINDOW) <= newest;
        origin.replies.get(&ticket.seq).copied().or(outdated.then_some(Reply::Nothing))
    }

    pub(super) fn remember(&mut self, ticket: Ticket, reply: Reply) {
        let mut origin = self.origins.get(&ticket.node).cloned().unwrap_or_default();
        if ticket.boot > origin.boot {
            origin = Origin { boot: ticket.boot, replies: OrdMap::new() };
        }
        origin.replies.insert(ticket.seq, reply);
        let newest = origin.replies.get_max().map_or(0, |(seq, _)| *seq);
        while let Some(oldest) = origin.replies.get_min().map(|(seq, _)| *seq)
            && oldest.saturating_add(WINDOW) <= newest
        {
            origin.replies.remove(&oldest);
        }
        self.origins.insert(ticket.node, origin);
    }
}
