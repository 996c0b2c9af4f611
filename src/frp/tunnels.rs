//! The tunnels as the rest of the product sees them: a [`Dial`] that reaches a port's client on
//! this node, or through the node that holds it, and waits for a registered one that is on its
//! way back.
//!
//! Sessions live in `session.rs`, the table of them in `registry.rs`. `registration.rs` keeps the
//! cluster in step, `relay.rs` speaks with the other nodes.

mod registration;
mod status;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use cluster::Handle;
use cluster::flows::{Flow, FlowKind, Recorded, Sequence};
use cluster::record::{Tenant, TunnelKey, TunnelStamp};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::absence::Absence;
use super::config::Config;
use super::control::Refused;
use super::entitlement::{Proof, check_proof, check_records};
use super::message::{Message, NewProxy, StartWorkConn};
use super::ports::{Ports, Refusal, SessionId};
use super::registry::{Made, Registry, Seat};
use super::relay;
use super::session::Input;
use super::wire::Codec;
use super::work::WorkStream;
use crate::net::{BoxFuture, Dial, Grip, Numbers, Sockets, Stream, Target, TcpDial};
use crate::observe::metrics::metrics;

pub use status::TunnelStatus;

/// Longest time for the few bytes that start a work connection.
const START_WITHIN: Duration = Duration::from_secs(5);

/// Cheap to clone; all clones are the same tunnels, dialled by the ports of one tenant.
#[derive(Clone)]
pub struct Tunnels {
    inner: Arc<Inner>,
    tenant: Tenant,
}

pub(super) struct Inner {
    config: Config,
    pub(super) cluster: Handle,
    fallback: TcpDial,
    registry: Mutex<Registry>,
    absence: Mutex<Absence>,
    pub(super) ways: relay::Ways,
    /// Every socket of the FRP port.
    sockets: Sockets,
    /// Counts registrations made here.
    registrations: AtomicU64,
    /// Counts changes of what is live.
    changed: watch::Sender<u64>,
}

/// How asking a session for a work connection ended.
pub(super) enum Asked {
    Started(Stream),
    /// This one was dead; the client may have more.
    Stale,
    /// The session is gone, or its proxy is.
    Lost,
    Failed(io::Error),
}

impl Tunnels {
    /// No tunnels yet. Must be called within a tokio runtime: a task that forgets lost clients
    /// runs until the last clone is dropped.
    pub fn new(config: Config, fallback: TcpDial, cluster: Handle) -> Self {
        let ports = Ports::new([config.apps.clone(), config.engines.clone()]);
        let absence = Absence::new(cluster.node_id(), config.forget_after);
        let inner = Arc::new(Inner {
            config,
            cluster,
            fallback,
            registry: Mutex::new(Registry::new(ports)),
            absence: Mutex::new(absence),
            ways: relay::Ways::default(),
            sockets: Sockets::default(),
            registrations: AtomicU64::new(0),
            changed: watch::channel(0).0,
        });
        tokio::spawn(registration::forget_lost(Arc::downgrade(&inner)));
        relay::serve(&inner);
        Self { inner, tenant: Tenant::default() }
    }

    /// The same tunnels as `tenant` sees them: its ports, and those of nobody else.
    pub fn of(&self, tenant: &Tenant) -> Self {
        Self { inner: Arc::clone(&self.inner), tenant: tenant.clone() }
    }

    /// Whether a port is live here or registered anywhere.
    pub fn is_known(&self, port: u16) -> bool {
        self.inner.registry().is_live(&self.key(port))
            || self.inner.cluster.read(|state| state.tunnel(&self.tenant, port).is_some())
    }

    /// Whether the client of this port is connected to this node.
    pub fn is_live(&self, port: u16) -> bool {
        self.inner.registry().is_live(&self.key(port))
    }

    /// Virtual addresses left this node: drops every session and every connection of the FRP
    /// port that ends at one of them, without a packet, so that none of them disturbs its client
    /// once it is elsewhere. Connections to the node's own addresses go on.
    pub fn abandon(&self, addresses: &[IpAddr]) {
        self.inner.sockets.abandon(addresses);
        let seats = self.inner.registry().evict_at(addresses);
        for seat in &seats {
            seat.kill.cancel();
        }
        self.inner.bump();
        tracing::info!(sessions = seats.len(), "tunnels abandoned: their address left this node");
    }

