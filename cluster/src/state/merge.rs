//! Coming together: what one branch's state gives to another's, and taking it. Sans-io. The rules
//! are [`pair::merge`](crate::pair)'s.

use std::sync::Arc;

use super::State;
use crate::command::Reply;
use crate::pair::{Item, Legacy, Merge};
use crate::record::{Attempt, Member};

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
        self.leave_members(winner, &mut legacy);
        self.leave_tokens(winner, &mut legacy);
        self.leave_authorities(winner, &mut legacy);
        legacy.report.given = legacy.items.len();
        // Told, not given: nobody would miss a line of the past.
        let told = self.events.after(0).filter(|(_, event)| winner.events.lacks(event));
        legacy.items.extend(told.map(|(_, event)| Item::Happened((**event).clone())));
        legacy
    }

    fn leave_members(&self, winner: &Self, legacy: &mut Legacy) {
        let next = winner.members.next();
        if self.members.next() > next {
            legacy.items.push(Item::Numbers { next: self.members.next() });
        }
        let is_here_alone = |one: &&Arc<Member>| {
            let known = winner.members.get(one.id).is_some_and(|other| other.since == one.since);
            !known && !winner.members.is_removed(one.id)
        };
        let void = self.members.iter().filter(is_here_alone);
        legacy.report.void_members.extend(void.map(|one| one.name.clone()));
    }

    fn leave_tokens(&self, winner: &Self, legacy: &mut Legacy) {
        for token in self.tokens.iter() {
            let Some(known) = winner.tokens.get(token.id) else {
                if token.uses_left > 0 && token.expires_at > winner.clock {
                    legacy.report.void_tokens.push(token.id.to_string());
                }
                continue;
            };
            let is_new = |attempt: &Attempt| known.admitted.iter().all(|(it, _)| it != attempt);
            let attempts = token.admitted.iter().map(|(attempt, _)| *attempt).filter(is_new);
            let attempts: Vec<_> = attempts.collect();
            if !attempts.is_empty() {
                legacy.items.push(Item::Spent { id: token.id, attempts });
            }
        }
        // One made on the other side since is not known here either; in doubt it is revoked.
        let Some(forked_at) = winner.journal.fork_with(&self.journal) else { return };
        let revoked = winner
            .tokens
            .iter()
            .filter(|token| token.since <= forked_at && self.tokens.get(token.id).is_none());
        legacy.items.extend(revoked.map(|token| Item::Revoked { id: token.id }));
    }

    fn leave_authorities(&self, winner: &Self, legacy: &mut Legacy) {
        let (Some(own), Some(theirs)) = (&self.pki, &winner.pki) else { return };
        match own.since_fork(theirs) {
            None => legacy.report.void_frp = true,
            Some((added, dropped)) => {
                if theirs.merged(&added, &dropped).authorities != theirs.authorities {
                    legacy.items.push(Item::FrpAuthorities { added, dropped });
                }
            }
        }
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
                Item::Numbers { next } => self.members.skip_to(*next),
                Item::Spent { id, attempts } => self.tokens.spent_elsewhere(*id, attempts),
                Item::Revoked { id } => self.tokens.revoke(*id),
                Item::Happened(event) => self.events.tell(event),
                Item::FrpAuthorities { added, dropped } => match &self.pki {
                    None => false,
                    Some(known) => {
                        let merged = known.merged(added, dropped);
                        let changed = merged != **known;
                        self.pki = Some(Arc::new(merged));
                        changed
                    }
                },
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
    use crate::record::{
        Applicant, Ban, ClusterAuthority, Founders, FrpAuthority, FrpCertificate, FrpPki, Millis,
        NodeId, Refusal, Role, SealedExApp, Tenant, Token, TokenId,
    };
    use crate::state::Ticket;
    use crate::types::Proposal;

    fn exapp(id: &str, version: u64) -> Command {
        let record = SealedExApp {
            id: id.to_owned(),
            token: Vec::new(),
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

    const TOKEN: TokenId = TokenId([1; 5]);

    /// A cluster with one member and a token for `uses` machines.
    fn founded(uses: u16) -> State {
        let mut state = State::default();
        let member = Member {
            id: 1,
            name: "n1".into(),
            role: Role::Node,
            address: None,
            incarnation: 0,
            feature: 1,
            since: 0,
            papers: None,
        };
        let authority = ClusterAuthority { serial: 1, certificate: "pem".into(), key: Vec::new() };
        state.apply(&Command::Found(Founders { authority, members: vec![member] }));
        run(&mut state, 1, 0, &[(10, token(TOKEN, 10, uses))]);
        state
    }

    fn token(id: TokenId, since: Millis, uses_left: u16) -> Command {
        Command::CreateToken(Token {
            id,
            hash: [7; 32],
            role: Role::Witness,
            by: 1,
            since,
            expires_at: 100_000,
            uses_left,
            admitted: Vec::new(),
        })
    }

    fn admit(state: &mut State, which: u8) -> Reply {
        state.apply(&Command::Admit(Applicant {
            token: TOKEN,
            hash: [7; 32],
            attempt: Attempt([which; 16]),
            name: format!("w{which}"),
            role: Role::Witness,
            address: ([192, 0, 2, which], 7443).into(),
            feature: 1,
            at: 500 + Millis::from(which),
        }))
    }

    #[test]
    fn a_use_of_a_token_on_either_side_is_a_use_and_its_machine_is_a_member_of_one_only() {
        let mut voter = founded(3);
        let mut learner = opened(&voter, 2);
        assert_eq!(admit(&mut voter, 10), Reply::Admitted(2));
        assert_eq!(admit(&mut voter, 11), Reply::Admitted(3));
        assert_eq!(admit(&mut learner, 20), Reply::Admitted(2));
        let legacy = voter.legacy(&learner);
        // Number 2 is a member there, another one than here.
        assert_eq!(legacy.report.void_members, ["w10", "w11"]);
        let mut merged = give(&voter, &learner);
        assert!(merged.is_removed(3), "whoever has its certificate is refused");
        assert_eq!(merged.next_number(), 4);
        let refused = Reply::Refused(Refusal::SpentToken);
        assert_eq!(admit(&mut merged, 10), refused, "admitted there, which does not count");
        assert_eq!(admit(&mut merged, 30), refused, "three of three");
        assert_eq!(admit(&mut merged, 20), Reply::Admitted(2));
        assert!(voter.legacy(&merged).items.is_empty(), "nothing is left to give");
    }

    #[test]
    fn a_token_revoked_on_either_side_is_revoked_and_one_made_on_the_ended_side_is_void() {
        let [here, there] = [TokenId([2; 5]), TokenId([3; 5])];
        let mut voter = founded(1);
        let mut learner = opened(&voter, 2);
        let revoke = Command::RevokeToken { id: TOKEN };
        run(&mut voter, 1, 9, &[(20, revoke), (21, token(there, 21, 1))]);
        run(&mut learner, 2, 0, &[(22, token(here, 22, 1))]);
        let legacy = voter.legacy(&learner);
        assert_eq!(legacy.report.void_tokens, [there.to_string()]);
        let merged = give(&voter, &learner);
        let ids: Vec<_> = merged.tokens().map(|token| token.id).collect();
        assert_eq!(ids, [here]);

        // The other way round.
        let mut learner = opened(&founded(1), 2);
        run(&mut learner, 2, 0, &[(20, Command::RevokeToken { id: TOKEN })]);
        assert_eq!(give(&founded(1), &learner).tokens().count(), 0, "it does not come back");
    }

    #[test]
    fn an_authority_of_the_tunnel_port_added_on_the_ended_side_stays_trusted() {
        let certificate =
            |pem: &str| FrpCertificate { pem: pem.into(), key: vec![1], from: 0, until: 9 };
        let pki = |revision, names: &[&str]| {
            let authority = |name: &&str| FrpAuthority { own: certificate(name), crossed: None };
            let authorities = names.iter().map(authority).collect();
            let (server, client) = (certificate("server"), certificate("client"));
            Command::SetPki(FrpPki { revision, authorities, server, client })
        };
        let mut voter = founded(1);
        run(&mut voter, 1, 5, &[(11, pki(1, &["a"]))]);
        let mut learner = opened(&voter, 2);
        run(&mut voter, 1, 9, &[(20, pki(2, &["a", "x"]))]);
        run(&mut learner, 2, 0, &[(21, pki(2, &["a", "y"]))]);
        let merged = give(&voter, &learner);
        let known = merged.pki().unwrap();
        let names: Vec<_> = known.authorities.iter().map(|one| &*one.own.pem).collect();
        assert_eq!((known.revision, names), (3, vec!["a", "x", "y"]));
        assert!(voter.legacy(&merged).items.is_empty());
        // Both gave up everything they had in common.
        run(&mut voter, 1, 19, &[(30, pki(3, &["x"]))]);
        run(&mut learner, 2, 9, &[(31, pki(3, &["y"]))]);
        assert!(voter.legacy(&learner).report.void_frp);
    }

    #[test]
    fn what_comes_out_of_a_backup_is_a_branch_of_its_own() {
        let mut state = founded(1);
        run(&mut state, 1, 5, &[(20, exapp("a", 1))]);
        let stamp = state.journal.stamp(&Tenant::default(), "a");
        let only = Member::clone(state.member(1).unwrap());
        let parent = Parent { group: group(1), entries: 9 };
        let again = state.begun_again(only, 2, parent);
        assert_eq!(again.history(), (Some(parent), 0, 20));
        assert_eq!(again.journal.generation, 2);
        assert_eq!(again.journal.stamp(&Tenant::default(), "a"), stamp, "as old as it was");
    }

    proptest! {
        #[test]
        fn a_token_admits_no_more_than_it_says_on_both_sides_together_after_they_met(
            uses in 1_u16..6,
            shared in prop::collection::vec(0_u8..8, 0..3),
            one in prop::collection::vec(0_u8..8, 0..6),
            other in prop::collection::vec(0_u8..8, 0..6),
            after in prop::collection::vec(0_u8..8, 0..6),
        ) {
            let mut voter = founded(uses);
            let all = |state: &mut State, machines: &[u8]| {
                machines.iter().filter(|which| matches!(admit(state, **which), Reply::Admitted(_))).count()
            };
            all(&mut voter, &shared);
            let mut learner = opened(&voter, 2);
            all(&mut voter, &one);
            all(&mut learner, &other);
            let mut merged = give(&voter, &learner);
            prop_assert!(voter.legacy(&merged).items.is_empty());
            let before: std::collections::BTreeSet<[u8; 16]> = [&voter, &learner]
                .into_iter()
                .flat_map(|state| state.tokens().flat_map(|token| token.admitted.iter().map(|it| it.0.0)))
                .collect();
            all(&mut merged, &after);
            let admitted = &merged.tokens().next().unwrap().admitted;
            let new = admitted.iter().filter(|(attempt, _)| !before.contains(&attempt.0)).count();
            prop_assert!(new + before.len() <= usize::from(uses).max(before.len()));
            prop_assert!(merged.next_number() >= voter.next_number().max(learner.next_number()));
        }
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
