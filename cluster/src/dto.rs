//! Our own layout of the engine's values, on disk and between nodes. Sans-io.
//!
//! The engine's serde layout is its own business and may change with any release of it; these
//! structs change only together with [`codec::VERSION`](crate::codec::VERSION).

use std::collections::BTreeSet;

use openraft::{CommittedLeaderId, EntryPayload};
use serde::{Deserialize, Serialize};

use crate::types::{
    Entry, LogId, Membership, Proposal, RaftId, SnapshotMeta, StoredMembership, Types, Vote,
};

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogIdDto {
    term: u64,
    leader: RaftId,
    index: u64,
}

impl From<LogId> for LogIdDto {
    fn from(id: LogId) -> Self {
        Self { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
    }
}

impl From<LogIdDto> for LogId {
    fn from(id: LogIdDto) -> Self {
        Self::new(CommittedLeaderId::new(id.term, id.leader), id.index)
    }
}

/// What a node promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteDto {
    term: u64,
    node: RaftId,
    committed: bool,
}

impl From<Vote> for VoteDto {
    fn from(vote: Vote) -> Self {
        let leader = vote.leader_id();
        Self { term: leader.term, node: leader.node_id, committed: vote.is_committed() }
    }
}

impl From<VoteDto> for Vote {
    fn from(vote: VoteDto) -> Self {
        if vote.committed {
            Self::new_committed(vote.term, vote.node)
        } else {
            Self::new(vote.term, vote.node)
        }
    }
}

/// Who votes: one set, or two while it changes. Nodes in none of them only learn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembershipDto {
    voters: Vec<BTreeSet<RaftId>>,
    nodes: BTreeSet<RaftId>,
}

impl From<&Membership> for MembershipDto {
    fn from(membership: &Membership) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(|(id, ())| *id).collect(),
        }
    }
}

impl From<MembershipDto> for Membership {
    fn from(membership: MembershipDto) -> Self {
        Self::new(membership.voters, membership.nodes)
    }
}

/// A membership and where in the log it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredMembershipDto {
    log_id: Option<LogIdDto>,
    membership: MembershipDto,
}

impl From<&StoredMembership> for StoredMembershipDto {
    fn from(stored: &StoredMembership) -> Self {
        Self { log_id: stored.log_id().map(LogIdDto::from), membership: stored.membership().into() }
    }
}

impl From<StoredMembershipDto> for StoredMembership {
    fn from(stored: StoredMembershipDto) -> Self {
        Self::new(stored.log_id.map(LogId::from), stored.membership.into())
    }
}

/// What a snapshot covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotMetaDto {
    last: Option<LogIdDto>,
    membership: StoredMembershipDto,
    id: String,
}

impl From<&SnapshotMeta> for SnapshotMetaDto {
    fn from(meta: &SnapshotMeta) -> Self {
        Self {
            last: meta.last_log_id.map(LogIdDto::from),
            membership: (&meta.last_membership).into(),
            id: meta.snapshot_id.clone(),
        }
    }
}

impl From<SnapshotMetaDto> for SnapshotMeta {
    fn from(meta: SnapshotMetaDto) -> Self {
        Self {
            last_log_id: meta.last.map(LogId::from),
            last_membership: meta.membership.into(),
            snapshot_id: meta.id,
        }
    }
}

/// One log entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EntryDto {
    id: LogIdDto,
    payload: PayloadDto,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum PayloadDto {
    /// Opens a leader's term.
    Blank,
    Normal(Proposal),
    Membership(MembershipDto),
}

impl From<&Entry> for EntryDto {
    fn from(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            EntryPayload::Blank => PayloadDto::Blank,
            EntryPayload::Normal(proposal) => PayloadDto::Normal(proposal.clone()),
            EntryPayload::Membership(membership) => PayloadDto::Membership(membership.into()),
        };
        Self { id: entry.log_id.into(), payload }
    }
}

impl From<EntryDto> for Entry {
    fn from(entry: EntryDto) -> Self {
        let payload: EntryPayload<Types> = match entry.payload {
            PayloadDto::Blank => EntryPayload::Blank,
            PayloadDto::Normal(proposal) => EntryPayload::Normal(proposal),
            PayloadDto::Membership(membership) => EntryPayload::Membership(membership.into()),
        };
        Self { log_id: entry.id.into(), payload }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::codec;
    use crate::command::Command;
    use crate::record::Tenant;
    use crate::state::Ticket;

    #[test]
    fn the_bytes_of_entries_and_votes_never_change() {
        let id = |index| LogId::new(CommittedLeaderId::new(5, 1), index);
        let voters = BTreeSet::from([1, 2]);
        let command =
            Arc::new(Command::DeleteExApp { tenant: Tenant::default(), id: "app".into() });
        let ticket = Some(Ticket { node: 2, boot: 3, seq: 4 });
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(Proposal { ticket, at: 1006, command }),
            EntryPayload::Membership(Membership::new(vec![voters], BTreeSet::from([1, 2, 9]))),
        ];
        let mut lines = Vec::new();
        for (index, payload) in (300..).zip(payloads) {
            let entry = EntryDto::from(&Entry { log_id: id(index), payload });
            let bytes = codec::encode(&entry).unwrap();
            let back = Entry::from(codec::decode::<EntryDto>("entry", &bytes).unwrap());
            assert_eq!(codec::encode(&EntryDto::from(&back)).unwrap(), bytes);
            lines.push(bytes);
        }
        for vote in [Vote::new(7, 2), Vote::new_committed(7, 2)] {
            let bytes = codec::encode(&VoteDto::from(vote)).unwrap();
            assert_eq!(Vote::from(codec::decode::<VoteDto>("vote", &bytes).unwrap()), vote);
            lines.push(bytes);
        }
        let lines: Vec<String> = lines
            .iter()
            .map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        assert_eq!(lines.join("\n"), include_str!("../tests/golden/log.hex").trim_end());
    }
}
