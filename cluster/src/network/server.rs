//! Answering peers on the one cluster port.
//!
//! A connection is served only after its certificate named a node that was not removed, and a
//! request only if it says the same sender, is meant for this node and is of its raft group.
//! Strangers may ask to join: that costs one bounded handshake and one small request; they are
//! counted, limited by address, and cannot fill the log.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::admission::{JoinRequest, NotWelcome};
use super::connection::{self, ConnectionError};
use super::knocks::Knocks;
use super::message::{Answer, Envelope, Request};
use crate::group::Group;
use crate::guarded::guarded;
use crate::mutation::mutated;
use crate::presence::{Hello, LAYOUT, Presence, Visitor, Visitors};
use crate::record::{NodeId, TunnelKey};
use crate::relay::{Opened, RelayRefusal};
use crate::transport::{Boxed, Door, Guest, Stream};
use crate::types::{RaftId, number_of};

/// Handshakes at once; more are closed unanswered.
const HANDSHAKES: usize = 64;

/// Handshakes of one address at once, so that no stranger keeps the members out.
const PER_ADDRESS: usize = 16;

/// Longest a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Connections of one peer at once.
const PER_PEER: usize = 32;

/// Connections of strangers at once.
const STRANGERS: usize = 16;

/// Largest request of a stranger, in bytes.
const STRANGER_FRAME: usize = 16 << 10;

/// Longest a stranger may take to ask.
const STRANGER_LIMIT: Duration = Duration::from_secs(5);

/// A connection without a request for so long is closed.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// A peer that does not take its answer for so long is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// Refusals are logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Who answers what comes in.
pub(crate) trait Service: Send + Sync + 'static {
    /// The raft group it takes part in.
    fn group(&self) -> Group;

    /// What this node is there.
    fn raft_id(&self) -> RaftId;

    /// The member that leads it, as far as known.
    fn leader(&self) -> Option<NodeId>;

    /// What is to be thought of a member that proved its number.
    fn judge(&self, number: NodeId) -> Judgement;

    /// Carries out one request of a member.
    fn answer(&self, from: RaftId, request: Request) -> impl Future<Output = Answer> + Send;

    /// Opens a tunnel of this node for a member.
    fn relay(
        &self,
        from: NodeId,
        tunnel: TunnelKey,
    ) -> impl Future<Output = Result<Opened, RelayRefusal>> + Send;

    /// Decides whether a machine may join.
    fn admit(&self, request: JoinRequest) -> impl Future<Output = Answer> + Send;
}

/// What this node thinks of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// A member, with this raft id as far as known here.
    Member(RaftId),
    /// A member this node has not heard of yet: the authority vouches for it.
    Newcomer,
    /// It was taken out.
    Removed,
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
    service: Arc<S>,
    presence: Option<(Presence, Visitors)>,
    stats: Arc<ServerStats>,
    handshakes: Arc<Semaphore>,
    shaking: Mutex<BTreeMap<IpAddr, usize>>,
    knocks: Mutex<Knocks>,
    strangers: Semaphore,
    per_peer: Mutex<BTreeMap<NodeId, Arc<Semaphore>>>,
}

