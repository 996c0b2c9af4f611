//! Keeps the cluster's registrations in step with what is live here, always in the background: a
//! client is answered at once, quorum or not.

use std::sync::Weak;
use std::time::{Duration, Instant};

use cluster::record::Tunnel;
use cluster::{Command, ProposeError, Reply};
use tokio::time::sleep;

use super::{Inner, lock};

const PROPOSE_WITHIN: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A session that is still there after so long has a living client: one that has gone elsewhere
/// is noticed within the keepalive of its connection (15 s and 10 s).
const PROVEN_ALIVE: Duration = Duration::from_secs(30);

/// Tells the cluster of a registration, for as long as it is the one that is live.
pub(super) async fn register(inner: Weak<Inner>, mut record: Tunnel) {
    loop {
        let cluster = match inner.upgrade() {
            Some(inner) if inner.registry().is_current(&record) => inner.cluster.clone(),
            _ => return,
        };
        let command = Command::TunnelUp(record.clone());
        match settled(cluster.propose(command, PROPOSE_WITHIN).await, record.port) {
            Some(Reply::Nothing) => {
                // Another node has registered it since, as far as this one could know when it
                // made the registration. Either the client went there, and its session here is
                // about to end, or this node lagged behind.
                let (port, proxy) = (record.port, &record.proxy);
                tracing::info!(port, proxy, "tunnel is registered with another node");
                let rival = cluster.read(|state| {
                    state.tunnel(&record.tenant, record.port).map(|rival| rival.server)
                });
                // A virtual address is at one node, and sessions at it end as it leaves: of two
                // that came to the same, the one that is still there is the client's.
                let at_one_address = rival == Some(record.server);
                sleep(if at_one_address { RETRY_AFTER } else { PROVEN_ALIVE }).await;
                let Some(inner) = inner.upgrade() else { return };
                let stamp = inner.stamp();
                let renewed = inner.registry().renew(&record, stamp);
                let Some(renewed) = renewed else { return };
                record = renewed;
            }
            Some(Reply::Full) => {
                let (port, proxy) = (record.port, &record.proxy);
                tracing::warn!(port, proxy, "too many tunnels: only this node knows of this one");
                return;
            }
            Some(_) => return,
            None => sleep(RETRY_AFTER).await,
        }
    }
}

/// Tells the cluster that a tunnel is gone for good, for as long as that is so.
pub(super) async fn forget(inner: Weak<Inner>, record: Tunnel) {
    let key = record.key();
    loop {
        let Some(cluster) = inner.upgrade().map(|inner| inner.cluster.clone()) else { return };
        let known = |state: &cluster::State| {
            state.tunnel(&key.tenant, key.port).is_some_and(|known| **known == record)
        };
        if !cluster.read(known) {
            return;
        }
        if settled(cluster.propose(down(&record), PROPOSE_WITHIN).await, key.port).is_some() {
            return;
        }
        sleep(RETRY_AFTER).await;
    }
}

/// Takes this registration back, and no later one.
fn down(record: &Tunnel) -> Command {
    let Tunnel { tenant, port, node, stamp, .. } = record.clone();
    Command::TunnelDown { tenant, port, node, stamp }
}

/// The answer, if there is one or never will be.
fn settled(outcome: Result<Reply, ProposeError>, port: u16) -> Option<Reply> {
    match outcome {
        Ok(reply) => Some(reply),
        Err(ProposeError::Stopped) => Some(Reply::Done),
        Err(error) => {
            tracing::debug!(port, %error, "tunnel registration waits for the cluster");
            None
        }
    }
}

/// Forgets the tunnels whose client did not come back anywhere.
pub(super) async fn forget_lost(inner: Weak<Inner>) {
    let (mut changed, mut changes) = match inner.upgrade() {
        Some(inner) => (inner.changed.subscribe(), inner.cluster.changes()),
        None => return,
    };
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let (lost, next) = {
            let view = strong.cluster.view();
            let registry = strong.registry();
            let mut absence = lock(&strong.absence);
            let records = view.tunnels().map(|record| &**record);
            let lost = absence.review(Instant::now(), records, |key| registry.is_live(key));
            (lost, absence.next())
        };
        drop(strong);
        let mut retry = None;
        for record in lost {
            let Some(strong) = inner.upgrade() else { return };
            let (key, port) = (record.key(), record.port);
            // Without a quorum the ones before took their time: it may be back by now.
            if strong.registry().is_live(&key) {
                continue;
            }
            let outcome = strong.cluster.propose(down(&record), PROPOSE_WITHIN).await;
            if settled(outcome, port).is_some() {
                tracing::info!(port, proxy = record.proxy, "tunnel forgotten: its client is lost");
            } else {
                retry = Some(Instant::now() + RETRY_AFTER);
            }
        }
        let wake = async {
            match retry.or(next) {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wake => {}
            open = changed.changed() => if open.is_err() { return },
            open = changes.changed() => if open.is_err() { return },
        }
    }
}
