//! The flows of this node and the order in which they changed. Sans-io.
//!
//! Each change gets the next version, and only the last one of a pair is kept; so a walk through
//! the versions from any point on tells somebody who knew the table up to there all there is to
//! know. That somebody ended is remembered for a while only: who was away longer starts anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Bound;

use super::delta::{FlowDelta, MAX_CHANGES, Mark};
use super::{Flow, FlowCounts, FlowKind, Pair, Sequence};

/// Ends that are remembered: those of a busy second.
const MAX_CLOSED: usize = 8192;

#[derive(Debug)]
pub(super) struct Local {
    epoch: u64,
    version: u64,
    /// Up to which version ends have been forgotten.
    horizon: u64,
    entries: HashMap<Pair, Entry>,
    changes: BTreeMap<u64, Pair>,
    /// Open for everybody else, although their sockets are gone.
    left: HashSet<Pair>,
    controls: usize,
    clients: usize,
    closed: usize,
    turned_away: u64,
    cap: usize,
    max_closed: usize,
    max_changes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    version: u64,
    /// `None` once it has ended.
    open: Option<(FlowKind, Option<Sequence>)>,
}

impl Local {
    pub(super) fn new(epoch: u64, cap: usize) -> Self {
        Self {
            epoch,
            version: 0,
            horizon: 0,
            entries: HashMap::new(),
            changes: BTreeMap::new(),
            left: HashSet::new(),
            controls: 0,
            clients: 0,
            closed: 0,
            turned_away: 0,
            cap,
            max_closed: MAX_CLOSED,
            max_changes: MAX_CHANGES,
        }
    }

    /// With limits a test can reach.
    #[cfg(test)]
    pub(super) fn with_limits(mut self, max_closed: usize, max_changes: usize) -> Self {
        (self.max_closed, self.max_changes) = (max_closed, max_changes);
        self
    }

    pub(super) fn add(&mut self, flow: Flow) -> bool {
        let pair = Pair::new(flow.server, flow.client);
        let before = self.entries.get(&pair).copied();
        // The same pair again is a new connection if the old one was left behind.
        let known =
            if self.left.remove(&pair) { None } else { before.and_then(|entry| entry.open) };
        let open = Some(match known {
            // Who knows more has said so before.
            Some((FlowKind::Control, sequence)) => (FlowKind::Control, flow.sequence.or(sequence)),
            _ => (flow.kind, flow.sequence),
        });
        if before.is_some_and(|entry| entry.open == open) {
            return true;
        }
        let is_open = before.is_some_and(|entry| entry.open.is_some());
        // What was left behind takes nobody's place.
        let taken = self.clients.saturating_sub(self.left.len());
        if !is_open && flow.kind == FlowKind::Client && taken >= self.cap {
            self.turned_away += 1;
            return false;
        }
        self.change(pair, open);
        true
    }

    pub(super) fn refresh(&mut self, pair: Pair, sequence: Sequence) {
        let known = self.entries.get(&pair).and_then(|entry| entry.open);
        if let Some((kind, before)) = known
            && before != Some(sequence)
            && self.holds(&pair)
        {
            self.change(pair, Some((kind, Some(sequence))));
        }
    }

    pub(super) fn remove(&mut self, pair: Pair) {
        if self.holds(&pair) {
            self.change(pair, None);
            if self.closed > self.max_closed {
                self.forget_older_half();
            }
        }
    }

    pub(super) fn leave(&mut self, at: impl Fn(IpAddr) -> bool) {
        let open = self.entries.iter().filter(|(_, entry)| entry.open.is_some());
        let there = open.filter(|(pair, _)| at(pair.server().ip()));
        self.left.extend(there.map(|(pair, _)| *pair));
    }

    pub(super) fn bury(&mut self, at: impl Fn(IpAddr) -> bool) {
        let gone: Vec<_> = self.left.extract_if(|pair| at(pair.server().ip())).collect();
        for pair in gone {
            self.remove(pair);
        }
    }

    pub(super) fn left(&self) -> impl Iterator<Item = Flow> {
        let entries = self.left.iter().filter_map(|pair| Some((pair, self.entries.get(pair)?)));
        entries.filter_map(|(pair, entry)| flow(pair, entry))
    }

    /// Whether the connection is open here.
    pub(super) fn holds(&self, pair: &Pair) -> bool {
        let is_open = self.entries.get(pair).is_some_and(|entry| entry.open.is_some());
        is_open && !self.left.contains(pair)
    }

    pub(super) fn flows(&self) -> impl Iterator<Item = Flow> {
        self.entries.iter().filter_map(|(pair, entry)| flow(pair, entry))
    }

    pub(super) fn counts(&self) -> FlowCounts {
        let Self { controls, clients, turned_away, .. } = *self;
        FlowCounts { controls, clients, turned_away, heard: 0 }
    }

    pub(super) fn delta_since(&self, since: Mark) -> Option<FlowDelta> {
        // Ends that were forgotten since then, except those older than anything that was told.
        let missed = self.horizon > since.version.max(since.floor);
        let anew = since.epoch != self.epoch || since.version > self.version || missed;
        let (base, floor) = if anew { (0, self.version) } else { (since.version, since.floor) };
        if !anew && base == self.version {
            return None;
        }
        let mut delta = FlowDelta {
            epoch: self.epoch,
            floor,
            base,
            upto: self.version,
            anew,
            more: false,
            open: Vec::new(),
            closed: Vec::new(),
        };
        for (version, pair) in self.changes.range((Bound::Excluded(base), Bound::Unbounded)) {
            if delta.len() == self.max_changes {
                delta.more = true;
                break;
            }
            match self.entries.get(pair).and_then(|entry| flow(pair, entry)) {
                Some(flow) => delta.open.push(flow),
                // Whoever starts anew has never heard of it.
                None if anew => {}
                None => delta.closed.push((pair.server(), pair.client())),
            }
            delta.upto = *version;
        }
        if !delta.more {
            delta.upto = self.version;
        }
        Some(delta)
    }

    fn change(&mut self, pair: Pair, open: Option<(FlowKind, Option<Sequence>)>) {
        self.version += 1;
        let entry = Entry { version: self.version, open };
        if let Some(before) = self.entries.insert(pair, entry) {
            self.changes.remove(&before.version);
            *self.counter(before.open) -= 1;
        }
        *self.counter(open) += 1;
        self.changes.insert(self.version, pair);
    }

    fn counter(&mut self, open: Option<(FlowKind, Option<Sequence>)>) -> &mut usize {
        match open {
            Some((FlowKind::Control, _)) => &mut self.controls,
            Some((FlowKind::Client, _)) => &mut self.clients,
            None => &mut self.closed,
        }
    }

    fn forget_older_half(&mut self) {
        let is_closed = |pair| self.entries.get(pair).is_some_and(|entry| entry.open.is_none());
        let closed = self.changes.iter().filter(|(_, pair)| is_closed(pair));
        let old: Vec<_> = closed.map(|(version, pair)| (*version, *pair)).collect();
        for (version, pair) in old.into_iter().take(self.closed.div_ceil(2)) {
            self.changes.remove(&version);
            self.entries.remove(&pair);
            self.closed -= 1;
            self.horizon = version;
        }
    }
}

fn flow(pair: &Pair, entry: &Entry) -> Option<Flow> {
    let (kind, sequence) = entry.open?;
    Some(Flow { server: pair.server(), client: pair.client(), kind, sequence })
}
