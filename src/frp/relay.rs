//! Tunnels that end at another node of the cluster: a request that reaches this one is carried
//! there over a stream of the control link, one hop and no further.
//!
//! Happens with two virtual addresses, during a drain, and for clients that dial a node's own
//! address. The stream itself is `cluster::relay`'s business, the waiting that of `tunnels.rs`.

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use cluster::record::{Tunnel, TunnelKey};
use cluster::relay::{RelayError, RelayRefusal, Relayed};
use cluster::{Handle, NodeId};
use tokio::time::sleep_until;

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

/// A stream to the tunnel on the node that has registered it; none if it is not there, or that
/// node is not. The error is what a user of the tunnel would get there.
pub(super) async fn reach(
    cluster: &Handle,
    record: &Tunnel,
    within: Duration,
) -> io::Result<Option<Stream>> {
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
        Ok(stream) => Ok(Some(Stream::new(stream))),
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

/// Opens tunnels of this node for the others from now on.
pub(super) fn serve(inner: &Arc<Inner>) {
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
