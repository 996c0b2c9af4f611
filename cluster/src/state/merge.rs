//! Coming together: what one branch's state gives to another's, and taking it. Sans-io. The rules
//! are [`pair::merge`](crate::pair)'s.

use std::sync::Arc;

use super::State;
use crate::command::Reply;
use crate::pair::{Item, Legacy, Merge};

impl State {
    /// What `winner`, the state of the branch that goes on, lacks of this one.
    pub(crate) fn legacy(&self, winner: &Self) -> Legacy {
        let mut legacy = Legacy::default();
        let pardons = self.bans.pardons().filter(|(subnet, at)| {
            winner.bans.pardons().all(|(known, known_at)| known != *subnet || known_at < *at)
        });
        let pardons = pardons.map(|(subnet, at)| Item::Pardon { subnet: *subnet, at: *at });
        legacy.items.extend(pardons);
        let bans = self.bans.iter().filter(|ban| winner.bans.would_change(ban));
        legacy.items.extend(bans.map(|ban| Item::Ban((**ban).clone())));
        for (tenant, id, stamp) in self.journal.stamps() {
            let known = winner.journal.stamp(tenant, id);
            if known == Some(stamp) {
                continue;
            }
            if known < Some(stamp) {
                legacy.items.push(Item::ExApp {
                    tenant: tenant.clone(),
                    id: id.clone(),
                    stamp,
                    record: self.exapps.record(tenant, id).map(Arc::clone),
                });
            } else if winner.journal.is_after_fork(stamp) {
                legacy.report.overruled.push(tenant.label(id));
            }
        }
        legacy.report.given = legacy.items.len();
        legacy
    }

