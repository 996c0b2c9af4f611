//! What must hold after every step, whatever happened to the hosts and the network.
//!
//! - Two nodes never apply different entries at one index, and never have different states after
//!   the same number of entries.
//! - A node never goes back: not its vote, not its view, and over a crash not what it stored.
//! - A node cut off from all others stops taking entries once its lease has run out.
//! - A node that lost its log never takes part under its old number.
//! - A node fails only when its disk did.
//! - A node never goes back to an earlier generation. The nodes of a pair write at the same time only
//!   in a fork, which begins while neither hears the other's advertisements.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster::pair::Sync;
use cluster::record::NodeId;
use cluster::sim::{EntryId, Inspection, Vote, digest};
use cluster::{Group, RaftState};

use crate::host::LIED;
use crate::site::{Host, Site};

/// How long a leader that was cut off may take entries: its lease, and what was on its way.
const GRACE: Duration = Duration::from_secs(3);

/// How late a fork may begin after a segment has come together: a node looks four times a second
/// at who is Active and may wait a second for an answer before.
const MEETING: Duration = Duration::from_secs(3);

/// How long nodes that reach each other may take until one of them gives its branch up.
const HEALING: Duration = Duration::from_secs(6);

/// In what a node that was removed says at its end.
const FAREWELL: &str = "to use this machine again";

/// Turns of a disk that answers which a node may take until its engine tells what it found there.
const PATIENCE: u8 = 3;

/// What all that was seen says about the next step.
#[derive(Default)]
pub(crate) struct Oracle {
    /// Entries by index, and who applied each first.
    entries: BTreeMap<(Group, u64), (EntryId, NodeId)>,
    /// States by the number of entries in them, and who had each first.
    states: BTreeMap<(Group, u64), (u64, NodeId)>,
    nodes: BTreeMap<NodeId, Known>,
    /// Generations that were written while the one before was.
    forks: BTreeSet<Group>,
}

/// What a node cannot take back.
#[derive(Default)]
struct Known {
    group: Option<Group>,
    vote: Vote,
    applied: Option<u64>,
    /// Since it started last.
    applied_since: Option<u64>,
    /// Entries in its view.
    view: u64,
    last_log: Option<u64>,
    /// Its log had grown after it had applied this; that mark came to disk with the entry.
    marked: Option<u64>,
    wiped: bool,
    /// Turns since it started in which the engine has told nothing yet.
    untold: Option<u8>,
    isolated: Option<(Duration, Option<u64>)>,
    /// Until then its disk may still be writing what it took before.
    stalled: Duration,
}

impl Oracle {
    /// The log of a node is gone.
    pub(crate) fn wiped(&mut self, id: NodeId) {
        let wiped = Known { wiped: true, ..Known::default() };
        self.nodes.insert(id, wiped);
    }

    /// Nothing any other node sends reaches this one since, or something may again.
    pub(crate) fn isolated(&mut self, id: NodeId, since: Option<Duration>) {
        self.nodes.entry(id).or_default().isolated = since.map(|since| (since, None));
    }

    /// The disk of a node stands still until then: what it took before shows only afterwards.
    pub(crate) fn stalled(&mut self, id: NodeId, until: Duration) {
        let known = self.nodes.entry(id).or_default();
        known.stalled = known.stalled.max(until);
        if let Some((_, entries)) = &mut known.isolated {
            *entries = None;
        }
    }

    /// Looks at every host after a step. `excused` are those whose disks were made to fail.
    pub(crate) fn check(&mut self, site: &Site, excused: &[NodeId]) -> Result<(), String> {
        let (mut writers, mut is_sync) = (Vec::new(), false);
        for host in &site.hosts {
            let (started, seen, failed) = {
                let mut state = host.state.borrow_mut();
                (state.started.take(), state.seen.take(), state.failed.clone())
            };
            if let Some(started) = started {
                self.check_start(host, &started)?;
            }
            if let Some(seen) = seen {
                self.check_step(site, host, &seen)?;
                let writes = seen.status.state == RaftState::Leader && seen.status.quorum;
                writers.extend(writes.then_some((host.id, seen.status.group)));
                is_sync |= writes && seen.sync == Sync::Sync;
                let mut state = host.state.borrow_mut();
                if seen.status.quorum {
                    state.quorum_at = site.now.get();
                }
                state.last = Some(seen);
            }
            if let Some(reason) = failed
                && (reason.starts_with(LIED) || !excused.contains(&host.id))
                && (reason.starts_with(LIED) || !self.is_wiped(host.id))
                && !host.disk.borrow().is_off()
                && !(site.renewal.get().leaves() == Some(host.id) && reason.contains(FAREWELL))
            {
                return Err(format!("node {} failed with a sound disk: {reason}", host.id));
            }
        }
        if site.is_pair() {
            if !is_sync || writers.len() > 1 {
                site.pledges.borrow_mut().not_sync(site.now.get());
            }
            self.check_writers(site, &writers)?;
        }
        Ok(())
    }

