//! Who votes and who only learns, and the next careful step towards that. Sans-io.
//!
//! One member votes alone. Of two, one votes and one learns: two votes would need both for every
//! change. Of three and more an odd number votes, five at most, load balancers first; a witness
//! votes only to make the number odd. A voter that has been dead for long gives its place to a
//! learner that has not, but the number of votes does not sink below three for that.

use std::collections::BTreeSet;
use std::fmt;

use crate::mutation::mutated;
use crate::record::Role;
use crate::types::{RaftId, number_of};

/// Most voters: more only make every change slower.
const MOST_VOTERS: usize = 5;

/// Votes a cluster that had three keeps while members are dead.
const LEAST_VOTERS: usize = 3;

/// A member as far as votes are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) id: RaftId,
    pub(crate) role: Role,
    /// It answers and has nearly the whole log.
    pub(crate) ready: bool,
    /// It has not answered for so long that its vote may go to another.
    pub(crate) dead: bool,
}

/// How the engine stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Current {
    /// Whoever asks.
    pub(crate) leader: RaftId,
    pub(crate) voters: BTreeSet<RaftId>,
    /// Nodes of the engine without a vote.
    pub(crate) learners: BTreeSet<RaftId>,
    /// A change of voters was begun and not ended.
    pub(crate) joint: bool,
}

/// How it should stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) voters: BTreeSet<RaftId>,
    pub(crate) learners: BTreeSet<RaftId>,
}

/// One change of the engine's membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Give a member the log.
    Learn(RaftId),
    /// Make these the voters; the others go on learning.
    Vote(BTreeSet<RaftId>),
    /// Forget these, which are no members any more.
    Forget(BTreeSet<RaftId>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = |ids: &BTreeSet<RaftId>| {
            let numbers: Vec<_> = ids.iter().map(|id| number_of(*id).to_string()).collect();
            numbers.join(", ")
        };
        match self {
            Self::Learn(id) => write!(f, "node {} gets the log", number_of(*id)),
            Self::Vote(voters) => write!(f, "voters are {}", numbers(voters)),
            Self::Forget(gone) => write!(f, "forget {}", numbers(gone)),
        }
    }
}

/// Who should vote and who learn.
pub(crate) fn plan(members: &[Seat], current: &Current) -> Plan {
    let all: BTreeSet<RaftId> = members.iter().map(|seat| seat.id).collect();
    let voters = if mutated!(LearnerVotes) { all.clone() } else { voters(members, current) };
    let learners = all.difference(&voters).copied().collect();
    Plan { voters, learners }
}

fn voters(members: &[Seat], current: &Current) -> BTreeSet<RaftId> {
    // Whoever leads or votes already stays before others of its role; the dead come last.
    let rank = |seat: &Seat| {
        let votes = current.voters.contains(&seat.id);
        (seat.dead, seat.id != current.leader, !votes, seat.id)
    };
    let of = |role| {
        let mut seats: Vec<_> = members.iter().filter(|seat| seat.role == role).collect();
        seats.sort_by_key(|seat| rank(seat));
        seats.into_iter().map(|seat| seat.id).collect::<Vec<_>>()
    };
    let (nodes, witnesses) = (of(Role::Node), of(Role::Witness));
    let wanted = match (nodes.len(), witnesses.len()) {
        (0, _) => return witnesses.into_iter().take(1).collect(),
        // Two members: one votes.
        (1 | 2, 0) | (1, _) => return nodes.into_iter().take(1).collect(),
        (nodes, _) if nodes >= MOST_VOTERS => MOST_VOTERS,
        (nodes, 0) if nodes % 2 == 0 => nodes - 1,
        (nodes, _) if nodes % 2 == 0 => nodes + 1,
        (nodes, _) => nodes,
    };
    debug_assert!(wanted >= LEAST_VOTERS, "three members and more have three votes");
    nodes.into_iter().chain(witnesses).take(wanted).collect()
}