    /// Takes what another branch gives.
    pub(super) fn merge(&mut self, merge: &Merge) -> Reply {
        let mut any = false;
        for item in &merge.items {
            any |= match item {
                Item::Pardon { subnet, at } => self.bans.merge_pardon(*subnet, *at),
                Item::Ban(ban) => self.bans.merge_ban(ban),
                Item::ExApp { tenant, id, stamp, record } => {
                    let newer = self.journal.stamp(tenant, id) < Some(*stamp);
                    if newer {
                        match record {
                            Some(record) => self.exapps.push(tenant, record),
                            None => {
                                self.exapps.delete(tenant, id);
                            }
                        }
                        self.journal.set_stamp(tenant, id, *stamp);
                    }
                    newer
                }
            };
        }
        super::done_if(any)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::command::{Command, Genesis};
    use crate::pair::{Parent, group};
    use crate::record::{Ban, ExApp, Millis, NodeId, Tenant};
    use crate::state::Ticket;
    use crate::types::Proposal;

    fn exapp(id: &str, version: u64) -> Command {
        let record = ExApp {
            id: id.to_owned(),
            token: String::new(),
            version: version.to_string(),
            host: "127.0.0.1".into(),
            port: 23000,
            routes: Vec::new(),
        };
        Command::PushExApp { tenant: Tenant::default(), record }
    }

    fn delete(id: &str) -> Command {
        Command::DeleteExApp { tenant: Tenant::default(), id: id.to_owned() }
    }

    /// One node's changes, one after the other.
    fn run(state: &mut State, node: NodeId, from: u64, changes: &[(Millis, Command)]) {
        for (seq, (at, command)) in (from..).zip(changes) {
            let ticket = Some(Ticket { node, boot: 1, seq });
            state.apply_once(&Proposal { ticket, at: *at, command: Arc::new(command.clone()) });
        }
    }

    fn opened(state: &State, generation: u64) -> State {
        let mut opened = State::default();
        opened.apply(&Command::Genesis(Box::new(Genesis {
            group: group(generation),
            parent: Parent { group: group(generation - 1), entries: 9 },
            state: state.clone(),
        })));
        opened
    }

    fn give(from: &State, to: &State) -> State {
        let mut merged = to.clone();
        let items = from.legacy(to).items;
        merged.merge(&Merge { from: group(1), items });
        merged
    }

    fn version(state: &State, id: &str) -> Option<String> {
        state.exapp(&Tenant::default(), id).map(|record| record.version.clone())
    }

    #[test]
    fn of_two_changes_of_one_exapp_the_later_generation_wins_and_the_loss_is_told() {
        let mut voter = State::default();
        run(
            &mut voter,
            1,
            0,
            &[
                (1, exapp("both", 1)),
                (2, exapp("old", 1)),
                (3, exapp("new", 1)),
                (4, exapp("gone", 1)),
            ],
        );
        let mut learner = opened(&voter, 2);
        // The voter goes on for a while, with a clock that is ahead.
        run(
            &mut voter,
            1,
            9,
            &[
                (9000, exapp("both", 2)),
                (9001, exapp("old", 2)),
                (9002, delete("gone")),
                (9003, exapp("only", 2)),
            ],
        );
        run(&mut learner, 2, 0, &[(20, exapp("both", 3)), (21, exapp("new", 3))]);

        let legacy = voter.legacy(&learner);
        assert_eq!(legacy.report.overruled, ["both"]);
        assert_eq!(legacy.report.given, 3);
        let merged = give(&voter, &learner);
        assert_eq!(version(&merged, "both").as_deref(), Some("3"));
        assert_eq!(version(&merged, "old").as_deref(), Some("2"));
        assert_eq!(version(&merged, "new").as_deref(), Some("3"));
        assert_eq!(version(&merged, "only").as_deref(), Some("2"));
        assert_eq!(version(&merged, "gone"), None);
        assert!(merged.exapp_is_deleted(&Tenant::default(), "gone"));
        assert!(voter.legacy(&merged).items.is_empty(), "nothing is left to give");
    }

    #[test]
    fn a_branch_without_changes_gives_nothing() {
        let mut voter = State::default();
        run(&mut voter, 1, 0, &[(1, exapp("a", 1)), (2, set_ban(0, 5, Some(9)))]);
        let learner = opened(&voter, 2);
        let legacy = voter.legacy(&learner);
        assert!(legacy.items.is_empty() && legacy.report.overruled.is_empty());
    }

    #[test]
    fn a_ban_is_never_shortened_and_a_pardon_lifts_what_was_set_before_it() {
        let ban = |state: &State, host: u8| {
            state
                .bans
                .iter()
                .find(|ban| ban.subnet == Subnet::of([192, 0, 2, host].into()))
                .map(|ban| (ban.since, ban.until))
        };
        let mut voter = State::default();
        run(&mut voter, 1, 0, &[(1, set_ban(1, 10, Some(100))), (2, set_ban(2, 10, None))]);
        let mut learner = opened(&voter, 2);
        run(&mut voter, 1, 9, &[(3, set_ban(1, 20, Some(50))), (4, set_ban(3, 30, Some(70)))]);
        let pardon = Command::Pardon { subnet: Subnet::of([192, 0, 2, 2].into()), at: 40 };
        run(&mut learner, 2, 0, &[(5, pardon)]);
        let merged = give(&voter, &learner);
        assert_eq!(ban(&merged, 1), Some((20, Some(100))));
        assert_eq!(ban(&merged, 2), None, "pardoned");
        assert_eq!(ban(&merged, 3), Some((30, Some(70))));
    }

    use crate::record::Subnet;

    fn set_ban(host: u8, since: Millis, until: Option<Millis>) -> Command {
        Command::SetBan(Ban {
            subnet: Subnet::of([192, 0, 2, host].into()),
            since,
            until,
            node: 1,
            reason: "why".into(),
        })
    }

    #[derive(Clone, Debug)]
    enum Change {
        Push(String, u64),
        Delete(String),
        Ban(u8, Option<u64>),
        Pardon(u8),
    }

    fn any_changes() -> impl Strategy<Value = Vec<(u64, Change)>> {
        let change = prop_oneof![
            ("[a-d]", 0..9_u64).prop_map(|(id, version)| Change::Push(id, version)),
            "[a-d]".prop_map(Change::Delete),
            (0..3_u8, prop::option::of(0..90_u64)).prop_map(|(host, for_)| Change::Ban(host, for_)),
            (0..3_u8).prop_map(Change::Pardon),
        ];
        prop::collection::vec((1..20_u64, change), 0..8)
    }

    /// With the times of a clock that goes forward from `now` on.
    fn timed(mut now: Millis, changes: Vec<(u64, Change)>) -> (Millis, Vec<(Millis, Command)>) {
        let commands = changes.into_iter().map(|(pause, change)| {
            now += pause;
            let command = match change {
                Change::Push(id, version) => exapp(&id, version),
                Change::Delete(id) => delete(&id),
                Change::Ban(host, length) => {
                    set_ban(host, now, length.map(|length| now + 1000 + length))
                }
                Change::Pardon(host) => {
                    Command::Pardon { subnet: Subnet::of([192, 0, 2, host].into()), at: now }
                }
            };
            (now, command)
        });
        let commands: Vec<_> = commands.collect();
        (now, commands)
    }

    /// The tables branches are merged by.
    fn tables(state: &State) -> (Vec<Option<String>>, Vec<Ban>, Vec<Item>) {
        let versions = ["a", "b", "c", "d"].map(|id| version(state, id));
        let bans = state.bans.iter().map(|ban| (**ban).clone()).collect();
        let pardons =
            state.bans.pardons().map(|(subnet, at)| Item::Pardon { subnet: *subnet, at: *at });
        (versions.to_vec(), bans, pardons.collect())
    }

    proptest! {
        #[test]
        fn either_side_may_give_and_giving_twice_changes_nothing(
            shared in any_changes(),
            one in any_changes(),
            other in any_changes(),
            generations in (1_u64..3, 2_u64..4),
        ) {
            let (now, shared) = timed(0, shared);
            let ((_, one), (_, other)) = (timed(now, one), timed(now, other));
            let mut a = State::default();
            run(&mut a, 1, 0, &shared);
            let mut b = opened(&a, generations.1);
            if generations.0 > 1 {
                a = opened(&a, generations.0);
            }
            run(&mut a, 1, 100, &one);
            run(&mut b, 2, 0, &other);
            let (ab, ba) = (give(&b, &a), give(&a, &b));
            prop_assert_eq!(tables(&ab), tables(&ba));
            prop_assert_eq!(give(&b, &ab), ab.clone());
            prop_assert!(b.legacy(&ab).items.is_empty());

            // A crash in between: what was given is given again, from the first part on.
            let parts = b.legacy(&a).into_parts(group(1), 2, |_| 1);
            let mut again = a.clone();
            for part in parts.iter().chain(&parts) {
                again.merge(part);
            }
            prop_assert_eq!(tables(&again), tables(&ab));
        }
    }
}
