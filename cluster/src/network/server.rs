//! Answering peers on the one cluster port.
//!
//! A connection is served only after its certificate named a configured peer, and a request only
//! if it says the same sender and is meant for this node. Strangers cost one bounded handshake,
//! are counted, and cannot fill the log.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::connection::{self, ConnectionError};
use super::message::{Answer, Envelope, Request};
use crate::presence::{Hello, LAYOUT, Presence, Visitor, Visitors};
use crate::record::{NodeId, TunnelKey};
use crate::relay::{Opened, RelayRefusal};
use crate::transport::{Boxed, Door, Guest, Stream};

/// Handshakes at once; more are closed unanswered.
const HANDSHAKES: usize = 64;

/// Longest a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Connections of one peer at once.
const PER_PEER: usize = 32;

/// A connection without a request for so long is closed.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// A peer that does not take its answer for so long is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// Refusals are logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Who answers requests of verified peers.
pub(crate) trait Service: Send + Sync + 'static {
    /// Carries out one request of `from`.
    fn answer(&self, from: NodeId, request: Request) -> impl Future<Output = Answer> + Send;

    /// Opens a tunnel of this node for `from`.
    fn relay(
        &self,
        from: NodeId,
        tunnel: TunnelKey,
    ) -> impl Future<Output = Result<Opened, RelayRefusal>> + Send;
}

/// What happened on the port.
#[derive(Default)]
pub(crate) struct ServerStats {
    refused: AtomicU64,
    logged: Mutex<Option<Instant>>,
}

impl ServerStats {
    /// Connections refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn refuse(&self, address: SocketAddr, reason: &str) {
        let total = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            *logged = Some(Instant::now());
            tracing::warn!(peer.addr = %address, error = reason, total, "peer connection refused");
        }
    }
}

/// The accept loop and what it needs.
pub(crate) struct Server<S> {
    me: NodeId,
    service: Arc<S>,
    presence: Option<(Presence, Visitors)>,
    stats: Arc<ServerStats>,
    handshakes: Arc<Semaphore>,
    per_peer: BTreeMap<NodeId, Arc<Semaphore>>,
}

impl<S: Service> Server<S> {
    pub(crate) fn new(
        me: NodeId,
        peers: impl IntoIterator<Item = NodeId>,
        service: Arc<S>,
        presence: Option<(Presence, Visitors)>,
        stats: Arc<ServerStats>,
    ) -> Self {
        let per_peer = peers
            .into_iter()
            .filter(|id| *id != me)
            .map(|id| (id, Arc::new(Semaphore::new(PER_PEER))))
            .collect();
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        Self { me, service, presence, stats, handshakes, per_peer }
    }

    /// Serves until dropped; dropping closes every connection.
    pub(crate) async fn run(self, door: Arc<dyn Door>) {
        let server = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = door.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok(arrival) => {
                    let server = Arc::clone(&server);
                    connections.spawn(async move {
                        if let Err(reason) = server.connection(arrival.greet).await {
                            server.stats.refuse(arrival.address, &reason);
                        }
                    });
                }
                Err(error) => {
                    // Out of descriptors, mostly: a pause is all that helps.
                    tracing::warn!(%error, "peer connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// One connection from handshake to end; the error is why it was refused.
    async fn connection(&self, greet: Boxed<'static, Result<Guest, String>>) -> Result<(), String> {
        let Guest { from, mut stream } = {
            let _permit = self.handshakes.try_acquire().map_err(|_| "too many handshakes")?;
            let greeted = timeout(HANDSHAKE_LIMIT, greet).await;
            greeted.map_err(|_| "no handshake in time")??
        };
        let permits = self.per_peer.get(&from).ok_or_else(|| {
            format!("the certificate names node {from}, which is not in cluster.members")
        })?;
        let permit = permits.try_acquire().map_err(|_| "too many connections of this peer")?;
        loop {
            let envelope: Envelope = match timeout(IDLE_LIMIT, connection::read(&mut stream)).await
            {
                Err(_) | Ok(Err(ConnectionError::Closed | ConnectionError::Io(_))) => return Ok(()),
                Ok(Err(error)) => return Err(error.to_string()),
                Ok(Ok(envelope)) => envelope,
            };
            if envelope.from != from || envelope.to != self.me {
                let reason = format!(
                    "node {from} sent a request from {} to {}, this is node {}",
                    envelope.from, envelope.to, self.me
                );
                let answer = Answer::Refused(reason.clone());
                let _ = timeout(WRITE_LIMIT, connection::write(&mut stream, &answer)).await;
                return Err(reason);
            }
            let answer = match envelope.request {
                Request::Presence(hello) if hello.layout == LAYOUT => {
                    return self.hand_over(from, hello, stream).await;
                }
                Request::Presence(hello) => Answer::Refused(format!(
                    "presence has layout {}, this build speaks {LAYOUT}",
                    hello.layout
                )),
                Request::Relay(tunnel) => match self.service.relay(from, tunnel).await {
                    Ok(opened) => {
                        let answer = Answer::Relay(Ok(()));
                        let told = connection::write(&mut stream, &answer);
                        if let Ok(Ok(())) = timeout(WRITE_LIMIT, told).await {
                            // Streams are long and many, and have a limit of their own.
                            drop(permit);
                            opened.carry(stream).await;
                        }
                        return Ok(());
                    }
                    Err(refusal) => Answer::Relay(Err(refusal)),
                },
                request => self.service.answer(from, request).await,
            };
            match timeout(WRITE_LIMIT, connection::write(&mut stream, &answer)).await {
                Ok(Ok(())) => {}
                // The peer gave up waiting; nothing is wrong with it.
                Err(_) | Ok(Err(ConnectionError::Io(_))) => return Ok(()),
                Ok(Err(error)) => return Err(error.to_string()),
            }
        }
    }

    /// The presence thread carries the connection on: there its beats wait behind nobody.
    async fn hand_over(
        &self,
        from: NodeId,
        hello: Hello,
        mut stream: Stream,
    ) -> Result<(), String> {
        let (presence, visitors) = self.presence.as_ref().ok_or("there is no presence here")?;
        let answer = Answer::Presence(presence.hello());
        match timeout(WRITE_LIMIT, connection::write(&mut stream, &answer)).await {
            Ok(Ok(())) => {}
            Err(_) | Ok(Err(ConnectionError::Io(_))) => return Ok(()),
            Ok(Err(error)) => return Err(error.to_string()),
        }
        let (tcp, tls) = stream.into_accepted().ok_or("not a connection of the network")?;
        let tcp = tcp.into_std().map_err(|error| error.to_string())?;
        // Full or closed: the peer dials again in a moment, or this node stops.
        let _ = visitors.try_send(Visitor { from, hello, tcp, tls });
        Ok(())
    }
}
