//! Sync groups: virtual routers of one host that move together, as a gateway needs them that would
//! else have one foot on each of two hosts. Sans-io.
//!
//! The meaning is keepalived's: all members are Active, or all are Backup, or all are in fault. A
//! [`Group`] looks at its members after each event and says what each has to do; it keeps no state
//! of its own, so that nothing can get out of step.
//!
//! | members | orders |
//! |---|---|
//! | one has a fault of its own | the others halt; they resume when there is none |
//! | an Active and a Backup | one has just given way: the others yield |
//! | one wants to be Active, every other may | all claim |
//! | one wants to be Active, another hears its Active | nothing; the one waits |
//!
//! The last line is what keeps two hosts from passing the group to and fro when only one segment
//! is cut, or when each has the higher priority on another segment. And because priorities that
//! differ within a group can have no meaning, all members run with the lowest of them.

use std::sync::Arc;

use crate::{config::Priority, event::State};

/// After so many rounds of orders a group agrees; it takes no more than four.
pub(crate) const ROUNDS: usize = 6;

/// How a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its state.
    pub state: State,
    /// It has a fault that is not the group's.
    pub in_fault: bool,
    /// It has been told to halt.
    pub halted: bool,
    /// Its Active is gone or of lower priority, and only the group is missing.
    pub wants: bool,
    /// Nothing speaks against its becoming Active.
    pub may_join: bool,
    /// Its priority, were it alone.
    pub own_priority: Priority,
    /// Its priority in force.
    pub priority: Priority,
}

/// What a member is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Become Active; all others do.
    Claim,
    /// Go to Backup with a goodbye; another member had to.
    Yield,
    /// Another member is in fault.
    Halt,
    /// No other member is in fault any more.
    Resume,
    /// Run with no higher priority than this.
    Cap(Priority),
}

/// The virtual routers with the same group name, by their place in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    name: Arc<str>,
    members: Vec<usize>,
}

impl Group {
    /// The groups among routers that each name theirs, if they have one.
    pub fn all<'a>(names: impl IntoIterator<Item = Option<&'a Arc<str>>>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for (index, name) in names.into_iter().enumerate() {
            let Some(name) = name else { continue };
            match groups.iter_mut().find(|group| group.name == *name) {
                Some(group) => group.members.push(index),
                None => groups.push(Self { name: Arc::clone(name), members: vec![index] }),
            }
        }
        groups
    }

    /// The word they share.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Their places.
    pub fn members(&self) -> &[usize] {
        &self.members
    }
}

