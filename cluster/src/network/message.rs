//! What peers ask and answer, in our own layout. Sans-io.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use crate::command::{Reply, SoftPart};
use crate::dto::{EntryDto, LogIdDto, SnapshotMetaDto, VoteDto};
use crate::error::ProposeError;
use crate::group::{Group, Lineage};
use crate::pair::Word;
use crate::presence::Hello;
use crate::record::{Millis, NodeId, TunnelKey};
use crate::relay::RelayRefusal;
use crate::types::{Entry, LogId, Proposal, RaftId, Types, Vote};

use super::admission::{JoinRequest, NotWelcome, Welcome};

/// One request, from the member the certificate names to the member that is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    /// The raft group of the sender, see [`Request::is_of_group`].
    pub(crate) group: Group,
    pub(crate) from: RaftId,
    pub(crate) to: RaftId,
    pub(crate) request: Request,
}

/// What can be asked. Variants are only ever added at the end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Append(AppendDto),
    Vote(VoteRequestDto),
    Snapshot(ChunkDto),
    /// A follower hands a proposal to the leader.
    Propose {
        proposal: Proposal,
        within_ms: u64,
    },
    /// A follower hands soft changes to the leader.
    Share(SoftPart),
    /// The connection is for presence from here on: beats both ways instead of questions.
    Presence(Hello),
    /// Open a tunnel that ends at the asked node; if it does, the connection is a stream to it
    /// from the answer on.
    Relay(TunnelKey),
    /// A stranger shows a token. The only request a connection without a certificate may carry.
    Join(Box<JoinRequest>),
    /// A member without the key of the cluster asks for a new certificate.
    Renew {
        /// A certificate signing request, DER.
        request: Vec<u8>,
    },
    /// Up to which entry everything was confirmed by now.
    Confirm,
    /// What one node of a pair tells the other, and asks it for.
    Pair(Word),
    /// Something an operator wants done, in the product's words.
    Errand(Vec<u8>),
}

impl Request {
    /// Whether it only makes sense within one raft group. The others are between members of the
    /// cluster, whatever became of their groups.
    pub(crate) fn is_of_group(&self) -> bool {
        match self {
            Self::Append(_)
            | Self::Vote(_)
            | Self::Snapshot(_)
            | Self::Propose { .. }
            | Self::Share(_)
            | Self::Confirm => true,
            Self::Presence(_)
            | Self::Relay(_)
            | Self::Join(_)
            | Self::Renew { .. }
            | Self::Pair(_)
            | Self::Errand(_) => false,
        }
    }
}

/// What can be answered. Variants are only ever added at the end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Append {
        answer: AppendAnswerDto,
        /// The wall clock of whoever answers.
        clock: Millis,
    },
    Vote(VoteAnswerDto),
    Snapshot(VoteDto),
    /// The proposal was applied as the entry `index`.
    Proposed {
        reply: Reply,
        index: u64,
    },
    /// The proposal was not confirmed.
    Unconfirmed(Unconfirmed),
    /// Soft changes were applied.
    Shared,
    /// The request was not carried out.
    Refused(String),
    /// The connection is a presence connection now.
    Presence(Hello),
    /// The connection is a stream to the tunnel now, or why not.
    Relay(Result<(), RelayRefusal>),
    /// The asked node takes part in another raft group of the cluster.
    OtherGroup {
        generation: u64,
        lineage: Lineage,
        /// The member that leads it, as far as known.
        leader: Option<NodeId>,
    },
    /// The asking node was taken out of the cluster.
    Removed,
    /// The stranger is a member now.
    Welcome(Box<Welcome>),
    /// The stranger is not let in.
    NotWelcome(NotWelcome),
    /// The new certificate with that of its issuer, PEM.
    Renewed(String),
    /// Number of entries that were confirmed when the question came.
    Confirmed(u64),
    /// The answer of the other node of a pair.
    Pair(Word),
    /// The answer to an errand.
    Errand(Vec<u8>),
}

/// Why a forwarded proposal was not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unconfirmed {
    /// Surely not applied: the asked node does not lead, or cannot reach a quorum.
    NotLeader,
    /// Surely not applied: too many wait already.
    Busy,
    /// Perhaps applied later.
    Unknown,
    /// Surely not applied: the leader's disk is full.
    DiskFull,
}

