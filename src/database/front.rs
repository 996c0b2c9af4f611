//! Takes sessions and carries them to a node.
//!
//! A server speaks first. So until its greeting is here a session is bound to nothing: a node
//! that does not take the connection, or takes it and stays silent, is left for the next one, and
//! the client has noticed nothing but a wait.
//!
//! PHP's sessions are short, and a client of a database waits for an answer for ever. So the other
//! load balancers are told of every session as it begins: whoever takes the address over can end
//! it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cluster::flows::{Flow, FlowKind, Flows, Recorded};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::gates::{Place, Port};
use super::pilot::Picture;
use super::{Inner, wire};
use crate::net::splice::{End, splice};
use crate::net::{Socket, listen};

/// How long the next try waits when a node did not take a session.
const AGAIN: Duration = Duration::from_millis(50);

/// How long a refused client has to take the reason.
const GOODBYE: Duration = Duration::from_secs(1);

/// MariaDB's number for too many connections, and the one for everything else.
const TOO_MANY: u16 = 1040;
const UNKNOWN: u16 = 1105;

/// Tells the other load balancers of sessions at virtual addresses.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    pub(super) flows: Flows,
    pub(super) addresses: Arc<[IpAddr]>,
}

impl Teller {
    /// While the answer lives.
    fn tell(&self, socket: &Socket) -> Option<Recorded> {
        if self.addresses.is_empty() {
            return None;
        }
        let (server, client) = socket.grip().ends()?;
        let is_virtual = self.addresses.contains(&server.ip().to_canonical());
        let flow = Flow { server, client, kind: FlowKind::Client, sequence: None };
        is_virtual.then(|| self.flows.record(flow))
    }
}

/// Until `stop`; sessions end with it.
pub(super) async fn serve(
    inner: Arc<Inner>,
    listener: TcpListener,
    port: Port,
    teller: Teller,
    stop: CancellationToken,
) {
    let mut sessions = JoinSet::new();
    loop {
        let (tcp, peer) = tokio::select! {
            accepted = listen::accept(&listener) => accepted,
            Some(_) = sessions.join_next() => continue,
            () = stop.cancelled() => return,
        };
        let Some(place) = inner.gates.admit() else {
            inner.gates.refused();
            // A flood gets no task each: what the socket takes at once is what it is told.
            let _ = tcp.try_write(&wire::refusal(TOO_MANY, "Too many connections"));
            continue;
        };
        keep_alive(&tcp);
        let socket = Socket::new(tcp, peer);
        socket.remember_start();
        if !inner.sockets.track(&socket) {
            continue;
        }
        let told = teller.tell(&socket);
        let session = Session { inner: inner.clone(), port, _place: place, _told: told };
        sessions.spawn(session.run(socket));
    }
}

struct Session {
    inner: Arc<Inner>,
    port: Port,
    _place: Place,
    _told: Option<Recorded>,
}

/// A node that has greeted.
struct Bound {
    node: usize,
    stream: TcpStream,
    cut: CancellationToken,
    _place: Place,
}

impl Session {
    async fn run(self, mut client: Socket) {
        let bound = match self.find().await {
            Ok(bound) => bound,
            Err((code, why)) => {
                self.inner.gates.refused();
                let text = wire::refusal(code, why);
                let _ = timeout(GOODBYE, client.write_all(&text)).await;
                return;
            }
        };
        self.inner.gates.begun(bound.node);
        let joined = splice(client, bound.stream, self.inner.config.idle);
        tokio::select! {
            spliced = joined => {
                if let End::Failed(error) = spliced.end {
                    tracing::debug!(%error, database = self.name(bound.node), "session broke");
                }
            }
            // Both ends are closed by leaving: the client hears at once that it has to come again.
            () = bound.cut.cancelled() => self.inner.gates.was_cut(bound.node),
        }
    }

    /// A node that takes the session, as soon as there is one.
    async fn find(&self) -> Result<Bound, (u16, &'static str)> {
        let deadline = Instant::now() + self.inner.config.wait;
        let mut picture = self.inner.picture.subscribe();
        self.inner.hurry();
        let mut avoid = None;
        let mut is_full = false;
        loop {
            let now = picture.borrow_and_update().clone();
            match self.choose(&now, avoid) {
                Some(node) => match self.inner.gates.enter(node, self.port) {
                    None => is_full = true,
                    Some((place, cut)) => {
                        is_full = false;
                        let greeted = tokio::select! {
                            greeted = self.greet(node) => greeted,
                            () = cut.cancelled() => None,
                        };
                        if let Some(stream) = greeted {
                            return Ok(Bound { node, stream, cut, _place: place });
                        }
                        self.inner.gates.failed(node);
                        self.inner.kicks[node].notify_one();
                        avoid = Some(node);
                    }
                },
                None => avoid = None,
            }
            if Instant::now() >= deadline {
                return Err(match is_full {
                    true => (TOO_MANY, "Too many connections"),
                    false => (UNKNOWN, "No database node can take this session now"),
                });
            }
            let _ = timeout_at(deadline, async {
                tokio::select! {
                    _ = picture.changed() => {}
                    () = sleep(AGAIN) => {}
                }
            })
            .await;
        }
    }

    fn choose(&self, picture: &Picture, avoid: Option<usize>) -> Option<usize> {
        match self.port {
            Port::Writer => picture.writer_for_sessions(),
            Port::Reader => picture.reader_for_sessions(avoid, |node| self.inner.gates.open(node)),
        }
    }

    /// Connects and waits for the first byte, which is left where it is.
    async fn greet(&self, node: usize) -> Option<TcpStream> {
        let within = self.inner.config.timeout;
        let connected = timeout(within, TcpStream::connect(self.address(node))).await;
        let stream = connected.ok()?.ok()?;
        stream.set_nodelay(true).ok()?;
        keep_alive(&stream);
        let first = timeout(within, stream.peek(&mut [0])).await.ok()?.ok()?;
        (first > 0).then_some(stream)
    }

    fn address(&self, node: usize) -> SocketAddr {
        self.inner.config.nodes[node].address
    }

    fn name(&self, node: usize) -> &str {
        &self.inner.config.nodes[node].name
    }
}

/// A client whose machine is gone must not hold its session for the idle time.
fn keep_alive(stream: &TcpStream) {
    let every = Duration::from_secs(30);
    let probes = TcpKeepalive::new().with_time(every).with_interval(every).with_retries(4);
    // The session works without.
    let _ = SockRef::from(stream).set_tcp_keepalive(&probes);
}
