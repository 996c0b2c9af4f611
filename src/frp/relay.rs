//! Tunnels that end at another node of the cluster: a request that reaches this one is carried
//! there over a stream of the control link, one hop and no further.
//!
//! Happens with two virtual addresses, during a drain, and for clients that dial a node's own
//! address. The stream itself is `cluster::relay`'s business, the waiting that of `tunnels.rs`.
//!
//! A stream ends once its tunnel has come to another node. The one it leads to may be dead, which
//! TCP notices only after seconds; who kept the stream for the next request would wait for that.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cluster::NodeId;
use cluster::record::{Tunnel, TunnelKey};
use cluster::relay::{RelayError, RelayRefusal, Relayed};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep_until;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::tunnels::{self, Inner};
use crate::net::Stream;
use crate::observe::metrics::metrics;

/// Before the same node is asked for the same registration again.
const AGAIN: Duration = Duration::from_millis(250);

/// A node that is asked gets this long even when no request may wait for an absent tunnel.
const LEAST: Duration = Duration::from_secs(1);

/// The last question of one request.
#[derive(Debug, Default)]
pub(super) struct Asked {
    last: Option<(Tunnel, Instant)>,
}

impl Asked {
    /// Whether the node that holds the tunnel is to be asked now: it is another one, and was not
    /// asked a moment ago.
    pub(super) fn is_due(&self, record: &Tunnel, me: NodeId) -> bool {
        let just_now = |(asked, at): &(Tunnel, Instant)| asked == record && at.elapsed() < AGAIN;
        record.node != me && !self.last.as_ref().is_some_and(just_now)
    }

    /// It was asked and has no such tunnel, or does not answer.
    pub(super) fn answered(&mut self, record: &Tunnel) {
        self.last = Some((record.clone(), Instant::now()));
    }

    /// When to ask the same node once more.
    pub(super) async fn again(&self) {
        match &self.last {
            Some((_, at)) => sleep_until((*at + AGAIN).into()).await,
            None => std::future::pending().await,
        }
    }
}

/// Where streams of this node lead, and what ends them.
#[derive(Debug, Default)]
pub(super) struct Ways(Mutex<BTreeMap<(TunnelKey, NodeId), CancellationToken>>);

impl Ways {
    /// Ends the streams that go this way.
    fn end_of(&self, record: &Tunnel) -> CancellationToken {
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ways.entry((record.key(), record.node)).or_default().clone()
    }

    /// Ends streams whose way does not lead to the tunnel any more.
    fn review(&self, leads: impl Fn(&TunnelKey, NodeId) -> bool) {
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ways.retain(|(key, node), end| {
            let leads = leads(key, *node);
            if !leads {
                end.cancel();
            }
            leads
        });
    }
}

/// A stream to a tunnel of another node, until the tunnel has moved.
struct Way {
    stream: Relayed,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl AsyncRead for Way {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // What has arrived is still worth reading.
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Pending => self.end.as_mut().poll(cx).map(|()| {
                Err(io::Error::new(io::ErrorKind::ConnectionReset, "the tunnel has moved"))
            }),
            ready => ready,
        }
    }
}

impl AsyncWrite for Way {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A stream to the tunnel on the node that has registered it; none if it is not there, or that
/// node is not. The error is what a user of the tunnel would get there.
pub(super) async fn reach(
    inner: &Inner,
    record: &Tunnel,
    within: Duration,
) -> io::Result<Option<Stream>> {
    let end = inner.ways.end_of(record);
    let cluster = &inner.cluster;
    let relayed = cluster.relay(record.node, &record.key(), within.max(LEAST)).await;
    metrics().relayed(
        "asked",
        match &relayed {
            Ok(_) => "opened",
            Err(RelayError::Unreachable { .. }) => "unreachable",
            Err(RelayError::Refused(refusal)) => word(*refusal),
        },
    );
    match relayed {
        Ok(stream) => Ok(Some(Stream::new(Way { stream, end: Box::pin(end.cancelled_owned()) }))),
        Err(RelayError::Refused(refusal @ RelayRefusal::TimedOut)) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, refusal))
        }
        Err(RelayError::Refused(refusal @ (RelayRefusal::Busy | RelayRefusal::Failed))) => {
            Err(io::Error::other(refusal))
        }
        Err(error) => {
            let (port, node) = (record.port, record.node);
            let error = &error as &dyn std::error::Error;
            tracing::debug!(port, node, error, "no relay to the node that holds the tunnel");
            Ok(None)
        }
    }
}

/// Opens tunnels of this node for the others from now on, and watches over the streams to theirs.
pub(super) fn serve(inner: &Arc<Inner>) {
    tokio::spawn(watch(Arc::downgrade(inner)));
    let (cluster, inner) = (inner.cluster.clone(), Arc::downgrade(inner));
    cluster.on_relay(Arc::new(move |key| {
        let inner = Weak::clone(&inner);
        Box::pin(async move {
            let opened = open(&inner, &key).await;
            let outcome = opened.as_ref().map_or_else(|refusal| word(*refusal), |_| "opened");
            metrics().relayed("served", outcome);
            opened
        })
    }));
}

/// Ends streams whose tunnel has moved, for as long as there are tunnels.
async fn watch(inner: Weak<Inner>) {
    let (mut here, mut anywhere) = match inner.upgrade() {
        Some(inner) => (inner.changes(), inner.cluster.changes()),
        None => return,
    };
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let view = strong.cluster.view();
        strong.ways.review(|key, node| {
            // A client that came here is known before the cluster can record it.
            let record = view.tunnel(&key.tenant, key.port);
            record.is_some_and(|record| record.node == node) && !strong.registry().is_live(key)
        });
        drop((strong, view));
        tokio::select! {
            open = here.changed() => if open.is_err() { return },
            open = anywhere.changed() => if open.is_err() { return },
        }
    }
}

/// A tunnel that ends here; never one of another node, or a stale registration could send a
/// request round in circles.
async fn open(inner: &Weak<Inner>, key: &TunnelKey) -> Result<Relayed, RelayRefusal> {
    let mut attempt = 0;
    loop {
        let inner = inner.upgrade().ok_or(RelayRefusal::NotHere)?;
        let seat = inner.registry().by_port(key).cloned().ok_or(RelayRefusal::NotHere)?;
        drop(inner);
        match tunnels::ask(&seat, key.port, attempt).await {
            tunnels::Asked::Started(stream) => return Ok(Box::new(stream)),
            tunnels::Asked::Stale => attempt += 1,
            tunnels::Asked::Lost => return Err(RelayRefusal::NotHere),
            tunnels::Asked::Failed(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(RelayRefusal::TimedOut);
            }
            tunnels::Asked::Failed(_) => return Err(RelayRefusal::Failed),
        }
    }
}

fn word(refusal: RelayRefusal) -> &'static str {
    match refusal {
        RelayRefusal::NotHere => "not_here",
        RelayRefusal::Busy => "busy",
        RelayRefusal::TimedOut => "timeout",
        RelayRefusal::Failed => "failed",
    }
}
