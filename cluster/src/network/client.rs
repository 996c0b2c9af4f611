//! Asking peers: a few kept connections per peer, one deadline per request.
//!
//! Every failure becomes `Unreachable` for the engine, because only that makes it back off; on
//! anything else it tries again in a hot loop. The engine's request may be dropped at any time
//! (its own deadline is one heartbeat): dialling goes on in the background so that a slow
//! handshake still ends in a kept connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use openraft::AnyError;
use openraft::error::{InstallSnapshotError, RPCError, RaftError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::connection::{self, ConnectionError};
use super::message::{Answer, Envelope, Request, snapshot_answer};
use crate::group::Group;
use crate::record::{Millis, NodeId};
use crate::transport::{Dialler, Stream};
use crate::types::{RaftId, Types, number_of, raft_id};

/// Connections kept open per peer: replication, votes, forwarded changes.
const KEPT: usize = 4;

/// A kept connection older than this may have been closed by the peer (it does so after twice as
/// long) and is not used again.
const FRESH: Duration = Duration::from_secs(30);

/// Handshakes under way per peer.
const DIALLING: usize = 2;

/// Longest a handshake may take.
const DIAL_LIMIT: Duration = Duration::from_secs(3);

/// Pause of the engine after a failure.
const BACKOFF: Duration = Duration::from_millis(200);

/// Why a peer did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("node {0} is not a peer")]
    NotAPeer(NodeId),
    #[error("no answer in time")]
    Deadline,
    #[error("cannot connect")]
    Dial(#[source] std::io::Error),
    #[error("connection failed")]
    Connection(#[from] ConnectionError),
    #[error("refused: {0}")]
    Refused(String),
    #[error("it takes part in generation {0}")]
    OtherGroup(u64),
    #[error("this node was removed from the cluster")]
    Removed,
}

/// The way to every peer.
pub(crate) struct Peers {
    me: NodeId,
    /// The one this node started in.
    group: Group,
    dialler: Arc<dyn Dialler>,
    peers: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    /// Set for good once a peer said that this node was removed.
    removed: watch::Sender<bool>,
}

struct Peer {
    id: NodeId,
    address: SocketAddr,
    dialler: Arc<dyn Dialler>,
    kept: Mutex<Vec<(Stream, Instant)>>,
    dialling: Arc<Semaphore>,
    answered: Mutex<Option<Instant>>,
    /// What it said the time was, and when.
    clock: Mutex<Option<(Millis, Instant)>>,
}

impl Peers {
    /// Connects when first asked. Never holds a way to this node itself.
    pub(crate) fn new(me: NodeId, group: Group, dialler: Arc<dyn Dialler>) -> Self {
        let removed = watch::Sender::new(false);
        Self { me, group, dialler, peers: RwLock::default(), removed }
    }

    /// Who the peers are from now on, and where. What is kept of those that stay where they are
    /// goes on.
    pub(crate) fn follow(&self, members: impl IntoIterator<Item = (NodeId, SocketAddr)>) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *peers);
        for (id, address) in members.into_iter().filter(|(id, _)| *id != self.me) {
            let known = before.get(&id).filter(|peer| peer.address == address);
            let peer = known.map_or_else(|| self.peer(id, address), Arc::clone);
            peers.insert(id, peer);
        }
    }

    fn peer(&self, id: NodeId, address: SocketAddr) -> Arc<Peer> {
        Arc::new(Peer {
            id,
            address,
            dialler: Arc::clone(&self.dialler),
            kept: Mutex::default(),
            dialling: Arc::new(Semaphore::new(DIALLING)),
            answered: Mutex::default(),
            clock: Mutex::default(),
        })
    }

    fn get(&self, id: NodeId) -> Option<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).get(&id).map(Arc::clone)
    }

    /// Time since the peer last answered anything.
    pub(crate) fn silent_for(&self, id: NodeId) -> Option<Duration> {
        let answered = *lock(&self.get(id)?.answered);
        answered.map(|at| at.elapsed())
    }

    /// What time each peer said it was, and how long ago.
    pub(crate) fn clocks(&self) -> Vec<(NodeId, Millis, Duration)> {
        let told = |peer: &Arc<Peer>| {
            let (clock, at) = (*lock(&peer.clock))?;
            Some((peer.id, clock, at.elapsed()))
        };
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.values().filter_map(told).collect()
    }

    fn hear_clock(&self, id: NodeId, clock: Millis) {
        if let Some(peer) = self.get(id) {
            *lock(&peer.clock) = Some((clock, Instant::now()));
        }
    }

    /// Asks a peer and waits at most `within`.
    pub(crate) async fn call(
        &self,
        envelope: Envelope,
        within: Duration,
    ) -> Result<Answer, CallError> {
        let to = number_of(envelope.to);
        let peer = self.get(to).ok_or(CallError::NotAPeer(to))?;
        let answer = tokio::time::timeout(within, peer.exchange(&envelope));
        let answer = answer.await.map_err(|_| CallError::Deadline)??;
        *lock(&peer.answered) = Some(Instant::now());
        match answer {
            Answer::Refused(text) => Err(CallError::Refused(text)),
            Answer::OtherGroup { generation, .. } => Err(CallError::OtherGroup(generation)),
            Answer::Removed => {
                self.removed.send_replace(true);
                Err(CallError::Removed)
            }
            answer => Ok(answer),
        }
    }

    /// A connection to a peer that nobody else will use.
    pub(crate) async fn connect(&self, to: NodeId) -> Result<Stream, CallError> {
        let peer = self.get(to).ok_or(CallError::NotAPeer(to))?;
        let dialled = tokio::time::timeout(DIAL_LIMIT, peer.dialler.dial(to, peer.address)).await;
        let dialled = dialled.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        dialled.map_err(CallError::Dial)
    }

    /// Asks something that is not of the raft group, on a connection of the caller's own, who
    /// gets it back with the answer.
    pub(crate) async fn ask_on(
        &self,
        mut stream: Stream,
        to: NodeId,
        request: Request,
    ) -> Result<(Answer, Stream), CallError> {
        let (from, to) = (raft_id(self.me, 0), raft_id(to, 0));
        let envelope = Envelope { group: self.group, from, to, request };
        connection::write(&mut stream, &envelope).await?;
        let answer = connection::read(&mut stream).await?;
        Ok((answer, stream))
    }

    /// Waits until a peer says that this node was removed.
    pub(crate) async fn removed(&self) {
        // The sender lives as long as self, so this ends only with the word of a peer.
        let _ = self.removed.subscribe().wait_for(|removed| *removed).await;
    }

    /// Closes every kept connection.
    pub(crate) fn close(&self) {
        for peer in self.peers.read().unwrap_or_else(PoisonError::into_inner).values() {
            lock(&peer.kept).clear();
        }
    }
}

