//! Who is a member, who was, and which number comes next. Sans-io.
//!
//! A number below `next` that is no member's was one: it is never given again, and whoever still
//! has its certificate is told that it was removed. No list of the removed is needed.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::table;
use crate::mutation::mutated;
use crate::record::{Announcement, Applicant, MAX_MEMBERS, Member, NodeId, Papers, Refusal, Role};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Members {
    #[serde(deserialize_with = "table::read")]
    members: OrdMap<NodeId, Arc<Member>>,
    /// The number of the next member; zero before the founding.
    next: NodeId,
    /// Counts the changes.
    version: u64,
    /// Feature level every member understands; zero before the founding.
    level: u16,
}

impl Members {
    /// Takes the founding members, unless there was a founding already.
    pub(super) fn found(&mut self, founders: &[Member]) -> bool {
        if self.next > 0 || founders.is_empty() {
            return false;
        }
        for member in founders {
            self.members.insert(member.id, Arc::new(member.clone()));
            self.next = self.next.max(member.id + 1);
        }
        self.level = self.lowest();
        self.version += 1;
        true
    }

    /// Whether the applicant could become a member.
    pub(super) fn has_room_for(&self, applicant: &Applicant) -> Result<(), Refusal> {
        let taken = |test: &dyn Fn(&Member) -> bool| self.members.values().any(|one| test(one));
        if self.next == 0 || self.members.len() >= MAX_MEMBERS {
            return Err(Refusal::Full);
        }
        if taken(&|one| one.name == applicant.name) {
            return Err(Refusal::NameTaken);
        }
        if taken(&|one| one.address == Some(applicant.address)) {
            return Err(Refusal::AddressTaken);
        }
        Ok(())
    }

    /// Makes the applicant a member under the next number.
    pub(super) fn admit(&mut self, applicant: &Applicant) -> NodeId {
        let lowest = || (1..).find(|id| !self.members.contains_key(id));
        let id = if mutated!(NumberTwice) { lowest().unwrap_or(self.next) } else { self.next };
        let member = Member {
            id,
            name: applicant.name.clone(),
            role: applicant.role,
            address: Some(applicant.address),
            incarnation: 0,
            feature: applicant.feature,
            since: applicant.at,
            papers: None,
        };
        self.members.insert(id, Arc::new(member));
        self.next += 1;
        self.version += 1;
        id
    }

    /// Takes a member out for ever.
    pub(super) fn remove(&mut self, id: NodeId) -> Result<(), Refusal> {
        let member = self.members.get(&id).ok_or(Refusal::NotAMember)?;
        let is_other_node = |one: &Arc<Member>| one.role == Role::Node && one.id != id;
        if member.role == Role::Node && !self.members.values().any(is_other_node) {
            return Err(Refusal::LastNode);
        }
        self.members.remove(&id);
        self.version += 1;
        Ok(())
    }

