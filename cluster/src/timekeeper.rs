//! Whether this node's wall clock can be trusted, and the stamp it puts on an entry as leader.
//! Sans-io; `local` is this node's monotonic clock, in milliseconds.
//!
//! A leader hears what time it is at its peers with their answers to its heartbeats. No clock is
//! right by itself: the median of all of them counts, its own included, so one that is off is
//! found as soon as two others agree. With a single peer nobody can tell which of the two it is;
//! then it is only told.

use std::collections::BTreeMap;

use crate::record::{Millis, NodeId};

/// How far a clock may be off.
pub(crate) const TOLERANCE: Millis = 5_000;

/// What was heard longer ago says nothing any more.
const MEMORY: Millis = 10_000;

/// What one node knows about clocks.
#[derive(Debug, Default)]
pub(crate) struct Timekeeper {
    peers: BTreeMap<NodeId, Heard>,
    last: Millis,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    /// The peer's wall clock minus this node's.
    offset: i64,
    at: Millis,
}

impl Timekeeper {
    /// A peer said it is `theirs` while it was `wall` here.
    pub(crate) fn hear(&mut self, peer: NodeId, theirs: Millis, wall: Millis, local: Millis) {
        let offset = i64::try_from(theirs.abs_diff(wall)).unwrap_or(i64::MAX);
        let offset = if theirs < wall { -offset } else { offset };
        self.peers.insert(peer, Heard { offset, at: local });
    }

    /// The peer whose clock differs most from this node's by more than the tolerance, and by how
    /// much it is ahead.
    pub(crate) fn stranger(&self, local: Millis) -> Option<(NodeId, i64)> {
        let heard = self.recent(local);
        let far = heard.filter(|(_, offset)| offset.unsigned_abs() > TOLERANCE);
        far.max_by_key(|(_, offset)| offset.unsigned_abs())
    }

    /// How far this node's clock is behind (negative: ahead of) what most say, if it is off by
    /// more than the tolerance.
    pub(crate) fn error(&self, local: Millis) -> Option<i64> {
        let mut offsets: Vec<_> = self.recent(local).map(|(_, offset)| offset).collect();
        offsets.push(0);
        offsets.sort_unstable();
        let upper = offsets.len() / 2;
        let middle = [offsets.get((offsets.len() - 1) / 2), offsets.get(upper)];
        // Of the two in the middle of an even number the milder one.
        let median = middle.into_iter().flatten().copied().min_by_key(|offset| offset.abs())?;
        (median.unsigned_abs() > TOLERANCE).then_some(median)
    }

    /// Whether a peer's clock is what most say, as far as it was heard.
    pub(crate) fn is_right(&self, peer: NodeId, local: Millis) -> bool {
        let error = self.error(local).unwrap_or(0);
        let offset = self.recent(local).find(|(heard, _)| *heard == peer);
        offset.is_some_and(|(_, offset)| offset.abs_diff(error) <= TOLERANCE)
    }

    /// The stamp of the next entry: the wall clock, but always later than the cluster's `clock` and
    /// than the stamps before. A clock known to be off is put right: what expires by the stamps of
    /// the moments until leadership is handed over does so in time.
    pub(crate) fn stamp(&mut self, wall: Millis, clock: Millis, local: Millis) -> Millis {
        let wall = wall.saturating_add_signed(self.error(local).unwrap_or(0));
        self.last = wall.max(clock.saturating_add(1)).max(self.last.saturating_add(1));
        self.last
    }

    fn recent(&self, local: Millis) -> impl Iterator<Item = (NodeId, i64)> {
        let since = local.saturating_sub(MEMORY);
        let recent = self.peers.iter().filter(move |(_, heard)| heard.at >= since);
        recent.map(|(peer, heard)| (*peer, heard.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Millis = 1_000_000_000;

    #[test]
    fn a_clock_is_off_when_most_others_agree_that_it_is() {
        const HOUR: i64 = 3_600_000;
        let table: [(&str, &[i64], Option<i64>, bool); 9] = [
            ("alone", &[], None, false),
            ("in step", &[20, -30], None, false),
            ("both say so", &[-HOUR, -HOUR + 9], Some(-HOUR + 9), true),
            ("behind both", &[HOUR, HOUR], Some(HOUR), true),
            ("one peer is off", &[0, HOUR], None, true),
            ("everybody says something else", &[-HOUR, HOUR], None, true),
            ("nobody can tell which of two", &[HOUR], None, true),
            ("just within", &[5_000, 5_000], None, false),
            ("three of four", &[6_000, 7_000, 8_000], Some(6_000), true),
        ];
        for (name, offsets, error, strange) in table {
            let mut keeper = Timekeeper::default();
            for (peer, offset) in (2..).zip(offsets) {
                keeper.hear(peer, WALL.saturating_add_signed(*offset), WALL, 50);
            }
            assert_eq!(keeper.error(60), error, "{name}");
            assert_eq!(keeper.stranger(60).is_some(), strange, "{name}");
            assert_eq!(keeper.error(51 + MEMORY), None, "{name}: long ago");
        }
    }

    #[test]
    fn a_peer_is_right_when_it_agrees_with_most_whatever_this_clock_says() {
        const HOUR: i64 = 3_600_000;
        let table: [(&str, [i64; 2], [bool; 2]); 5] = [
            ("in step", [20, -30], [true, true]),
            ("this one is off", [-HOUR, -HOUR + 9], [true, true]),
            ("one peer is off", [0, HOUR], [true, false]),
            ("only one is in the middle", [-HOUR, -2 * HOUR], [true, false]),
            ("this one is in the middle", [-HOUR, HOUR], [false, false]),
        ];
        for (name, offsets, right) in table {
            let mut keeper = Timekeeper::default();
            for (peer, offset) in (2..).zip(offsets) {
                keeper.hear(peer, WALL.saturating_add_signed(offset), WALL, 50);
            }
            assert_eq!([keeper.is_right(2, 60), keeper.is_right(3, 60)], right, "{name}");
            assert!(!keeper.is_right(4, 60), "{name}: never heard");
        }
    }

    #[test]
    fn stamps_only_rise_and_a_clock_that_is_off_is_put_right() {
        let mut keeper = Timekeeper::default();
        assert_eq!(keeper.stamp(WALL, 0, 0), WALL);
        assert_eq!(keeper.stamp(WALL - 500, WALL, 0), WALL + 1, "the clock went back");
        assert_eq!(keeper.stamp(WALL, WALL + 7_000, 0), WALL + 7_001, "after another leader");
        for peer in [2, 3] {
            keeper.hear(peer, WALL + 20_000, WALL + 3_620_000, 10);
        }
        assert_eq!(keeper.stamp(WALL + 3_620_100, WALL + 7_001, 20), WALL + 20_100);
    }
}
