//! Who was heard when, and what they said: the memory a second opinion is formed from. Sans-io.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::{Beat, Hearsay, Word, bound_heard, micros};
use crate::flows::Mark;
use crate::passport::Seed;
use crate::record::{NodeId, Role};

/// Hearsay about a node nobody has heard for longer is of no use.
const STALE: Duration = Duration::from_secs(10);

/// Everything known about the other members at one moment. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Every other member, in the order of their ids.
    pub peers: BTreeMap<NodeId, Peer>,
}

/// One other member.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Serves or only votes.
    pub role: Role,
    /// Whether there is a presence connection.
    pub connected: bool,
    /// Its last beat; none since this node started.
    pub last: Option<Told>,
    /// The way there and back as last measured.
    pub round_trip: Option<Duration>,
    /// What it said about third nodes in its last beat.
    pub hears: Arc<Vec<(NodeId, Told)>>,
    /// Beats received since start.
    pub beats: u64,
    /// How much it knows of this node's flows.
    pub mark: Mark,
}

/// What a node said about itself, and when it was heard.
#[derive(Clone, Debug)]
pub struct Told {
    /// When the beat arrived: here, or by hearsay, when it must have arrived there.
    pub at: Instant,
    /// What it said.
    pub word: Arc<Word>,
}

impl Heard {
    /// Who the others are from now on; what was heard of those that stay is kept.
    pub(super) fn follow(&mut self, me: NodeId, members: &[Seed]) {
        let mut before = std::mem::take(&mut self.peers);
        for member in members.iter().filter(|member| member.number != me) {
            let known = before.remove(&member.number);
            let peer = known.unwrap_or_else(|| Peer {
                role: member.role,
                connected: false,
                last: None,
                round_trip: None,
                hears: Arc::default(),
                beats: 0,
                mark: Mark::default(),
            });
            self.peers.insert(member.number, Peer { role: member.role, ..peer });
        }
    }

    /// Everything said about a node, by itself and by others, in no particular order.
    pub fn about(&self, node: NodeId) -> impl Iterator<Item = &Told> {
        let own = self.peers.get(&node).and_then(|peer| peer.last.as_ref());
        let others = self.peers.values().flat_map(|peer| peer.hears.iter());
        own.into_iter().chain(others.filter(move |(of, _)| *of == node).map(|(_, told)| told))
    }

    /// Whether every member was heard at least once.
    pub fn knows_all(&self) -> bool {
        self.peers.values().all(|peer| peer.last.is_some())
    }

    /// How much `node` knows of this node's flows, by its last beat.
    pub(super) fn mark_at(&self, node: NodeId) -> Mark {
        self.peers.get(&node).map(|peer| peer.mark).unwrap_or_default()
    }

    pub(super) fn set_connected(&mut self, node: NodeId, connected: bool) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.connected = connected;
        }
    }

    pub(super) fn take(
        &mut self,
        now: Instant,
        from: NodeId,
        beat: Beat,
        round_trip: Option<Duration>,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.last = Some(Told { at: now, word: Arc::new(beat.word) });
        peer.round_trip = round_trip.or(peer.round_trip);
        peer.beats += 1;
        peer.mark = beat.mark;
        let hears = beat.heard.into_iter().filter(|hearsay| hearsay.node != from);
        let told = hears.filter_map(|Hearsay { node, age_us, word }| {
            let age = Duration::from_micros(age_us);
            let at = now.checked_sub(age).filter(|_| age < STALE)?;
            Some((node, Told { at, word: Arc::new(word) }))
        });
        peer.hears = Arc::new(told.collect());
    }

    /// What this node can tell `to` about the others. Only what it heard itself: hearsay of
    /// hearsay would never grow old.
    pub(super) fn gossip(&self, now: Instant, to: NodeId) -> Vec<Hearsay> {
        let others = self.peers.iter().filter(|(node, _)| **node != to);
        let lately = others.filter_map(|(node, peer)| {
            let told = peer.last.as_ref()?;
            let age = now.saturating_duration_since(told.at);
            let word = Word::clone(&told.word);
            (age < STALE).then(|| Hearsay { node: *node, age_us: micros(age), word })
        });
        let mut heard: Vec<_> = lately.collect();
        bound_heard(&mut heard);
        heard
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Content;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn heard_by(me: NodeId) -> Heard {
        let member = |number, role| {
            let address = Some(([192, 0, 2, 1], 1).into());
            Seed { number, name: format!("n{number}"), role, address }
        };
        let trio = [member(1, Role::Node), member(2, Role::Node), member(3, Role::Witness)];
        let mut heard = Heard::default();
        heard.follow(me, &trio);
        heard
    }

    fn beat(heard: Vec<Hearsay>) -> Beat {
        let word = Word { healthy: true, ..Word::default() };
        Beat::new(1, None, Content { word, heard, ..Content::default() })
    }

    #[test]
    fn a_witness_passes_on_what_it_heard_with_its_age() {
        let start = Instant::now();
        let mut witness = heard_by(3);
        witness.take(start, 1, beat(Vec::new()), None);
        let gossip = witness.gossip(start + 30 * MS, 2);
        assert_eq!(gossip.len(), 1, "not about whom it speaks to, and not about the unheard");
        assert_eq!(gossip[0].age_us, 30_000);

        let mut node = heard_by(2);
        let arrived = start + 31 * MS;
        node.take(arrived, 3, beat(gossip), None);
        let ages: Vec<_> = node.about(1).map(|told| arrived - told.at).collect();
        assert_eq!(ages, [30 * MS]);
        assert!(!node.knows_all());
        assert!(node.gossip(arrived, 1).iter().all(|hearsay| hearsay.node == 3), "no hearsay");
    }

    #[test]
    fn what_is_old_or_from_nowhere_is_left_out() {
        let start = Instant::now();
        let hearsay = |node, age_us| Hearsay { node, age_us, word: Word::default() };
        let mut node = heard_by(2);
        node.take(start, 3, beat(vec![hearsay(1, u64::MAX), hearsay(3, 0)]), None);
        assert_eq!(node.about(1).count(), 0);
        assert_eq!(node.about(3).count(), 1, "nobody is a witness of himself");
        node.take(start, 9, beat(Vec::new()), None);
        assert_eq!(node.peers.len(), 2, "a stranger is nobody");
        assert!(node.gossip(start + STALE, 1).is_empty());
    }
}