    /// Notes what a member says about itself.
    pub(super) fn announce(&mut self, said: &Announcement) -> Result<bool, Refusal> {
        let known = self.members.get(&said.id).ok_or(Refusal::NotAMember)?;
        let others = || self.members.values().filter(|one| one.id != said.id);
        if others().any(|one| one.name == said.name) {
            return Err(Refusal::NameTaken);
        }
        if said.address.is_some() && others().any(|one| one.address == said.address) {
            return Err(Refusal::AddressTaken);
        }
        let member = Member {
            name: said.name.clone(),
            address: said.address,
            feature: said.feature,
            papers: said.papers,
            ..Member::clone(known)
        };
        if member == **known {
            return Ok(false);
        }
        self.members.insert(said.id, Arc::new(member));
        self.version += 1;
        Ok(true)
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Arc<Member>> {
        self.members.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.values()
    }

    /// Whether the number was a member's and is none's now.
    pub(super) fn is_removed(&self, id: NodeId) -> bool {
        (1..self.next).contains(&id) && !self.members.contains_key(&id)
    }

    pub(super) fn is_founded(&self) -> bool {
        self.next > 0
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn level(&self) -> u16 {
        self.level
    }

    /// The highest level every member understands.
    pub(super) fn lowest(&self) -> u16 {
        self.members.values().map(|member| member.feature).min().unwrap_or(0)
    }

    /// Raises the level, if every member understands the new one.
    pub(super) fn raise(&mut self, to: u16) -> bool {
        let raised = (self.level + 1..=self.lowest()).contains(&to);
        if raised {
            self.level = to;
            self.version += 1;
        }
        raised
    }

    /// Numbers below `next` were given on another branch.
    pub(super) fn skip_to(&mut self, next: NodeId) -> bool {
        let further = self.next > 0 && next > self.next;
        if further {
            self.next = next;
            self.version += 1;
        }
        further
    }

    pub(super) fn next(&self) -> NodeId {
        self.next
    }

    /// This member and no other; the numbers of those that were are never given again.
    pub(super) fn begin_again(&mut self, only: Member) {
        self.next = self.next.max(only.id + 1);
        self.members = OrdMap::unit(only.id, Arc::new(only));
        self.version += 1;
    }

    /// Whether what every member said about its certificates holds.
    pub(super) fn all_papers(&self, holds: impl Fn(Papers) -> bool) -> bool {
        self.members.values().all(|member| member.papers.is_some_and(&holds))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::State;
    use super::*;
    use crate::command::{AuthorityStep, Command, Reply};
    use crate::record::{Attempt, ClusterAuthority, Founders, Token, TokenId};

    const HASH: [u8; 32] = [7; 32];

    fn authority(serial: u32) -> ClusterAuthority {
        ClusterAuthority { serial, certificate: format!("authority {serial}"), key: vec![1] }
    }

    fn founded() -> State {
        let member = Member {
            id: 1,
            name: "n1".into(),
            role: Role::Node,
            address: Some("192.0.2.1:1".parse().unwrap()),
            incarnation: 0,
            feature: 1,
            since: 0,
            papers: None,
        };
        let mut state = State::default();
        let founders = Founders { authority: authority(1), members: vec![member] };
        assert_eq!(state.apply(&Command::Found(founders.clone())), Reply::Done);
        assert_eq!(state.apply(&Command::Found(founders)), Reply::Nothing, "once for ever");
        state
    }

    fn token(uses_left: u16) -> Token {
        Token {
            id: TokenId([1; 5]),
            hash: HASH,
            role: Role::Node,
            by: 1,
            since: 100,
            expires_at: 1000,
            uses_left,
            admitted: Vec::new(),
        }
    }

    /// A machine with a good token, named by `which`.
    fn applicant(which: u8) -> Applicant {
        Applicant {
            token: TokenId([1; 5]),
            hash: HASH,
            attempt: Attempt([which; 16]),
            name: format!("machine{which}"),
            role: Role::Node,
            address: ([192, 0, 2, which], 7443).into(),
            feature: 1,
            at: 500,
        }
    }

    fn admit(state: &mut State, applicant: Applicant) -> Reply {
        state.apply(&Command::Admit(applicant))
    }

    #[test]
    fn a_token_admits_as_often_as_it_says_and_says_why_not() {
        let mut state = founded();
        assert_eq!(state.apply(&Command::CreateToken(token(2))), Reply::Done);
        type Edit = fn(&mut Applicant);
        let refused: [(&str, Edit, Refusal); 7] = [
            ("no such token", |it| it.token = TokenId([9; 5]), Refusal::WrongToken),
            ("another secret", |it| it.hash[31] ^= 1, Refusal::WrongToken),
            ("too late", |it| it.at = 1000, Refusal::ExpiredToken),
            ("another role", |it| it.role = Role::Witness, Refusal::WrongRole),
            ("a name twice", |it| it.name = "n1".into(), Refusal::NameTaken),
            (
                "an address twice",
                |it| it.address = "192.0.2.1:1".parse().unwrap(),
                Refusal::AddressTaken,
            ),
            ("no such secret", |it| it.hash = [0; 32], Refusal::WrongToken),
        ];
        for (name, edit, refusal) in refused {
            let mut machine = applicant(10);
            edit(&mut machine);
            assert_eq!(admit(&mut state, machine), Reply::Refused(refusal), "{name}");
        }
        assert_eq!(admit(&mut state, applicant(10)), Reply::Admitted(2));
        assert_eq!(admit(&mut state, applicant(10)), Reply::Admitted(2), "the same attempt");
        assert_eq!(admit(&mut state, applicant(11)), Reply::Admitted(3));
        let third = admit(&mut state, applicant(12));
        assert_eq!(third, Reply::Refused(Refusal::SpentToken));
        assert_eq!(state.tokens().next().unwrap().admitted.len(), 2);
        assert_eq!(state.apply(&Command::RemoveMember { id: 2 }), Reply::Done);
        let back = admit(&mut state, applicant(10));
        assert_eq!(back, Reply::Refused(Refusal::SpentToken), "removed is removed");
        assert_eq!(state.apply(&Command::RevokeToken { id: TokenId([1; 5]) }), Reply::Done);
        assert_eq!(state.apply(&Command::RevokeToken { id: TokenId([1; 5]) }), Reply::Nothing);
    }

    #[test]
    fn the_time_of_the_cluster_ends_a_token_whatever_the_asked_node_thinks_it_is() {
        let mut state = founded();
        state.apply(&Command::CreateToken(token(1)));
        let batch = crate::command::SoftBatch { now: 1001, parts: Vec::new() };
        state.apply(&Command::Soft(batch));
        let late = admit(&mut state, applicant(10));
        assert_eq!(late, Reply::Refused(Refusal::ExpiredToken));
    }

    #[test]
    fn the_last_load_balancer_stays_and_a_number_is_never_given_again() {
        let mut state = founded();
        let refused = state.apply(&Command::RemoveMember { id: 1 });
        assert_eq!(refused, Reply::Refused(Refusal::LastNode));
        state.apply(&Command::CreateToken(token(9)));
        assert_eq!(admit(&mut state, applicant(10)), Reply::Admitted(2));
        assert_eq!(state.apply(&Command::RemoveMember { id: 2 }), Reply::Done);
        assert_eq!(admit(&mut state, applicant(11)), Reply::Admitted(3));
        assert!(state.is_removed(2) && !state.is_removed(3) && !state.is_removed(4));
        assert!(!state.is_removed(0));
        let twice = state.apply(&Command::RemoveMember { id: 2 });
        assert_eq!(twice, Reply::Refused(Refusal::NotAMember));
        assert!(!State::default().is_removed(1), "before the founding nobody was removed");
    }

    #[test]
    fn tokens_and_members_are_bounded_and_old_tokens_make_room() {
        let mut state = founded();
        let of = |which: u16, since, expires_at| {
            let [high, low] = which.to_be_bytes();
            let id = TokenId([0, 0, 0, high, low]);
            Command::CreateToken(Token { id, since, expires_at, ..token(1) })
        };
        for which in 0..256 {
            assert_eq!(state.apply(&of(which, 100, 1000)), Reply::Done, "{which}");
        }
        assert_eq!(state.apply(&of(999, 100, 1000)), Reply::Refused(Refusal::Full));
        let later = 1001 + crate::record::TOKEN_MEMORY;
        assert_eq!(state.apply(&of(999, later, later + 1)), Reply::Done);
        assert_eq!(state.tokens().count(), 1);
    }

    fn announce(state: &mut State, id: NodeId, trusts: u32, issued_by: u32) -> Reply {
        let known = state.member(id).unwrap();
        let said = Announcement {
            id,
            name: known.name.clone(),
            address: known.address,
            feature: 1,
            papers: Some(Papers { trusts, issued_by }),
        };
        state.apply(&Command::Announce(said))
    }

    #[test]
    fn an_authority_signs_when_all_trust_it_and_is_dropped_when_nobody_needs_it() {
        let mut state = founded();
        state.apply(&Command::CreateToken(token(1)));
        admit(&mut state, applicant(10));
        let step = |state: &mut State, step| state.apply(&Command::Authority(step));
        assert_eq!(announce(&mut state, 1, 1, 1), Reply::Done);
        assert_eq!(announce(&mut state, 1, 1, 1), Reply::Nothing);
        assert_eq!(step(&mut state, AuthorityStep::Add(authority(3))), Reply::Nothing, "a gap");
        assert_eq!(step(&mut state, AuthorityStep::Add(authority(2))), Reply::Done);
        assert_eq!(
            step(&mut state, AuthorityStep::Add(authority(3))),
            Reply::Nothing,
            "one at a time"
        );
        announce(&mut state, 1, 2, 1);
        assert_eq!(state.next_authority_step(), None, "member 2 has not started");
        assert_eq!(step(&mut state, AuthorityStep::Sign(2)), Reply::Nothing);
        announce(&mut state, 2, 2, 1);
        assert_eq!(state.next_authority_step(), Some(AuthorityStep::Sign(2)));
        assert_eq!(step(&mut state, AuthorityStep::Sign(2)), Reply::Done);
        assert_eq!(step(&mut state, AuthorityStep::Drop(1)), Reply::Nothing, "still used");
        announce(&mut state, 1, 2, 2);
        assert_eq!(state.next_authority_step(), None);
        announce(&mut state, 2, 2, 2);
        assert_eq!(step(&mut state, AuthorityStep::Drop(2)), Reply::Nothing, "the wrong one");
        assert_eq!(step(&mut state, AuthorityStep::Drop(1)), Reply::Done);
        assert_eq!(state.authorities().len(), 1);
        assert_eq!(state.signing_authority().unwrap().serial, 2);
        assert_eq!(step(&mut state, AuthorityStep::Add(authority(3))), Reply::Done);
    }

    #[test]
    fn a_member_cannot_take_the_name_or_address_of_another() {
        let mut state = founded();
        state.apply(&Command::CreateToken(token(1)));
        admit(&mut state, applicant(10));
        let said =
            Announcement { id: 2, name: "n1".into(), address: None, feature: 1, papers: None };
        let taken = state.apply(&Command::Announce(said.clone()));
        assert_eq!(taken, Reply::Refused(Refusal::NameTaken));
        let address = Some("192.0.2.1:1".parse().unwrap());
        let said = Announcement { name: "n2".into(), address, ..said };
        let taken = state.apply(&Command::Announce(said.clone()));
        assert_eq!(taken, Reply::Refused(Refusal::AddressTaken));
        let unknown = state.apply(&Command::Announce(Announcement { id: 9, ..said }));
        assert_eq!(unknown, Reply::Refused(Refusal::NotAMember));
    }

    proptest! {
        #[test]
        fn whatever_happens_numbers_are_unique_and_uses_are_not_exceeded(
            steps in proptest::collection::vec((0_u8..3, 1_u8..20), 0..60),
            uses in 1_u16..6,
        ) {
            let mut state = founded();
            state.apply(&Command::CreateToken(token(uses)));
            let mut given = std::collections::BTreeMap::new();
            for (what, which) in steps {
                match what {
                    0 => {
                        state.apply(&Command::RemoveMember { id: which.into() });
                    }
                    _ => if let Reply::Admitted(number) = admit(&mut state, applicant(which + 1)) {
                        let before = given.insert(number, which);
                        prop_assert!(before.is_none_or(|before| before == which));
                    }
                }
            }
            prop_assert!(given.len() <= usize::from(uses));
            let token = state.tokens().next().unwrap();
            prop_assert_eq!(given.len() + usize::from(token.uses_left), usize::from(uses));
        }
    }
}