/// What each of `members` has to do now, as its place among them and the order. No order means that
/// the group agrees; after carrying orders out it has to be asked again, and soon has none.
pub fn orders(members: &[Member]) -> Vec<(usize, Order)> {
    let each = |order: fn(usize, &Member) -> Option<Order>| {
        let order = move |(index, member)| Some((index, order(index, member)?));
        members.iter().enumerate().filter_map(order).collect::<Vec<_>>()
    };
    if let Some(lowest) = members.iter().map(|member| member.own_priority).min()
        && members.iter().any(|member| member.priority != lowest)
    {
        let cap = |(index, _)| (index, Order::Cap(lowest));
        return members.iter().enumerate().map(cap).collect();
    }
    let faulty = members.iter().filter(|member| member.in_fault).count();
    if faulty > 0 {
        return members
            .iter()
            .enumerate()
            .filter_map(|(index, member)| {
                // One that is in fault itself halts as well while another is.
                let halt = faulty > usize::from(member.in_fault);
                match (halt, member.halted) {
                    (true, false) => Some((index, Order::Halt)),
                    (false, true) => Some((index, Order::Resume)),
                    _ => None,
                }
            })
            .collect();
    }
    if members.iter().any(|member| member.halted) {
        return each(|_, member| member.halted.then_some(Order::Resume));
    }
    let active = members.iter().filter(|member| member.state == State::Active).count();
    if active > 0 && active < members.len() {
        return each(|_, member| (member.state == State::Active).then_some(Order::Yield));
    }
    let all_may = members.iter().all(|member| member.may_join);
    if all_may && members.iter().any(|member| member.wants) {
        return each(|_, _| Some(Order::Claim));
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn priority(priority: u8) -> Priority {
        Priority::new(priority).unwrap()
    }

    fn member(state: State) -> Member {
        Member {
            state,
            in_fault: false,
            halted: false,
            wants: false,
            may_join: false,
            own_priority: priority(100),
            priority: priority(100),
        }
    }

    #[test]
    fn members_move_together() {
        use Order::{Cap, Claim, Halt, Resume, Yield};
        use State::{Active, Backup, Initialize};
        let backup = member(Backup);
        let active = member(Active);
        let wants = Member { wants: true, may_join: true, ..backup };
        let joins = Member { may_join: true, ..backup };
        let faulty = Member { in_fault: true, ..member(Initialize) };
        let halted = Member { halted: true, ..member(Initialize) };
        let both = Member { in_fault: true, ..halted };
        let weak = Member { own_priority: priority(50), priority: priority(50), ..backup };
        let capped = Member { priority: priority(50), ..backup };
        let table = [
            ("all backup", vec![backup, backup], vec![]),
            ("all active", vec![active, active], vec![]),
            ("one is alone", vec![wants], vec![(0, Claim)]),
            ("all want", vec![wants, wants], vec![(0, Claim), (1, Claim)]),
            ("one wants, the other may", vec![joins, wants], vec![(0, Claim), (1, Claim)]),
            ("one wants, the other hears its active", vec![wants, backup], vec![]),
            ("nobody wants", vec![joins, joins], vec![]),
            ("one gave way", vec![backup, active, active], vec![(1, Yield), (2, Yield)]),
            ("one gave way and wants back", vec![wants, active], vec![(1, Yield)]),
            ("one fails", vec![faulty, active], vec![(1, Halt)]),
            ("one has failed", vec![faulty, halted], vec![]),
            ("a second fails", vec![faulty, both], vec![(0, Halt)]),
            ("two have failed", vec![both, both, halted], vec![]),
            ("one of two recovers", vec![both, halted, halted], vec![(0, Resume)]),
            ("the last recovers", vec![backup, halted, halted], vec![(1, Resume), (2, Resume)]),
            (
                "priorities differ",
                vec![weak, active],
                vec![(0, Cap(priority(50))), (1, Cap(priority(50)))],
            ),
            ("priorities are capped", vec![weak, capped], vec![]),
        ];
        for (name, members, expected) in table {
            assert_eq!(orders(&members), expected, "{name}");
        }
    }

    #[test]
    fn routers_with_the_same_word_are_a_group() {
        let (web, mail): (Arc<str>, Arc<str>) = ("web".into(), "mail".into());
        let groups = Group::all([Some(&web), None, Some(&mail), Some(&web)]);
        let members: Vec<_> =
            groups.iter().map(|group| (&**group.name(), group.members())).collect();
        assert_eq!(members, [("web", &[0, 3][..]), ("mail", &[2])]);
    }

    fn any_member() -> impl Strategy<Value = Member> {
        let state = prop_oneof![Just(State::Backup), Just(State::Active)];
        let flags = any::<[bool; 4]>();
        (state, flags, 1_u8..4, 1_u8..4).prop_map(|(state, flags, own, now)| {
            let [in_fault, halted, wants, may] = flags;
            let state = if in_fault || halted { State::Initialize } else { state };
            let may_join = state == State::Backup && (may || wants);
            Member {
                state,
                in_fault,
                halted,
                wants: wants && state == State::Backup,
                may_join,
                own_priority: priority(own),
                priority: priority(now),
            }
        })
    }

    /// What a router does with an order.
    fn obey(member: &mut Member, order: Order) {
        let backup = |member: &mut Member| {
            member.state = State::Backup;
            (member.wants, member.may_join) = (false, false);
        };
        match order {
            Order::Claim => {
                member.state = State::Active;
                (member.wants, member.may_join) = (false, false);
            }
            Order::Yield => backup(member),
            Order::Halt => {
                backup(member);
                (member.halted, member.state) = (true, State::Initialize);
            }
            Order::Resume => {
                member.halted = false;
                if !member.in_fault {
                    backup(member);
                }
            }
            Order::Cap(priority) => member.priority = priority,
        }
    }

    proptest! {
        /// From wherever: a few rounds of orders, and all members agree.
        #[test]
        fn a_group_settles(mut members in prop::collection::vec(any_member(), 1..5)) {
            for round in 0.. {
                let orders = orders(&members);
                if orders.is_empty() {
                    break;
                }
                prop_assert!(round < ROUNDS, "{members:?}: {orders:?}");
                for (index, order) in orders {
                    obey(&mut members[index], order);
                }
            }
            prop_assert!(members.windows(2).all(|pair| pair[0].state == pair[1].state));
        }
    }
}
