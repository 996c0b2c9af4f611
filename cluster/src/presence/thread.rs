//! The thread of the presence: dials the members with a higher id, takes over the connections of
//! those with a lower one, and keeps a conversation with each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, ServerConnection};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};

use super::Presence;
use super::conversation::{Conversation, patience};
use super::message::{Beat, BeatError, Content, Hello, LAYOUT, SLOWEST};
use super::wire::{Wire, WireError};
use crate::flows::Flows;
use crate::group::Group;
use crate::identity::Identity;
use crate::network::{Answer, Envelope, Request};
use crate::passport::Seed;
use crate::record::{NodeId, Role};
use crate::types::raft_id;

/// Between two tries to reach a peer: doubled each time up to the second. Short, because a node
/// that starts waits a moment for its peers before it may claim anything.
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(400)];

/// Longest a connection may take to be made, and then to be greeted.
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
const GREETING_LIMIT: Duration = Duration::from_secs(3);

/// Better than the threads that serve requests; where that is not allowed, equal to them.
const NICE: i32 = -15;

/// Connections that wait to be taken over; a peer sends one at a time.
const VISITORS: usize = 16;

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
enum TalkError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Beat(#[from] BeatError),
    #[error("peer has been silent for too long")]
    Silent,
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("no greeting in time")]
    NoGreeting,
    #[error("{0} is not node {1}")]
    Impostor(SocketAddr, NodeId),
    #[error("refused: {0}")]
    Refused(String),
    #[error("presence has layout {found}, this build speaks {LAYOUT}")]
    Layout { found: u8 },
}

impl TalkError {
    /// Whether the peer did something no honest build does, rather than being away.
    fn is_garbage(&self) -> bool {
        match self {
            Self::Beat(_) | Self::Impostor(..) | Self::Layout { .. } => true,
            Self::Wire(error) => !matches!(error, WireError::Io(_) | WireError::Closed),
            Self::Silent | Self::Connect(_) | Self::NoGreeting | Self::Refused(_) => false,
        }
    }
}

/// A connection a peer has opened for its presence: handshake and greeting are done.
pub(crate) struct Visitor {
    pub(crate) from: NodeId,
    pub(crate) hello: Hello,
    pub(crate) tcp: std::net::TcpStream,
    pub(crate) tls: ServerConnection,
}

/// Where the peer port hands visitors over.
pub(crate) type Visitors = mpsc::Sender<Visitor>;

/// The running thread; dropping it ends every conversation.
pub(crate) struct Thread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    /// Starts the thread. `broken` is called if it ends although nobody asked it to.
    ///
    /// # Errors
    /// The system refuses a thread or an event queue.
    pub(crate) fn start(
        presence: Presence,
        me: Me,
        members: watch::Receiver<Arc<[Seed]>>,
        flows: Flows,
        broken: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<(Self, Visitors)> {
        presence.follow(me.number, &members.borrow());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let (visitors, waiting) = mpsc::channel(VISITORS);
        let thread = std::thread::Builder::new().name("presence".to_owned()).spawn(move || {
            prefer_this_thread();
            if let Some(settle) = presence.shared.settle.get() {
                settle();
            }
            let ours = Arc::new(Ours { presence, me, flows });
            let work = std::panic::AssertUnwindSafe(|| {
                runtime.block_on(async {
                    tokio::select! {
                        // An error is the other end dropped without a word, which means the same.
                        _ = stopped => true,
                        () = ours.run(members, waiting) => false,
                    }
                })
            });
            if !std::panic::catch_unwind(work).unwrap_or(false) {
                broken();
            }
        })?;
        Ok((Self { stop: Some(stop), thread: Some(thread) }, visitors))
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was reported where it happened.
            let _ = thread.join();
        }
    }
}

/// On Linux the niceness of "this process" is that of the calling thread alone.
fn prefer_this_thread() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "the presence thread runs with ordinary priority");
    }
}

/// Who this node is to the others.
pub(crate) struct Me {
    pub(crate) number: NodeId,
    /// The one it started in; presence goes on whatever becomes of it.
    pub(crate) group: Group,
    pub(crate) identity: Identity,
}

/// What every conversation needs.
struct Ours {
    presence: Presence,
    me: Me,
    flows: Flows,
}