impl From<Unconfirmed> for ProposeError {
    fn from(reason: Unconfirmed) -> Self {
        match reason {
            Unconfirmed::Busy => Self::Busy,
            Unconfirmed::DiskFull => Self::DiskFull,
            Unconfirmed::NotLeader | Unconfirmed::Unknown => Self::NoQuorum,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AppendDto {
    vote: VoteDto,
    previous: Option<LogIdDto>,
    entries: Vec<EntryDto>,
    committed: Option<LogIdDto>,
}

impl AppendDto {
    /// Whether it brings nothing to store.
    pub(crate) fn is_heartbeat(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whose leader speaks, without what he brings.
    pub(crate) fn without_entries(self) -> Self {
        Self { entries: Vec::new(), ..self }
    }

    /// The last entry the leader knows to be agreed on.
    pub(crate) fn agreed(&self) -> Option<u64> {
        self.committed.map(|id| LogId::from(id).index)
    }
}

impl From<&AppendEntriesRequest<Types>> for AppendDto {
    fn from(request: &AppendEntriesRequest<Types>) -> Self {
        Self {
            vote: request.vote.into(),
            previous: request.prev_log_id.map(LogIdDto::from),
            entries: request.entries.iter().map(EntryDto::from).collect(),
            committed: request.leader_commit.map(LogIdDto::from),
        }
    }
}

impl From<AppendDto> for AppendEntriesRequest<Types> {
    fn from(request: AppendDto) -> Self {
        Self {
            vote: request.vote.into(),
            prev_log_id: request.previous.map(LogId::from),
            entries: request.entries.into_iter().map(Entry::from).collect(),
            leader_commit: request.committed.map(LogId::from),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum AppendAnswerDto {
    Success,
    Partial(Option<LogIdDto>),
    Conflict,
    HigherVote(VoteDto),
}

impl From<AppendEntriesResponse<RaftId>> for AppendAnswerDto {
    fn from(answer: AppendEntriesResponse<RaftId>) -> Self {
        match answer {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(id) => Self::Partial(id.map(LogIdDto::from)),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<AppendAnswerDto> for AppendEntriesResponse<RaftId> {
    fn from(answer: AppendAnswerDto) -> Self {
        match answer {
            AppendAnswerDto::Success => Self::Success,
            AppendAnswerDto::Partial(id) => Self::PartialSuccess(id.map(LogId::from)),
            AppendAnswerDto::Conflict => Self::Conflict,
            AppendAnswerDto::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VoteRequestDto {
    vote: VoteDto,
    last: Option<LogIdDto>,
}

impl From<&VoteRequest<RaftId>> for VoteRequestDto {
    fn from(request: &VoteRequest<RaftId>) -> Self {
        Self { vote: request.vote.into(), last: request.last_log_id.map(LogIdDto::from) }
    }
}

impl From<VoteRequestDto> for VoteRequest<RaftId> {
    fn from(request: VoteRequestDto) -> Self {
        Self::new(request.vote.into(), request.last.map(LogId::from))
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VoteAnswerDto {
    vote: VoteDto,
    granted: bool,
    last: Option<LogIdDto>,
}

impl From<VoteResponse<RaftId>> for VoteAnswerDto {
    fn from(answer: VoteResponse<RaftId>) -> Self {
        Self {
            vote: answer.vote.into(),
            granted: answer.vote_granted,
            last: answer.last_log_id.map(LogIdDto::from),
        }
    }
}

impl From<VoteAnswerDto> for VoteResponse<RaftId> {
    fn from(answer: VoteAnswerDto) -> Self {
        Self::new(Vote::from(answer.vote), answer.last.map(LogId::from), answer.granted)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChunkDto {
    vote: VoteDto,
    meta: SnapshotMetaDto,
    pub(crate) offset: u64,
    pub(crate) data: Vec<u8>,
    done: bool,
}

impl From<InstallSnapshotRequest<Types>> for ChunkDto {
    fn from(request: InstallSnapshotRequest<Types>) -> Self {
        Self {
            vote: request.vote.into(),
            meta: (&request.meta).into(),
            offset: request.offset,
            data: request.data,
            done: request.done,
        }
    }
}

impl From<ChunkDto> for InstallSnapshotRequest<Types> {
    fn from(chunk: ChunkDto) -> Self {
        Self {
            vote: chunk.vote.into(),
            meta: chunk.meta.into(),
            offset: chunk.offset,
            data: chunk.data,
            done: chunk.done,
        }
    }
}

/// The only part of a snapshot answer: the vote of the receiver.
pub(crate) fn snapshot_answer(vote: VoteDto) -> InstallSnapshotResponse<RaftId> {
    InstallSnapshotResponse { vote: vote.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn the_bytes_of_messages_never_change() {
        // Nodes of two releases speak to each other during an upgrade. New variants go to the end.
        let vote = || VoteDto::from(Vote::new_committed(5, 1));
        let heartbeat =
            AppendDto { vote: vote(), previous: None, entries: Vec::new(), committed: None };
        let envelope =
            |request| codec::encode(&Envelope { group: Group::sample(1), from: 1, to: 2, request });
        let other = Lineage([1; 16]);
        let mut lines = vec![
            envelope(Request::Append(heartbeat)),
            envelope(Request::Renew { request: vec![7] }),
            envelope(Request::Errand(vec![8])),
        ];
        lines.extend(
            [
                Answer::Snapshot(vote()),
                Answer::Proposed { reply: Reply::Done, index: 7 },
                Answer::Unconfirmed(Unconfirmed::DiskFull),
                Answer::Shared,
                Answer::Refused("no".to_owned()),
                Answer::OtherGroup { generation: 2, lineage: other, leader: Some(3) },
                Answer::Removed,
                Answer::Renewed("x".to_owned()),
                Answer::Errand(vec![9]),
            ]
            .iter()
            .map(codec::encode),
        );
        let lines: Vec<String> = lines
            .into_iter()
            .map(|bytes| bytes.unwrap().iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        let golden = include_str!("../../tests/golden/messages.hex");
        assert_eq!(lines.join("\n"), golden.trim_end());
    }
}
