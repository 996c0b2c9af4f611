//! What reads bytes of other nodes and of the disk, for the fuzz targets. Only built under
//! `cfg(fuzzing)`.

use aws_lc_rs::digest::{SHA256, digest};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest, VoteResponse,
};

use crate::codec::{self, decode, encode};
use crate::command::Command;
use crate::dto::{EntryDto, VoteDto};
use crate::flows::FlowDelta;
use crate::group::{ClusterId, Group, Lineage};
use crate::network::{self, Answer, Envelope, Request};
use crate::snapshot;
use crate::state::State;
use crate::types::{Entry, SnapshotMeta, Types, Vote};

/// What every stored or sent value begins with.
pub const VERSION: u8 = codec::VERSION;

/// The length a frame header announces, if it is acceptable.
pub fn frame_length(header: [u8; 5]) -> Option<usize> {
    network::length(header).ok()
}

/// Reads a command as it stands in the log.
pub fn command(bytes: &[u8]) -> Option<Command> {
    decode("command", bytes).ok()
}

/// Writes it as it stands in the log.
pub fn command_bytes(command: &Command) -> Vec<u8> {
    encode(command).unwrap_or_default()
}

/// Reads a request of another node and writes it again; what can be handed to the engine takes
/// the way through the engine's types.
pub fn envelope(bytes: &[u8]) -> Option<Vec<u8>> {
    let Envelope { group, from, to, request } = decode("request", bytes).ok()?;
    let request = match request {
        Request::Append(dto) => Request::Append((&AppendEntriesRequest::<Types>::from(dto)).into()),
        Request::Vote(dto) => Request::Vote((&VoteRequest::from(dto)).into()),
        Request::Snapshot(dto) => {
            Request::Snapshot(InstallSnapshotRequest::<Types>::from(dto).into())
        }
        other => other,
    };
    encode(&Envelope { group, from, to, request }).ok()
}

/// The same for an answer.
pub fn answer(bytes: &[u8]) -> Option<Vec<u8>> {
    let answer = match decode("answer", bytes).ok()? {
        Answer::Append { answer, clock } => {
            Answer::Append { answer: AppendEntriesResponse::from(answer).into(), clock }
        }
        Answer::Vote(dto) => Answer::Vote(VoteResponse::from(dto).into()),
        Answer::Snapshot(dto) => Answer::Snapshot(VoteDto::from(Vote::from(dto))),
        other => other,
    };
    encode(&answer).ok()
}

/// Reads what another node says about its flows.
pub fn flow_delta(bytes: &[u8]) -> Option<FlowDelta> {
    decode("flows", bytes).ok()
}

/// Writes it as it is sent.
pub fn flow_delta_bytes(delta: &FlowDelta) -> Vec<u8> {
    encode(delta).unwrap_or_default()
}

/// The same for a log entry.
pub fn entry(bytes: &[u8]) -> Option<Vec<u8>> {
    let entry = Entry::from(decode::<EntryDto>("entry", bytes).ok()?);
    encode(&EntryDto::from(&entry)).ok()
}

fn group() -> Group {
    Group::first(ClusterId::nil(), Lineage([0; 16]))
}

/// Reads a snapshot whose frame (magic and checksum) is right around any `body`; the snapshot
/// written again.
pub fn snapshot_with(body: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = b"TRIGSNAP".to_vec();
    bytes.extend_from_slice(body);
    let sum = digest(&SHA256, &bytes);
    bytes.extend_from_slice(sum.as_ref());
    let content = snapshot::decode(group(), &bytes).ok()?;
    snapshot::encode(group(), &content.meta, &content.state).ok()
}

/// The snapshot of a state.
pub fn snapshot(state: &State) -> Vec<u8> {
    snapshot::encode(group(), &SnapshotMeta::default(), state).unwrap_or_default()
}

/// The state in a snapshot.
pub fn restore(bytes: &[u8]) -> Option<State> {
    Some(snapshot::decode(group(), bytes).ok()?.state)
}