impl Ours {
    async fn run(
        self: Arc<Self>,
        mut members: watch::Receiver<Arc<[Seed]>>,
        mut visitors: mpsc::Receiver<Visitor>,
    ) {
        let mut tasks = JoinSet::new();
        let mut dialled = BTreeMap::<NodeId, (SocketAddr, AbortHandle)>::new();
        let mut visited = BTreeMap::<NodeId, AbortHandle>::new();
        let mut visitors_end = false;
        members.mark_changed();
        loop {
            tokio::select! {
                Some(ended) = tasks.join_next() => match ended {
                    Err(error) if error.is_panic() => {
                        std::panic::resume_unwind(error.into_panic());
                    }
                    _ => {}
                },
                Ok(()) = members.changed() => {
                    let now = Arc::clone(&members.borrow_and_update());
                    self.presence.follow(self.me.number, &now);
                    visited.retain(|number, task| {
                        let stays = now.iter().any(|member| member.number == *number);
                        if !stays {
                            task.abort();
                        }
                        stays
                    });
                    self.dial_all(&now, &mut dialled, &mut tasks);
                }
                visitor = visitors.recv(), if !visitors_end => {
                    let Some(visitor) = visitor else {
                        // The peer port is closed; what is connected goes on until the stop.
                        visitors_end = true;
                        continue;
                    };
                    let from = visitor.from;
                    // The peer knows best that the connection before is of no more use.
                    if let Some(before) = visited.remove(&from) {
                        before.abort();
                    }
                    visited.insert(from, tasks.spawn(Arc::clone(&self).host(visitor)));
                }
                else => return std::future::pending().await,
            }
        }
    }

    /// Keeps a connection to each member with a higher number, and to nobody else.
    fn dial_all(
        self: &Arc<Self>,
        members: &[Seed],
        dialled: &mut BTreeMap<NodeId, (SocketAddr, AbortHandle)>,
        tasks: &mut JoinSet<()>,
    ) {
        let higher = members.iter().filter(|member| member.number > self.me.number);
        let wanted: BTreeMap<_, _> =
            higher.filter_map(|member| Some((member.number, member.address?))).collect();
        dialled.retain(|number, (address, task)| {
            let stays = wanted.get(number) == Some(address);
            if !stays {
                task.abort();
            }
            stays
        });
        for (number, address) in wanted {
            dialled.entry(number).or_insert_with(|| {
                (address, tasks.spawn(Arc::clone(self).keep_dialling(number, address)))
            });
        }
    }

    async fn keep_dialling(self: Arc<Self>, peer: NodeId, address: SocketAddr) {
        let mut backoff = BACKOFF[0];
        loop {
            let began = Instant::now();
            let Err(error) = self.dial(peer, address).await;
            self.ended(peer, Some(address), &error);
            if began.elapsed() > BACKOFF[1] * 4 {
                backoff = BACKOFF[0];
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF[1]);
        }
    }

    async fn dial(
        &self,
        peer: NodeId,
        address: SocketAddr,
    ) -> Result<std::convert::Infallible, TalkError> {
        let failed = |error: std::io::Error| TalkError::Connect(error);
        let tcp = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
        let tcp =
            tcp.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(failed)?;
        let name = self.me.identity.name_of(peer);
        let name = name.ok_or_else(|| failed(std::io::ErrorKind::InvalidInput.into()))?;
        let tls = ClientConnection::new(self.me.identity.client(), name).map_err(WireError::Tls)?;
        let mut wire = Wire::new(tcp, tls.into(), patience(SLOWEST)).map_err(WireError::Io)?;
        let greeted = timeout(GREETING_LIMIT, self.greet(peer, address, &mut wire)).await;
        let hello = greeted.map_err(|_| TalkError::NoGreeting)??;
        self.converse(peer, wire, hello).await
    }

    /// The handshake, and the first word of either end.
    async fn greet(
        &self,
        peer: NodeId,
        address: SocketAddr,
        wire: &mut Wire,
    ) -> Result<Hello, TalkError> {
        while wire.tls().is_handshaking() {
            wire.turn().await?;
        }
        // The name was checked by rustls; this also refuses a certificate with several names.
        if self.me.identity.node_of(wire.tls().peer_certificates()) != Some(peer) {
            return Err(TalkError::Impostor(address, peer));
        }
        let request = Request::Presence(self.presence.hello());
        let Me { number, group, .. } = self.me;
        wire.send(&Envelope { group, from: raft_id(number, 0), to: raft_id(peer, 0), request })?;
        loop {
            match wire.message::<Answer>()? {
                Some(Answer::Presence(hello)) if hello.layout == LAYOUT => return Ok(hello),
                Some(Answer::Presence(hello)) => {
                    return Err(TalkError::Layout { found: hello.layout });
                }
                Some(Answer::Refused(text)) => return Err(TalkError::Refused(text)),
                Some(Answer::Removed) => {
                    return Err(TalkError::Refused("this node was removed".to_owned()));
                }
                Some(other) => return Err(TalkError::Refused(format!("unexpected {other:?}"))),
                None => wire.turn().await?,
            }
        }
    }

