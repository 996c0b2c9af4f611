//! What the leader has been handed by all nodes, itself included, waiting for the next log entry.
//! Sans-io; times are this node's monotonic milliseconds.

use std::collections::VecDeque;

use crate::codec;
use crate::command::{SoftBatch, SoftPart};
use crate::propose::MAX_COMMAND;
use crate::record::Millis;

/// Parts waiting, at most. Every node has two on its way, so this is never reached in order.
const MAX_PARTS: usize = 64;

/// Of an entry, what is not parts: the command's tag, the stamp, the count.
const FRAME: usize = 32;

/// Parts in the order they came, each with whoever waits for the outcome.
#[derive(Debug)]
pub(crate) struct Merger<W> {
    waiting: VecDeque<Waiting<W>>,
}

#[derive(Debug)]
struct Waiting<W> {
    part: SoftPart,
    bytes: usize,
    since: Millis,
    who: W,
}

impl<W> Default for Merger<W> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

impl<W> Merger<W> {
    /// Takes a part; gives `who` back when there is no room or it could never fit an entry.
    pub(crate) fn add(&mut self, part: SoftPart, now: Millis, who: W) -> Result<(), W> {
        let bytes = codec::encode(&part).map_or(usize::MAX, |bytes| bytes.len());
        if self.waiting.len() >= MAX_PARTS || bytes > MAX_COMMAND - FRAME {
            return Err(who);
        }
        self.waiting.push_back(Waiting { part, bytes, since: now, who });
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// As many parts as fit one entry, stamped, and whom to tell. Empty when nothing waits.
    pub(crate) fn take(&mut self, now: Millis, stamp: Millis) -> (SoftBatch, Vec<W>) {
        let (mut parts, mut who) = (Vec::new(), Vec::new());
        let mut room = MAX_COMMAND - FRAME;
        while let Some(next) = self.waiting.pop_front() {
            if next.bytes > room {
                self.waiting.push_front(next);
                break;
            }
            room -= next.bytes;
            let mut part = next.part;
            let waited = u32::try_from(now.saturating_sub(next.since)).unwrap_or(u32::MAX);
            for put in &mut part.sessions {
                put.age = put.age.saturating_add(waited);
            }
            part.sent = part.sent.saturating_add(waited.into());
            parts.push(part);
            who.push(next.who);
        }
        (SoftBatch { now: stamp, parts }, who)
    }

    /// Whoever waits, because nothing will come of it here.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = W> {
        self.waiting.drain(..).map(|waiting| waiting.who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, SessionPut};
    use crate::record::{AccessLevel, SessionKey, User};

    fn part(origin: u64, sessions: usize) -> SoftPart {
        let user = User { id: "u".repeat(64), level: AccessLevel::User };
        let put = SessionPut { key: SessionKey([7; 16]), user, age: 100, lifetime: 3000 };
        SoftPart { origin, sent: 50, sessions: vec![put; sessions], ..SoftPart::default() }
    }

    #[test]
    fn what_all_nodes_collected_goes_into_one_entry_and_is_as_old_as_it_is() {
        let mut merger = Merger::default();
        merger.add(part(1, 1), 1000, 'a').unwrap();
        merger.add(part(2, 1), 1030, 'b').unwrap();
        let (batch, who) = merger.take(1050, 77);
        assert_eq!((batch.now, who), (77, vec!['a', 'b']));
        let ages = batch.parts.iter().map(|part| (part.origin, part.sessions[0].age, part.sent));
        assert_eq!(ages.collect::<Vec<_>>(), [(1, 150, 100), (2, 120, 70)]);
        assert!(merger.is_empty());
        assert_eq!(merger.take(1050, 78), (SoftBatch { now: 78, parts: Vec::new() }, Vec::new()));
    }

    #[test]
    fn an_entry_has_its_limit_whatever_is_handed_in() {
        let mut merger = Merger::default();
        assert_eq!(merger.add(part(9, 1000), 0, 9), Err(9), "could never fit");
        for n in 0..MAX_PARTS {
            merger.add(part(n as u64, 300), 0, n).unwrap();
        }
        assert_eq!(merger.add(part(9, 1), 0, MAX_PARTS), Err(MAX_PARTS), "full");
        let mut told = Vec::new();
        while !merger.is_empty() {
            let (batch, who) = merger.take(0, Millis::MAX);
            assert!(!who.is_empty());
            let command = Command::Soft(batch);
            assert!(codec::encode(&command).unwrap().len() <= MAX_COMMAND);
            told.extend(who);
        }
        assert_eq!(told, (0..MAX_PARTS).collect::<Vec<_>>());
    }
}
