//! Which parts of soft batches were applied already, so that one whose fate was unknown can be sent
//! again and is applied once. Sans-io.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::table;
use crate::command::SoftPart;
use crate::record::NodeId;

/// Parts told apart behind the newest of a node; it has two on their way at most.
const WINDOW: u64 = 64;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Parts {
    #[serde(deserialize_with = "table::read")]
    origins: OrdMap<NodeId, Seen>,
}

/// What of one node was seen: a sliding window, as anti-replay windows are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    boot: u64,
    newest: u64,
    /// Bit `n` stands for `newest - n`.
    window: u64,
}

impl Parts {
    /// Whether this is the first time; false also for one too old to tell.
    pub(super) fn admit(&mut self, part: &SoftPart) -> bool {
        let known = self.origins.get(&part.origin).copied();
        let Some(mut seen) = known.filter(|seen| part.boot <= seen.boot) else {
            let seen = Seen { boot: part.boot, newest: part.seq, window: 1 };
            self.origins.insert(part.origin, seen);
            return true;
        };
        if part.boot < seen.boot {
            return false;
        }
        if part.seq > seen.newest {
            let ahead = part.seq - seen.newest;
            seen.window =
                u32::try_from(ahead).ok().and_then(|by| seen.window.checked_shl(by)).unwrap_or(0);
            seen.newest = part.seq;
        }
        let behind = seen.newest - part.seq;
        let bit = if behind < WINDOW { 1 << behind } else { 0 };
        let first = bit != 0 && seen.window & bit == 0;
        seen.window |= bit;
        self.origins.insert(part.origin, seen);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_admitted_once_in_any_order_and_never_from_before_a_restart() {
        let mut parts = Parts::default();
        for (origin, boot, seq, admitted) in [
            (1, 1, 0, true),
            (1, 1, 0, false),
            (2, 1, 0, true),
            (1, 1, 2, true),
            (1, 1, 1, true),
            (1, 1, 1, false),
            (1, 1, 65, true),
            (1, 1, 3, true),
            (1, 1, 3, false),
            // As far back as the window reaches, and one more.
            (1, 1, 2, false),
            (1, 1, 1, false),
            (1, 1, 10_000, true),
            (1, 1, 65, false),
            (1, 2, 0, true),
            (1, 1, 10_001, false),
            (1, 2, 1, true),
            (1, 2, u64::MAX, true),
            (1, 2, u64::MAX, false),
        ] {
            let part = SoftPart { origin, boot, seq, ..SoftPart::default() };
            assert_eq!(parts.admit(&part), admitted, "{origin} {boot} {seq}");
        }
    }
}