    async fn host(self: Arc<Self>, visitor: Visitor) {
        let Visitor { from, hello, tcp, tls } = visitor;
        let pace = hello.pace(self.presence.hello());
        let opened = TcpStream::from_std(tcp)
            .and_then(|tcp| Wire::new(tcp, tls.into(), patience(pace)))
            .map_err(|error| TalkError::Wire(error.into()));
        let (peer, ended) = match opened {
            Ok(wire) => (wire.peer(), self.converse(from, wire, hello).await),
            Err(error) => (None, Err(error)),
        };
        let Err(error) = ended;
        self.ended(from, peer, &error);
    }

    async fn converse(
        &self,
        peer: NodeId,
        mut wire: Wire,
        hello: Hello,
    ) -> Result<std::convert::Infallible, TalkError> {
        let _connected = Connected::new(&self.presence, peer);
        let pace = hello.pace(self.presence.hello());
        let mut talk = Conversation::new(Instant::now(), pace);
        let mut urgent = self.flows.urgent();
        // A visitor's first beat may have come together with its greeting.
        wire.decrypt()?;
        loop {
            self.listen(peer, &mut wire, &mut talk)?;
            tokio::select! {
                biased;
                () = sleep_until(talk.next_beat().into()) => self.beat(peer, &mut wire, &mut talk)?,
                turned = wire.turn() => turned?,
                Ok(()) = urgent.changed() => {
                    if self.is_told_flows(peer) {
                        talk.hurry(Instant::now());
                    }
                }
                () = sleep_until(talk.given_up_at().into()) => return Err(TalkError::Silent),
            }
        }
    }

    fn beat(&self, to: NodeId, wire: &mut Wire, talk: &mut Conversation) -> Result<(), TalkError> {
        let now = Instant::now();
        if wire.is_clogged() {
            talk.skip(now);
            return Ok(());
        }
        let known = self.presence.state().mark_at(to);
        let due = self.is_told_flows(to) && talk.is_delta_due(now, known);
        let (mark, flows) = {
            let table = self.flows.lock();
            (table.mark_of(to), due.then(|| table.delta_since(known)).flatten())
        };
        if due {
            talk.delta_sent(now, known, flows.as_ref());
        }
        let heard = self.presence.state().gossip(now, to);
        let content = Content { word: self.presence.word(), heard, mark, flows };
        wire.send(&talk.beat(now, content))?;
        Ok(())
    }

    /// A witness never takes an address over, so it has no use for flows.
    fn is_told_flows(&self, node: NodeId) -> bool {
        let heard = self.presence.state();
        heard.peers.get(&node).is_none_or(|peer| peer.role != Role::Witness)
    }

    fn listen(
        &self,
        from: NodeId,
        wire: &mut Wire,
        talk: &mut Conversation,
    ) -> Result<(), TalkError> {
        while let Some(beat) = wire.message::<Beat>()? {
            let now = Instant::now();
            let round_trip = talk.take(now, &beat)?;
            if let Some(delta) = &beat.flows {
                self.flows.lock().apply(from, delta).map_err(BeatError::Flows)?;
            }
            self.presence.change(|heard| heard.take(now, from, beat, round_trip));
        }
        Ok(())
    }

    fn ended(&self, peer: NodeId, address: Option<SocketAddr>, error: &TalkError) {
        let address = address.map_or_else(String::new, |address| address.to_string());
        let reason = error as &dyn std::error::Error;
        let total = match error.is_garbage() {
            true => self.presence.shared.refused.fetch_add(1, Ordering::Relaxed) + 1,
            false => 0,
        };
        let may_log = self.presence.may_log(Instant::now(), peer);
        if total > 0 && may_log {
            tracing::warn!(peer, peer.addr = address, error = reason, total, "presence refused");
        } else if may_log {
            tracing::info!(peer, peer.addr = address, error = reason, "no presence of a peer");
        } else {
            tracing::debug!(peer, peer.addr = address, error = reason, "no presence of a peer");
        }
    }
}

/// Marks a peer as connected for as long as it lives.
struct Connected<'a> {
    presence: &'a Presence,
    peer: NodeId,
}

impl<'a> Connected<'a> {
    fn new(presence: &'a Presence, peer: NodeId) -> Self {
        presence.change(|heard| heard.set_connected(peer, true));
        Self { presence, peer }
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.presence.change(|heard| heard.set_connected(self.peer, false));
    }
}
