//! What an operator reads about the cluster: who leads, whether there is a quorum, which peers
//! fell silent. The engine's own log tells each attempt instead and is off by default.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::engine::Engine;
use crate::record::NodeId;
use crate::status::ClusterStatus;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// Something worth a line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Leads(NodeId),
    QuorumLost,
    QuorumBack,
    Silent(NodeId),
    Answers(NodeId),
}

/// What was told last.
#[derive(Debug, Default)]
struct Told {
    leader: Option<NodeId>,
    /// `None` until there was a quorum for the first time: until then formation tells.
    quorum: Option<bool>,
    silent: BTreeSet<NodeId>,
}

impl Told {
    /// What is new in `now`.
    fn update(&mut self, now: &ClusterStatus) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(leader) = now.leader.filter(|leader| self.leader != Some(*leader)) {
            self.leader = Some(leader);
            events.push(Event::Leads(leader));
        }
        for voter in &now.voters {
            match voter.reachable {
                Some(false) if self.silent.insert(voter.id) => events.push(Event::Silent(voter.id)),
                Some(true) if self.silent.remove(&voter.id) => {
                    events.push(Event::Answers(voter.id));
                }
                _ => {}
            }
        }
        match (self.quorum, now.quorum) {
            (Some(true), false) => events.push(Event::QuorumLost),
            (Some(false), true) => events.push(Event::QuorumBack),
            _ => {}
        }
        if now.quorum || self.quorum.is_some() {
            self.quorum = Some(now.quorum);
        }
        events
    }
}

impl Engine {
    /// Tells what changes; until dropped.
    pub(crate) async fn run_story(self: Arc<Self>) {
        let mut told = Told::default();
        loop {
            sleep(PAUSE).await;
            let status = self.status();
            for event in told.update(&status) {
                if matches!(event, Event::Leads(_)) {
                    self.measures.leader_came();
                }
                tell(&event, status.term);
            }
        }
    }
}

fn tell(event: &Event, term: u64) {
    match event {
        Event::Leads(leader) => {
            tracing::info!(name: "leader_change", leader, term, "cluster has a leader");
        }
        Event::QuorumLost => {
            tracing::warn!(
                name: "quorum_lost",
                "no quorum: this node serves what it knows, changes are not confirmed"
            );
        }
        Event::QuorumBack => tracing::info!(name: "quorum_back", "quorum is back"),
        Event::Silent(peer) => tracing::warn!(peer, "peer does not answer"),
        Event::Answers(peer) => tracing::info!(peer, "peer answers again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;
    use crate::status::{RaftState, VoterStatus};

    fn status(leader: Option<NodeId>, quorum: bool, reachable: [Option<bool>; 2]) -> ClusterStatus {
        let voters = reachable.into_iter().zip(1..).map(|(reachable, id)| VoterStatus {
            name: String::new(),
            id,
            role: Role::Node,
            address: None,
            reachable,
            lag: None,
        });
        ClusterStatus {
            node_id: 1,
            group: crate::group::Group::sample(1),
            changing: false,
            learners: Vec::new(),
            role: Role::Node,
            state: RaftState::Leader,
            term: 1,
            leader,
            quorum,
            last_log: None,
            last_applied: None,
            voters: voters.collect(),
            dropped_soft: 0,
            refused_peers: 0,
            pair: None,
            disk_full: false,
            clock_off: None,
        }
    }

    #[test]
    fn every_change_is_told_once_and_the_wait_for_the_first_quorum_is_not() {
        let (yes, no) = (Some(true), Some(false));
        let mut told = Told::default();
        for (now, expected) in [
            (status(None, false, [None, None]), vec![]),
            (status(Some(1), true, [yes, yes]), vec![Event::Leads(1)]),
            (status(Some(1), true, [yes, yes]), vec![]),
            (status(Some(1), true, [yes, no]), vec![Event::Silent(2)]),
            (status(Some(1), false, [yes, no]), vec![Event::QuorumLost]),
            (status(None, false, [None, None]), vec![]),
            (status(Some(1), true, [yes, yes]), vec![Event::Answers(2), Event::QuorumBack]),
            (status(Some(2), true, [None, None]), vec![Event::Leads(2)]),
        ] {
            assert_eq!(told.update(&now), expected, "{now:?}");
        }
    }
}