/// The next change, if one is due and safe. Members are learners first and get a vote only when
/// they have the log; a vote is taken only together with the change that makes the number right.
pub(crate) fn step(members: &[Seat], current: &Current, plan: &Plan) -> Option<Step> {
    let known: BTreeSet<_> = current.voters.union(&current.learners).copied().collect();
    let missing = members.iter().find(|seat| !known.contains(&seat.id));
    if let Some(seat) = missing.filter(|_| !current.joint) {
        return Some(Step::Learn(seat.id));
    }
    let ready = |id: &RaftId| members.iter().any(|seat| seat.id == *id && seat.ready);
    let fresh = plan.voters.difference(&current.voters);
    if current.joint || (plan.voters != current.voters && fresh.clone().all(ready)) {
        return Some(Step::Vote(plan.voters.clone()));
    }
    // A member that was removed must not keep its vote until others are ready.
    let gone = |id: &&RaftId| !members.iter().any(|seat| seat.id == **id);
    if plan.voters != current.voters && current.voters.iter().any(|id| gone(&id)) {
        let left: BTreeSet<_> = current.voters.iter().filter(|id| !gone(id)).copied().collect();
        return (!left.is_empty()).then_some(Step::Vote(left));
    }
    let stale: BTreeSet<_> = current.learners.iter().filter(gone).copied().collect();
    (!stale.is_empty()).then_some(Step::Forget(stale))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Load balancers and witnesses, numbered in this order.
    fn members(nodes: u64, witnesses: u64) -> Vec<Seat> {
        let seat = |id| Seat {
            id,
            role: if id <= nodes { Role::Node } else { Role::Witness },
            ready: true,
            dead: false,
        };
        (1..=nodes + witnesses).map(seat).collect()
    }

    fn current(leader: RaftId, voters: &[RaftId], learners: &[RaftId]) -> Current {
        let set = |ids: &[RaftId]| ids.iter().copied().collect();
        Current { leader, voters: set(voters), learners: set(learners), joint: false }
    }

    #[test]
    fn an_odd_number_votes_and_a_witness_only_to_make_it_odd() {
        // Load balancers, witnesses, voters; the leader is 1.
        let table: [(u64, u64, &[RaftId]); 13] = [
            (1, 0, &[1]),
            (2, 0, &[1]),
            (1, 1, &[1]),
            (2, 1, &[1, 2, 3]),
            (1, 2, &[1]),
            (3, 0, &[1, 2, 3]),
            (3, 1, &[1, 2, 3]),
            (2, 2, &[1, 2, 3]),
            (4, 0, &[1, 2, 3]),
            (4, 1, &[1, 2, 3, 4, 5]),
            (5, 1, &[1, 2, 3, 4, 5]),
            (6, 0, &[1, 2, 3, 4, 5]),
            (6, 2, &[1, 2, 3, 4, 5]),
        ];
        for (nodes, witnesses, expected) in table {
            let plan = plan(&members(nodes, witnesses), &current(1, &[1], &[]));
            let voters: Vec<_> = plan.voters.iter().copied().collect();
            assert_eq!(voters, expected, "{nodes} load balancers, {witnesses} witnesses");
            assert_eq!(plan.voters.len() + plan.learners.len(), members(nodes, witnesses).len());
        }
    }

    #[test]
    fn a_pair_keeps_the_voter_it_has() {
        let plan = plan(&members(2, 0), &current(2, &[2], &[1]));
        assert_eq!(plan.voters, BTreeSet::from([2]));
    }

    #[test]
    fn a_dead_voter_gives_its_place_to_a_learner_but_not_to_nobody() {
        let mut seats = members(4, 0);
        seats[2].dead = true;
        let now = current(1, &[1, 2, 3], &[4]);
        assert_eq!(plan(&seats, &now).voters, BTreeSet::from([1, 2, 4]));
        seats.pop();
        assert_eq!(plan(&seats, &now).voters, BTreeSet::from([1, 2, 3]), "still three votes");
    }

    #[test]
    fn steps_are_taken_one_at_a_time_and_only_when_they_are_safe() {
        let set = |ids: &[RaftId]| BTreeSet::from_iter(ids.iter().copied());
        let joint = Current { joint: true, ..current(1, &[1, 2, 3], &[]) };
        type Edit = fn(&mut Vec<Seat>);
        let table: [(&str, Edit, Current, Option<Step>); 8] = [
            ("as planned", |_| {}, current(1, &[1, 2, 3], &[]), None),
            ("a new one", |_| {}, current(1, &[1], &[2]), Some(Step::Learn(3))),
            ("caught up", |_| {}, current(1, &[1], &[2, 3]), Some(Step::Vote(set(&[1, 2, 3])))),
            ("behind", |seats| seats[2].ready = false, current(1, &[1], &[2, 3]), None),
            ("unfinished", |_| {}, joint, Some(Step::Vote(set(&[1, 2, 3])))),
            ("one too many", |_| {}, current(1, &[1, 2, 3], &[9]), Some(Step::Forget(set(&[9])))),
            (
                "removed voter, learner not ready",
                |seats| seats[2].ready = false,
                current(1, &[1, 2, 9], &[3]),
                Some(Step::Vote(set(&[1, 2]))),
            ),
            (
                "removed leader of a pair, nobody ready",
                |seats| {
                    seats.truncate(1);
                    seats[0].ready = false;
                },
                current(9, &[9], &[1]),
                None,
            ),
        ];
        for (name, edit, now, expected) in table {
            let mut seats = members(3, 0);
            edit(&mut seats);
            let plan = plan(&seats, &now);
            assert_eq!(step(&seats, &now, &plan), expected, "{name}");
        }
    }

    #[test]
    fn a_member_that_came_back_empty_replaces_its_earlier_self() {
        let mut seats = members(3, 0);
        seats[2].id = (1 << 32) + 3;
        let mut now = current(1, &[1, 2, 3], &[]);
        let mut steps = Vec::new();
        while let Some(next) = step(&seats, &now, &plan(&seats, &now)) {
            take(&next, &mut now);
            steps.push(next.to_string());
        }
        assert_eq!(steps, ["node 3 gets the log", "voters are 1, 2, 3", "forget 3"]);
    }

    /// What the engine does with a step.
    fn take(step: &Step, now: &mut Current) {
        match step {
            Step::Learn(id) => {
                now.learners.insert(*id);
            }
            Step::Vote(voters) => {
                let all: BTreeSet<_> = now.voters.union(&now.learners).copied().collect();
                assert!(voters.is_subset(&all), "a vote for a stranger");
                now.learners = all.difference(voters).copied().collect();
                now.voters.clone_from(voters);
                now.joint = false;
            }
            Step::Forget(gone) => {
                assert!(gone.is_disjoint(&now.voters), "a voter is forgotten");
                now.learners.retain(|id| !gone.contains(id));
            }
        }
    }

    proptest! {
        #[test]
        fn every_cluster_comes_to_rest_with_the_right_number_of_votes(
            seats in proptest::collection::vec((any::<bool>(), any::<bool>()), 1..9),
            joined in proptest::collection::vec(1_u64..12, 0..5),
        ) {
            let mut seats: Vec<_> = (1..).zip(seats).map(|(id, (witness, dead))| Seat {
                id,
                role: if witness { Role::Witness } else { Role::Node },
                ready: true,
                dead,
            }).collect();
            seats[0] = Seat { id: 1, role: Role::Node, ready: true, dead: false };
            let voters: Vec<_> = joined.into_iter().chain([1]).collect();
            let mut now = current(1, &voters, &[]);
            let mut left = 30;
            while let Some(next) = step(&seats, &now, &plan(&seats, &now)) {
                take(&next, &mut now);
                left -= 1;
                prop_assert!(left > 0, "never at rest: {now:?}");
            }
            let (votes, nodes) = (now.voters.len(), seats.iter().filter(|s| s.role == Role::Node));
            prop_assert!(votes % 2 == 1 && votes <= MOST_VOTERS);
            prop_assert!(now.voters.contains(&1), "the leader keeps its vote");
            prop_assert!(votes >= LEAST_VOTERS || nodes.count() <= 2);
            let members: BTreeSet<_> = seats.iter().map(|seat| seat.id).collect();
            let all: BTreeSet<_> = now.voters.union(&now.learners).copied().collect();
            prop_assert_eq!(all, members);
        }
    }
}