    /// Virtual addresses came to this node: the tunnels that end at them are now expected here,
    /// and those whose client does not come are forgotten in time.
    pub fn adopt(&self, addresses: &[IpAddr]) {
        let view = self.inner.cluster.view();
        let registry = self.inner.registry();
        let records = view.tunnels().map(|record| &**record);
        let is_live = |key: &TunnelKey| registry.is_live(key);
        lock(&self.inner.absence).adopt(Instant::now(), addresses, records, is_live);
        drop(registry);
        self.inner.bump();
    }

    /// Every socket of the FRP port.
    pub fn sockets(&self) -> &Sockets {
        &self.inner.sockets
    }

    /// Lets the other nodes know of a control connection, while the answer lives.
    pub(super) fn record(&self, server: SocketAddr, client: SocketAddr, grip: &Grip) -> Recorded {
        let numbers = grip.numbers();
        let sequence = numbers.map(|Numbers { send, receive }| Sequence { send, receive });
        let flow = Flow { server, client, kind: FlowKind::Control, sequence };
        self.inner.cluster.flows().record(flow)
    }

    pub(super) fn attach(&self, seat: Seat) -> SessionId {
        let id = self.inner.registry().attach(seat);
        self.inner.bump();
        id
    }

    pub(super) fn detach(&self, id: SessionId) {
        if self.inner.registry().detach(id).is_some() {
            self.inner.bump();
        }
    }

    pub(super) fn claim(&self, id: SessionId, proxy: &NewProxy) -> Result<(), Refusal> {
        self.entitled(id, proxy)?;
        let made = Made {
            node: self.inner.cluster.node_id(),
            since: cluster::clock::now(),
            stamp: self.inner.stamp(),
        };
        let claimed = self.inner.registry().claim(id, proxy, made)?;
        if let Some(record) = claimed {
            self.inner.bump();
            tokio::spawn(registration::register(Arc::downgrade(&self.inner), record));
        }
        Ok(())
    }

    /// Whether the session's login entitles it to the proxy.
    fn entitled(&self, id: SessionId, proxy: &NewProxy) -> Result<(), Refusal> {
        let port = u16::try_from(proxy.remote_port).map_err(|_range| Refusal::NotAllowed)?;
        let config = &self.inner.config;
        let registry = self.inner.registry();
        // Without a seat the claim itself is refused.
        let Some(proof) = registry.proof(id) else { return Ok(()) };
        check_proof(proof, &proxy.proxy_name, port, &config.engines)?;
        if config.app_credentials && config.apps.contains(&port) {
            self.inner.cluster.read(|state| {
                let records = state.exapps_of(proof.tenant()).map(|record| &**record);
                check_records(records, &proxy.proxy_name, port)
            })?;
        }
        Ok(())
    }

    /// Whether a login with this proof may go on under a run id: one that is in use belongs to
    /// whoever proved the same.
    pub(super) fn may_resume(&self, run_id: &str, proof: &Proof) -> bool {
        self.inner.registry().by_run_id(run_id).is_none_or(|seat| seat.proof == *proof)
    }

    pub(super) fn release(&self, id: SessionId, name: &str) {
        let released = self.inner.registry().release(id, name);
        if let Some(record) = released {
            self.inner.bump();
            tokio::spawn(registration::forget(Arc::downgrade(&self.inner), record));
        }
    }

    pub(super) fn session_of(&self, run_id: &str) -> Option<Seat> {
        self.inner.registry().by_run_id(run_id).cloned()
    }

    fn key(&self, port: u16) -> TunnelKey {
        TunnelKey { tenant: self.tenant.clone(), port }
    }

    async fn open(&self, port: u16) -> io::Result<Stream> {
        let mut waited = false;
        let opened = self.await_and_open(port, &mut waited).await;
        if waited {
            metrics().tunnel_waited(match opened.as_ref().map_err(io::Error::kind) {
                Ok(_) => "came",
                Err(io::ErrorKind::NotFound) => "gone",
                Err(io::ErrorKind::TimedOut) => "timeout",
                Err(_) => "failed",
            });
        }
        opened
    }

