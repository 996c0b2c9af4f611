//! Streams to tunnels that end at another node: one connection between the two nodes per stream.
//!
//! Asked with `Request::Relay`, a connection of the peer port becomes a plain stream of bytes;
//! TCP is its flow control. The asked node only ever opens tunnels that end at itself
//! ([`Handle::on_relay`](crate::Handle::on_relay)), so a stream takes one hop at most and cannot
//! go in circles. A node that was asked for one keeps a few connections ready for the next ones,
//! so that only the first pays for a handshake. Which node to ask is the product's business.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::network::{Answer, CallError, Peers, Request};
use crate::record::{NodeId, TunnelKey};
use crate::transport::{Boxed, Stream};

/// Streams one peer may have open to tunnels of this node.
const PER_PEER: usize = 1024;

/// Connections kept ready for a peer.
const SPARE: usize = 4;

/// A spare connection older than this is not used: the peer closes idle ones after a minute.
const FRESH: Duration = Duration::from_secs(30);

/// Bytes under way in either direction inside the node that holds the tunnel.
const BUFFER: usize = 32 << 10;

/// Bytes to and from a tunnel.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> ByteStream for T {}

/// A stream to a tunnel, wherever that ends.
pub type Relayed = Box<dyn ByteStream>;

/// How a node opens a stream to a tunnel that ends at itself; it must never pass the request on.
pub type OnRelay =
    Arc<dyn Fn(TunnelKey) -> Boxed<'static, Result<Relayed, RelayRefusal>> + Send + Sync>;

/// Why the asked node opened no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RelayRefusal {
    /// The tunnel does not end there (any more).
    #[error("the tunnel does not end at that node")]
    NotHere,
    /// Too many streams of the asking node are open.
    #[error("that node relays too many streams for this one already")]
    Busy,
    /// The client of the tunnel provided no work connection in time.
    #[error("the tunnel's client did not answer in time")]
    TimedOut,
    /// The client of the tunnel could not be used.
    #[error("the tunnel's client failed")]
    Failed,
}

/// Why there is no stream to a tunnel of another node.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The node was not reached, or did not answer in time.
    #[error("node {node} was not reached")]
    Unreachable {
        /// The asked node.
        node: NodeId,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It was asked and said no.
    #[error(transparent)]
    Refused(#[from] RelayRefusal),
}

/// Both directions of one node: streams it opened for others, connections it keeps ready.
#[derive(Default)]
pub(crate) struct Relays {
    opener: OnceLock<OnRelay>,
    open: Mutex<BTreeMap<NodeId, Arc<Semaphore>>>,
    spare: Mutex<BTreeMap<NodeId, Vec<(Stream, Instant)>>>,
}

/// A stream to a tunnel of this node, opened for a peer.
pub(crate) struct Opened {
    tunnel: Relayed,
    _permit: OwnedSemaphorePermit,
}

impl Opened {
    /// Carries bytes both ways until either end has had enough.
    pub(crate) async fn carry(mut self, mut peer: Stream) {
        // How it ended is told to both ends by the end itself.
        let _ = copy_bidirectional_with_sizes(&mut peer, &mut self.tunnel, BUFFER, BUFFER).await;
    }
}

impl Relays {
    /// Who opens tunnels of this node; only the first counts.
    pub(crate) fn on_relay(&self, opener: OnRelay) {
        let _ = self.opener.set(opener);
    }

    /// Opens a tunnel of this node for a peer.
    pub(crate) async fn open(
        &self,
        from: NodeId,
        tunnel: TunnelKey,
    ) -> Result<Opened, RelayRefusal> {
        let opener = self.opener.get().ok_or(RelayRefusal::NotHere)?;
        let limit = {
            let mut open = lock(&self.open);
            let limit = open.entry(from).or_insert_with(|| Arc::new(Semaphore::new(PER_PEER)));
            Arc::clone(limit)
        };
        let permit = limit.try_acquire_owned().map_err(|_| RelayRefusal::Busy)?;
        let tunnel = opener(tunnel).await?;
        Ok(Opened { tunnel, _permit: permit })
    }

    /// Asks a peer for a stream to a tunnel that ends there.
    pub(crate) async fn reach(
        self: &Arc<Self>,
        peers: &Arc<Peers>,
        to: NodeId,
        tunnel: &TunnelKey,
        within: Duration,
    ) -> Result<Relayed, RelayError> {
        let unreachable = |source| RelayError::Unreachable { node: to, source };
        let asked = timeout(within, self.ask(peers, to, tunnel)).await;
        let asked = asked.map_err(|elapsed| {
            // Whatever else is open to it will be as silent.
            lock(&self.spare).remove(&to);
            unreachable(elapsed.into())
        })?;
        let (answer, stream) = asked.map_err(|error| unreachable(error.into()))?;
        match answer {
            Answer::Relay(Ok(())) => {
                self.prepare(peers, to);
                Ok(Box::new(stream))
            }
            Answer::Relay(Err(refusal)) => {
                self.keep(to, stream);
                Err(refusal.into())
            }
            Answer::Refused(text) => Err(unreachable(text.into())),
            other => Err(unreachable(format!("unexpected answer {other:?}").into())),
        }
    }

    async fn ask(
        &self,
        peers: &Peers,
        to: NodeId,
        tunnel: &TunnelKey,
    ) -> Result<(Answer, Stream), CallError> {
        let request = || Request::Relay(tunnel.clone());
        if let Some(stream) = self.take(to) {
            // A kept one may have ended meanwhile; nothing was opened then.
            match peers.ask_on(stream, to, request()).await {
                Err(CallError::Connection(_)) => {}
                done => return done,
            }
        }
        let stream = peers.connect(to).await?;
        peers.ask_on(stream, to, request()).await
    }

    /// Opens a connection for the next stream to this peer, unless there are enough.
    fn prepare(self: &Arc<Self>, peers: &Arc<Peers>, to: NodeId) {
        if lock(&self.spare).get(&to).map_or(0, Vec::len) >= SPARE {
            return;
        }
        let (relays, peers) = (Arc::clone(self), Arc::clone(peers));
        tokio::spawn(async move {
            match peers.connect(to).await {
                Ok(stream) => relays.keep(to, stream),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(peer = to, error, "no spare connection for relayed streams");
                }
            }
        });
    }

    fn take(&self, to: NodeId) -> Option<Stream> {
        let mut spare = lock(&self.spare);
        let spare = spare.get_mut(&to)?;
        spare.retain(|(_, since)| since.elapsed() < FRESH);
        spare.pop().map(|(stream, _)| stream)
    }

    fn keep(&self, to: NodeId, stream: Stream) {
        let mut spare = lock(&self.spare);
        let spare = spare.entry(to).or_default();
        spare.retain(|(_, since)| since.elapsed() < FRESH);
        if spare.len() < SPARE {
            spare.push((stream, Instant::now()));
        }
    }

    /// Closes the spare connections.
    pub(crate) fn close(&self) {
        lock(&self.spare).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