impl<S: Service> Server<S> {
    pub(crate) fn new(
        service: Arc<S>,
        presence: Option<(Presence, Visitors)>,
        stats: Arc<ServerStats>,
    ) -> Self {
        Self {
            service,
            presence,
            stats,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            shaking: Mutex::default(),
            knocks: Mutex::default(),
            strangers: Semaphore::new(STRANGERS),
            per_peer: Mutex::default(),
        }
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
                    connections.spawn(guarded(async move {
                        if let Err(reason) = server.connection(arrival.address, arrival.greet).await
                        {
                            server.stats.refuse(arrival.address, &reason);
                        }
                    }));
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
    async fn connection(
        &self,
        address: SocketAddr,
        greet: Boxed<'static, Result<Guest, String>>,
    ) -> Result<(), String> {
        let Guest { from, stream } = {
            let _shaking = Shaking::begin(&self.shaking, address.ip())
                .ok_or("too many handshakes of this address")?;
            let _permit = self.handshakes.try_acquire().map_err(|_| "too many handshakes")?;
            let greeted = timeout(HANDSHAKE_LIMIT, greet).await;
            greeted.map_err(|_| "no handshake in time")??
        };
        match from {
            Some(from) => self.member(from, stream).await,
            None => self.stranger(address, stream).await,
        }
    }

    async fn member(&self, number: NodeId, mut stream: Stream) -> Result<(), String> {
        let permits = {
            let mut per_peer = self.per_peer.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(per_peer.entry(number).or_insert_with(|| Arc::new(Semaphore::new(PER_PEER))))
        };
        let permit = permits.try_acquire().map_err(|_| "too many connections of this peer")?;
        loop {
            let envelope: Envelope = match timeout(IDLE_LIMIT, connection::read(&mut stream)).await
            {
                Err(_) | Ok(Err(ConnectionError::Closed | ConnectionError::Io(_))) => return Ok(()),
                Ok(Err(error)) => return Err(error.to_string()),
                Ok(Ok(envelope)) => envelope,
            };
            if let Some((answer, reason)) = self.objection(number, &envelope) {
                let _ = timeout(WRITE_LIMIT, connection::write(&mut stream, &answer)).await;
                return Err(reason);
            }
            let answer = match envelope.request {
                Request::Presence(hello) if hello.layout == LAYOUT => {
                    return self.hand_over(number, hello, stream).await;
                }
                Request::Presence(hello) => Answer::Refused(format!(
                    "presence has layout {}, this build speaks {LAYOUT}",
                    hello.layout
                )),
                Request::Relay(tunnel) => match self.service.relay(number, tunnel).await {
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
                request => self.service.answer(envelope.from, request).await,
            };
            match timeout(WRITE_LIMIT, connection::write(&mut stream, &answer)).await {
                Ok(Ok(())) => {}
                // The peer gave up waiting; nothing is wrong with it.
                Err(_) | Ok(Err(ConnectionError::Io(_))) => return Ok(()),
                Ok(Err(error)) => return Err(error.to_string()),
            }
        }
    }

    /// Why a request is not carried out, and what its sender is told. The connection ends with it.
    fn objection(&self, number: NodeId, envelope: &Envelope) -> Option<(Answer, String)> {
        let Envelope { group, from, to, ref request } = *envelope;
        let refused = |reason: String| Some((Answer::Refused(reason.clone()), reason));
        let judgement = self.service.judge(number);
        if judgement == Judgement::Removed {
            let reason = format!("node {number} was removed from the cluster");
            return Some((Answer::Removed, reason));
        }
        let (ours, me) = (self.service.group(), self.service.raft_id());
        if number_of(from) != number || number_of(to) != number_of(me) {
            return refused(format!(
                "node {number} sent a request from {} to {}, this is node {}",
                number_of(from),
                number_of(to),
                number_of(me)
            ));
        }
        if !request.is_of_group() {
            return None;
        }
        if group != ours && !mutated!(GroupNotChecked) {
            let Group { generation, lineage, .. } = ours;
            let leader = self.service.leader();
            let reason = format!("node {number} speaks for group {group}, this is {ours}");
            return Some((Answer::OtherGroup { generation, lineage, leader }, reason));
        }
        let is_old = matches!(judgement, Judgement::Member(known) if from < known);
        if is_old || to != me {
            return refused(format!("node {number} speaks for or to an earlier incarnation"));
        }
        None
    }

    /// A connection without a certificate: one small request to join, and its answer.
    async fn stranger(&self, address: SocketAddr, mut stream: Stream) -> Result<(), String> {
        let _permit = self.strangers.try_acquire().map_err(|_| "too many strangers")?;
        let heard = {
            let mut knocks = self.knocks.lock().unwrap_or_else(PoisonError::into_inner);
            knocks.knock(Instant::now().into_std(), address.ip())
        };
        let (answer, refused) = if heard {
            let read = connection::read_within(&mut stream, STRANGER_FRAME);
            let envelope: Envelope = match timeout(STRANGER_LIMIT, read).await {
                Err(_) => return Err("no request in time from a stranger".to_owned()),
                Ok(Err(error)) => return Err(error.to_string()),
                Ok(Ok(envelope)) => envelope,
            };
            let Request::Join(request) = envelope.request else {
                return Err("a stranger may only ask to join".to_owned());
            };
            let answer = self.service.admit(*request).await;
            let refused = match &answer {
                Answer::NotWelcome(reason) => Some(format!("not welcome: {reason:?}")),
                _ => None,
            };
            (answer, refused)
        } else {
            let refused = Some("too many tries to join".to_owned());
            (Answer::NotWelcome(NotWelcome::TooMany), refused)
        };
        let written = timeout(WRITE_LIMIT, connection::write(&mut stream, &answer)).await;
        match (refused, written) {
            (Some(reason), _) => Err(reason),
            (None, Ok(Ok(()))) => Ok(()),
            (None, _) => Err("a new member did not take its answer".to_owned()),
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

/// Counts a handshake of an address for as long as it lives.
struct Shaking<'a> {
    all: &'a Mutex<BTreeMap<IpAddr, usize>>,
    address: IpAddr,
}

impl<'a> Shaking<'a> {
    fn begin(all: &'a Mutex<BTreeMap<IpAddr, usize>>, address: IpAddr) -> Option<Self> {
        let mut counts = all.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Self { all, address })
    }
}

impl Drop for Shaking<'_> {
    fn drop(&mut self) {
        let mut counts = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::config::{Config, Role};
    use crate::founding::{Admission, Founding, admit, found};
    use crate::group::Lineage;
    use crate::identity::{Identity, link_files};
    use crate::node::Node;
    use crate::types::raft_id;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_member_is_heard_only_as_itself_in_its_own_group_and_incarnation() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let founding = Founding {
            cluster_name: "alpha".into(),
            node_name: "n1".into(),
            advertise: Some(free()),
        };
        let address = found(&one, &founding).unwrap().advertise.unwrap();
        let admission = Admission { node_name: "n2".into(), role: Role::Node, advertise: free() };
        let passport = admit(&one, &two, &admission).unwrap();
        let config = Config { listen: Some(address), ..Config::new(&one) };
        let (node, handle) = Node::start(config).await.unwrap();
        let cluster = passport.group.cluster.to_string();
        let identity = Identity::load(&link_files(&two), &cluster, 2).unwrap();
        let ask = async |group: Group, from: RaftId, to: RaftId| {
            let tcp = TcpStream::connect(address).await.unwrap();
            let connector = TlsConnector::from(identity.client());
            let mut tls = connector.connect(identity.name_of(1).unwrap(), tcp).await.unwrap();
            let request = Request::Share(crate::command::SoftPart {
                origin: 2,
                ..crate::command::SoftPart::default()
            });
            let envelope = Envelope { group, from, to, request };
            connection::write(&mut tls, &envelope).await.unwrap();
            connection::read::<Answer>(&mut tls).await.unwrap()
        };
        let ours = passport.group;
        let older = Group { generation: 0, ..ours };
        let sibling = Group { lineage: Lineage([9; 16]), ..ours };
        for group in [older, sibling, ours.next(Lineage([9; 16]))] {
            let before = handle.status().refused_peers;
            match ask(group, 2, 1).await {
                Answer::OtherGroup { generation: 1, lineage, .. } if lineage == ours.lineage => {}
                other => panic!("{group}: {other:?}"),
            }
            assert_eq!(handle.status().refused_peers, before + 1);
        }
        let strangers = [(1, 1), (3, 1), (2, 2), (2, raft_id(1, 1))];
        for (from, to) in strangers {
            let answer = ask(ours, from, to).await;
            assert!(matches!(answer, Answer::Refused(_)), "{from} to {to}: {answer:?}");
        }
        let heard = ask(ours, 2, 1).await;
        assert!(matches!(heard, Answer::Shared | Answer::Unconfirmed(_)), "{heard:?}");
        node.shutdown().await;
    }
}