impl Peer {
    async fn exchange(self: &Arc<Self>, envelope: &Envelope) -> Result<Answer, CallError> {
        if let Some(stream) = self.take() {
            // The peer may have restarted since: then the connection fails at once, and a fresh
            // one has to be tried. A repeated request does no harm: the engine's are idempotent
            // and a proposal has its ticket.
            match self.exchange_on(stream, envelope).await {
                Err(CallError::Connection(ConnectionError::Io(_) | ConnectionError::Closed)) => {}
                done => return done,
            }
        }
        let stream = self.dial().await?;
        self.exchange_on(stream, envelope).await
    }

    async fn exchange_on(
        &self,
        mut stream: Stream,
        envelope: &Envelope,
    ) -> Result<Answer, CallError> {
        connection::write(&mut stream, envelope).await?;
        let answer = connection::read(&mut stream).await?;
        self.keep(stream);
        Ok(answer)
    }

    fn take(&self) -> Option<Stream> {
        let mut kept = lock(&self.kept);
        kept.retain(|(_, since)| since.elapsed() < FRESH);
        kept.pop().map(|(stream, _)| stream)
    }

    fn keep(&self, stream: Stream) {
        let mut kept = lock(&self.kept);
        if kept.len() < KEPT {
            kept.push((stream, Instant::now()));
        }
    }

