//! Counts the sessions of each node, refuses those that are too many, cuts those that have to go.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Which port a session came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Writer,
    Reader,
}

/// The gates of all nodes.
#[derive(Debug)]
pub(super) struct Gates {
    nodes: Vec<Node>,
    open: Arc<AtomicUsize>,
    most: usize,
    most_per_node: usize,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Node {
    open: Arc<AtomicUsize>,
    total: AtomicU64,
    failed: AtomicU64,
    cut: AtomicU64,
    writers: Gate,
    readers: Gate,
}

/// Cancelled for the sessions of today; those of tomorrow get another.
type Gate = Mutex<CancellationToken>;

/// A place among those that are counted; given back when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

/// What was counted at one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) open: usize,
    pub(super) total: u64,
    pub(super) failed: u64,
    pub(super) cut: u64,
}

impl Gates {
    pub(super) fn new(nodes: usize, most: usize, most_per_node: usize) -> Self {
        Self {
            nodes: std::iter::repeat_with(Node::default).take(nodes).collect(),
            open: Arc::default(),
            most,
            most_per_node,
            refused: AtomicU64::new(0),
        }
    }

    /// A place for a client; none when there are too many.
    pub(super) fn admit(&self) -> Option<Place> {
        Place::take(&self.open, self.most)
    }

    /// How many clients there are.
    pub(super) fn clients(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// A place at a node, and what ends it before its time.
    pub(super) fn enter(&self, node: usize, port: Port) -> Option<(Place, CancellationToken)> {
        let node = &self.nodes[node];
        let place = Place::take(&node.open, self.most_per_node)?;
        Some((place, lock(node.gate(port)).clone()))
    }

    /// Sessions a node has now.
    pub(super) fn open(&self, node: usize) -> usize {
        self.nodes[node].open.load(Ordering::Relaxed)
    }

    /// A session has begun at a node.
    pub(super) fn begun(&self, node: usize) {
        self.nodes[node].total.fetch_add(1, Ordering::Relaxed);
    }

    /// A node did not take a session it was chosen for.
    pub(super) fn failed(&self, node: usize) {
        self.nodes[node].failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A session that was begun was cut.
    pub(super) fn was_cut(&self, node: usize) {
        self.nodes[node].cut.fetch_add(1, Ordering::Relaxed);
    }

    /// A client was turned away.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Clients turned away so far.
    pub(super) fn turned_away(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Cuts every session of this kind that the node has.
    pub(super) fn cut(&self, node: usize, port: Port) {
        let old = std::mem::take(&mut *lock(self.nodes[node].gate(port)));
        old.cancel();
    }

    /// Cuts all.
    pub(super) fn close(&self) {
        for node in 0..self.nodes.len() {
            self.cut(node, Port::Writer);
            self.cut(node, Port::Reader);
        }
    }

    pub(super) fn counts(&self, node: usize) -> Counts {
        let Some(node) = self.nodes.get(node) else { return Counts::default() };
        Counts {
            open: node.open.load(Ordering::Relaxed),
            total: node.total.load(Ordering::Relaxed),
            failed: node.failed.load(Ordering::Relaxed),
            cut: node.cut.load(Ordering::Relaxed),
        }
    }
}

impl Node {
    fn gate(&self, port: Port) -> &Gate {
        match port {
            Port::Writer => &self.writers,
            Port::Reader => &self.readers,
        }
    }
}

impl Place {
    fn take(open: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let one_more = |count| (count < most).then_some(count + 1);
        open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(Arc::clone(open)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock(gate: &Gate) -> std::sync::MutexGuard<'_, CancellationToken> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_given_back_and_never_more_than_allowed() {
        let gates = Gates::new(2, 2, 1);
        let (one, two) = (gates.admit().unwrap(), gates.admit());
        assert!(two.is_some() && gates.admit().is_none());
        drop(one);
        assert!(gates.admit().is_some());
        let place = gates.enter(0, Port::Writer);
        assert!(place.is_some() && gates.enter(0, Port::Reader).is_none());
        assert!(gates.enter(1, Port::Writer).is_some());
        drop(place);
        assert!(gates.enter(0, Port::Reader).is_some());
    }

    #[test]
    fn a_cut_ends_what_is_there_and_not_what_comes() {
        let gates = Gates::new(1, 9, 9);
        let (_place, writer) = gates.enter(0, Port::Writer).unwrap();
        let (_other, reader) = gates.enter(0, Port::Reader).unwrap();
        gates.cut(0, Port::Writer);
        assert!(writer.is_cancelled() && !reader.is_cancelled());
        let (_later, later) = gates.enter(0, Port::Writer).unwrap();
        assert!(!later.is_cancelled());
        gates.close();
        assert!(later.is_cancelled() && reader.is_cancelled());
    }
}