    async fn await_and_open(&self, port: u16, waited: &mut bool) -> io::Result<Stream> {
        let key = self.key(port);
        let mut changed = self.inner.changed.subscribe();
        let mut view = self.inner.cluster.changes();
        // Spent only while the tunnel is absent: a client that was here and vanished under our
        // hands is waited for like one that was not here in the first place.
        let mut patience = self.inner.config.tunnel_wait;
        let mut attempt = 0;
        let mut asked = relay::Asked::default();
        loop {
            changed.borrow_and_update();
            view.borrow_and_update();
            let mut absent = Instant::now();
            let seat = self.inner.registry().by_port(&key).cloned();
            if let Some(seat) = seat {
                match ask(&seat, port, attempt).await {
                    Asked::Started(stream) => return Ok(stream),
                    Asked::Failed(error) => return Err(error),
                    Asked::Stale => {
                        attempt += 1;
                        continue;
                    }
                    Asked::Lost => absent = Instant::now(),
                }
            } else {
                let known = |state: &cluster::State| state.tunnel(&key.tenant, port).cloned();
                let Some(record) = self.inner.cluster.read(known) else {
                    let text = format!("no tunnel is registered for port {port}");
                    return Err(io::Error::new(io::ErrorKind::NotFound, text));
                };
                if asked.is_due(&record, self.inner.cluster.node_id()) {
                    let relayed = relay::reach(&self.inner, &record, patience);
                    tokio::select! {
                        relayed = relayed => if let Some(stream) = relayed? { return Ok(stream) },
                        () = self.came(&key) => continue,
                    }
                    asked.answered(&record);
                }
            }
            // Whoever comes next has live work connections again.
            attempt = 0;
            *waited = true;
            let left = patience.saturating_sub(absent.elapsed());
            let news = async {
                tokio::select! {
                    _ = changed.changed() => {}
                    _ = view.changed() => {}
                    () = asked.again() => {}
                }
            };
            if timeout(left, news).await.is_err() {
                let text = format!("the tunnel of port {port} did not come back in time");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            patience = patience.saturating_sub(absent.elapsed());
        }
    }

    /// Returns once the client of a port is connected to this node.
    async fn came(&self, key: &TunnelKey) {
        let mut changed = self.inner.changed.subscribe();
        while !self.inner.registry().is_live(key) && changed.changed().await.is_ok() {}
    }
}

impl Dial for Tunnels {
    fn dial<'a>(&'a self, to: &'a Target) -> BoxFuture<'a, io::Result<Stream>> {
        match to {
            Target::Tunnel(port) => Box::pin(self.open(*port)),
            Target::Tcp { .. } | Target::Unix(_) => self.inner.fallback.dial(to),
        }
    }
}

impl Inner {
    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    /// Wakes when what is live here has changed.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn bump(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// The cluster's time now, for the next registration.
    fn stamp(&self) -> TunnelStamp {
        let epoch = self.cluster.read(cluster::State::tunnel_epoch).saturating_add(1);
        TunnelStamp { epoch, count: self.registrations.fetch_add(1, Ordering::Relaxed) }
    }
}

/// Asks the session for a work connection and starts it.
pub(super) async fn ask(seat: &Seat, port: u16, attempt: usize) -> Asked {
    let (reply, answer) = oneshot::channel();
    if seat.input.send(Input::User { port, attempt, reply }).await.is_err() {
        return Asked::Lost;
    }
    let (mut work, proxy_name) = match answer.await {
        Ok(Ok(work)) => work,
        Ok(Err(Refused::NoProxy)) | Err(_) => return Asked::Lost,
        Ok(Err(why @ (Refused::TimedOut | Refused::Dead))) => {
            return Asked::Failed(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        Ok(Err(why @ Refused::TooMany)) => return Asked::Failed(io::Error::other(why)),
    };
    // A pooled connection may have ended long ago; what it already sent belongs to the user.
    let early = match peek(&mut work) {
        Poll::Pending => Bytes::new(),
        Poll::Ready(Ok(early)) if !early.is_empty() => early,
        Poll::Ready(_) => return Asked::Stale,
    };
    let start = StartWorkConn {
        proxy_name,
        // As under HaRP, where HAProxy dials frps on the loopback.
        src_addr: "127.0.0.1".into(),
        dst_addr: "127.0.0.1".into(),
        dst_port: port,
        ..StartWorkConn::default()
    };
    let mut bytes = BytesMut::new();
    Codec::new().encode(&Message::StartWorkConn(start), &mut bytes);
    let send = async {
        work.write_all(&bytes).await?;
        work.flush().await
    };
    match timeout(START_WITHIN, send).await {
        Ok(Ok(())) => {
            let work = WorkStream::new(work, seat.users.enter());
            Asked::Started(Stream::new(work).put_back(early))
        }
        _ => Asked::Stale,
    }
}

/// What can be read without waiting; empty at the end.
fn peek(work: &mut Stream) -> Poll<io::Result<Bytes>> {
    let mut byte = [0];
    let mut buf = ReadBuf::new(&mut byte);
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(work).poll_read(&mut cx, &mut buf).map_ok(|()| Bytes::copy_from_slice(buf.filled()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