    async fn dial(self: &Arc<Self>) -> Result<Stream, CallError> {
        let failed = |error: String| CallError::Dial(std::io::Error::other(error));
        let permit = Arc::clone(&self.dialling).acquire_owned().await;
        let permit = permit.map_err(|error| failed(error.to_string()))?;
        if let Some(stream) = self.take() {
            return Ok(stream);
        }
        let (give, wait) = tokio::sync::oneshot::channel();
        let peer = Arc::clone(self);
        tokio::spawn(async move {
            let dialled =
                tokio::time::timeout(DIAL_LIMIT, peer.dialler.dial(peer.id, peer.address)).await;
            let dialled = dialled.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
            // Nobody waits any more: the next request will use it.
            if let Err(Ok(stream)) = give.send(dialled) {
                peer.keep(stream);
            }
            drop(permit);
        });
        let dialled = wait.await.map_err(|error| failed(error.to_string()))?;
        dialled.map_err(CallError::Dial)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the engine of one raft group its way to each peer.
pub(crate) struct PeerClients {
    pub(crate) peers: Arc<Peers>,
    pub(crate) group: Group,
    pub(crate) me: RaftId,
}

impl RaftNetworkFactory<Types> for PeerClients {
    type Network = PeerClient;

    async fn new_client(&mut self, target: RaftId, (): &()) -> PeerClient {
        let Self { peers, group, me } = self;
        PeerClient { peers: Arc::clone(peers), group: *group, me: *me, target }
    }
}

/// The engine's way to one peer.
pub(crate) struct PeerClient {
    peers: Arc<Peers>,
    group: Group,
    me: RaftId,
    target: RaftId,
}

impl PeerClient {
    async fn ask(&self, request: Request, option: &RPCOption) -> Result<Answer, Unreachable> {
        let envelope = Envelope { group: self.group, from: self.me, to: self.target, request };
        // The soft limit, so that our own error comes before the engine's, which it does not back
        // off for.
        let answer = self.peers.call(envelope, option.soft_ttl()).await;
        answer.map_err(|error| {
            tracing::debug!(
                peer = number_of(self.target),
                error = &error as &dyn std::error::Error,
                "peer did not answer"
            );
            Unreachable::new(&error)
        })
    }
}

fn unexpected(answer: &Answer) -> Unreachable {
    Unreachable::from(AnyError::error(format!("unexpected answer {answer:?}")))
}

impl RaftNetwork<Types> for PeerClient {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<RaftId>, RPCError<RaftId, (), RaftError<RaftId>>> {
        match self.ask(Request::Append((&request).into()), &option).await? {
            Answer::Append { answer, clock } => {
                self.peers.hear_clock(number_of(self.target), clock);
                Ok(answer.into())
            }
            other => Err(unexpected(&other).into()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<RaftId>,
        option: RPCOption,
    ) -> Result<VoteResponse<RaftId>, RPCError<RaftId, (), RaftError<RaftId>>> {
        match self.ask(Request::Vote((&request).into()), &option).await? {
            Answer::Vote(answer) => Ok(answer.into()),
            other => Err(unexpected(&other).into()),
        }
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Result<
        InstallSnapshotResponse<RaftId>,
        RPCError<RaftId, (), RaftError<RaftId, InstallSnapshotError>>,
    > {
        match self.ask(Request::Snapshot(request.into()), &option).await? {
            Answer::Snapshot(vote) => Ok(snapshot_answer(vote)),
            other => Err(unexpected(&other).into()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}