    /// Both nodes of a pair take changes only in a fork: it begins while neither hears the other's
    /// advertisements, and ends when they hear each other.
    fn check_writers(&mut self, site: &Site, writers: &[(NodeId, Group)]) -> Result<(), String> {
        let [(_, one), (_, other)] = writers else { return Ok(()) };
        if one == other {
            // The voter's part changes hands; the entries of both are compared.
            return Ok(());
        }
        let air = site.air.borrow();
        let lately = |at: Option<Duration>, limit| at.is_some_and(|at| site.now.get() < at + limit);
        let newer = one.max(other);
        if !self.forks.contains(newer) && !lately(air.cut_at(), MEETING) {
            return Err(format!("{one} and {other} are written, and both hear a router"));
        }
        self.forks.insert(*newer);
        if !lately(air.link_cut_at(), HEALING) {
            return Err(format!("{one} and {other} are written, and both nodes hear each other"));
        }
        Ok(())
    }

    fn is_wiped(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|known| known.wiped)
    }

    fn check_start(&mut self, host: &Host, now: &Inspection) -> Result<(), String> {
        let id = host.id;
        let known = self.nodes.entry(id).or_default();
        known.come_to(id, now.status.group)?;
        let applied = now.view.1.checked_sub(1);
        if applied < known.marked {
            return Err(format!(
                "node {id} had stored that entry {:?} is committed, now shows only {applied:?}",
                known.marked
            ));
        }
        // What it applies again it has applied before; its view may start further back.
        known.view = 0;
        known.applied_since = None;
        known.untold = Some(0);
        Ok(())
    }

    fn check_step(&mut self, site: &Site, host: &Host, now: &Inspection) -> Result<(), String> {
        let id = host.id;
        let known = self.nodes.entry(id).or_default();
        if now.status.state == RaftState::Shutdown {
            // What it last did may not be on its disk, and nobody was told about it.
            return Ok(());
        }
        if known.group != Some(now.status.group) {
            site.tell(format_args!("node {id} comes to {}", now.status.group));
        }
        known.come_to(id, now.status.group)?;
        if let Some(turns) = &mut known.untold {
            let stalled = site.now.get() <= known.stalled;
            if now.vote == Vote::default() && (stalled || *turns < PATIENCE) {
                *turns += u8::from(!stalled);
                return Ok(());
            }
            known.untold = None;
            if now.status.last_log < known.applied {
                return Err(format!(
                    "node {id} had applied entry {:?}, its log now ends at {:?}",
                    known.applied, now.status.last_log
                ));
            }
            known.last_log = now.status.last_log;
        }
        if now.vote < known.vote {
            return Err(format!("node {id} forgot its vote: {:?}, now {:?}", known.vote, now.vote));
        }
        if now.vote > known.vote {
            site.tell(format_args!("node {id} votes {}", shown(now.vote)));
        }
        known.vote = now.vote;
        let last_log = now.status.last_log;
        if last_log > known.last_log {
            known.marked = known.marked.max(known.applied_since);
        }
        known.last_log = last_log;
        if known.wiped && last_log.is_some() {
            return Err(format!("node {id} lost its log and takes part again"));
        }
        if !site.is_pair()
            && let Some((since, entries)) = &mut known.isolated
            && site.now.get() > known.stalled.max(*since) + GRACE
        {
            match entries {
                Some(entries) if last_log.unwrap_or(0) > *entries => {
                    return Err(format!("node {id} is cut off and takes entry {last_log:?}"));
                }
                Some(_) => {}
                None => *entries = Some(last_log.unwrap_or(0)),
            }
        }
        if now.purged > now.snapshot {
            return Err(format!("node {id} purged {:?} beyond its snapshot", now.purged));
        }
        if let Some(entry) = now.applied {
            known.applied = known.applied.max(Some(entry.index));
            known.applied_since = Some(entry.index);
            let (first, by) =
                *self.entries.entry((now.status.group, entry.index)).or_insert((entry, id));
            if first != entry {
                return Err(format!(
                    "node {by} applied {first:?}, node {id} applied {entry:?} in its place"
                ));
            }
        }
        if !now.has_state && now.status.group.generation > 1 {
            return Ok(());
        }
        let (state, count) = &now.view;
        if *count < known.view {
            return Err(format!("the view of node {id} went back from {} entries", known.view));
        }
        if *count > known.view {
            known.view = *count;
            let found = digest(state);
            let (first, by) = *self.states.entry((now.status.group, *count)).or_insert((found, id));
            if first != found {
                return Err(format!(
                    "after {count} entries nodes {by} and {id} have different states"
                ));
            }
        }
        let mut story = site.story.borrow_mut();
        for number in [id, now.vote.term, *count, last_log.unwrap_or(0)] {
            story.count(number);
        }
        Ok(())
    }
}

impl Known {
    /// Nothing is carried over to another group, and there is no way back to an earlier one.
    fn come_to(&mut self, id: NodeId, group: Group) -> Result<(), String> {
        let Some(known) = self.group.filter(|known| *known != group) else {
            self.group = Some(group);
            return Ok(());
        };
        if known.generation > group.generation {
            return Err(format!("node {id} went back from {known} to {group}"));
        }
        *self = Self { group: Some(group), stalled: self.stalled, ..Self::default() };
        Ok(())
    }
}

fn shown(vote: Vote) -> String {
    let how = if vote.committed { "leads" } else { "asks" };
    format!("{}: node {} {how}", vote.term, vote.node)
}
