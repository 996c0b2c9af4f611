//! Follows the virtual routers: tells their story in the log and carries out the steps of a
//! takeover, so that the rooms below need not know what a takeover is.

use std::net::IpAddr;
use std::time::Instant;

use cluster::Handle;
use cluster::record::Tunnel;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vrrp::{Report, State};

use super::takeover::{Action, Event, Takeover};
use super::tickle::Tickler;
use crate::observe::metrics::metrics;

/// What a takeover does in rooms this one may not know.
pub struct Effects {
    /// Whether this tunnel has its client connected to this node.
    pub is_live: Box<dyn Fn(&Tunnel) -> bool + Send>,
    /// Start the clock for tunnels registered with the old holder.
    pub adopt: Box<dyn Fn() + Send>,
    /// Drop every connection ending at these addresses, silently.
    pub abandon: Abandon,
}

/// See [`Effects::abandon`].
pub type Abandon = Box<dyn Fn(&[IpAddr]) + Send>;

/// The task's inputs and outputs.
pub struct Watch {
    cluster: Handle,
    tickler: Option<Tickler>,
    effects: Effects,
    machine: Takeover,
}

impl Watch {
    /// Prepares the task. Without a raw socket it works too, but orphaned clients then wait for
    /// their own keepalive; the reason is logged once.
    pub fn new(cluster: Handle, effects: Effects) -> Self {
        let tickler = match Tickler::open() {
            Ok(tickler) => Some(tickler),
            Err(error) => {
                tracing::warn!(%error, "no raw socket: clients will not be woken on a takeover");
                None
            }
        };
        Self { cluster, tickler, effects, machine: Takeover::default() }
    }

    /// Runs until `stop`; without a virtual router there is nothing to follow.
    pub async fn run(
        mut self,
        mut reports: mpsc::UnboundedReceiver<Report>,
        stop: CancellationToken,
    ) {
        loop {
            let deadline = self.machine.poll_timeout();
            tokio::select! {
                () = stop.cancelled() => return,
                // Closed when there is no virtual router, or none any more: nothing to take in.
                Some(report) = reports.recv() => self.take_in(&report),
                () = sleep_until(deadline) => self.machine.handle_timeout(Instant::now()),
            }
            while let Some(action) = self.machine.poll_action() {
                self.carry_out(&action);
            }
        }
    }

    fn take_in(&mut self, report: &Report) {
        let Report { name, vrid, from, to, reason, at, .. } = report;
        tracing::info!(
            router = &**name, vrid, state.from = %from, state.to = %to, %reason,
            addresses = ?report.addresses,
            "virtual router changed its state"
        );
        metrics().vrrp_entered(name, &to.to_string());
        let addresses = report.addresses.clone();
        match (from, to) {
            (_, State::Active) => self.machine.handle(*at, Event::Arrived(addresses)),
            (State::Active, _) => self.machine.handle(*at, Event::Left(addresses)),
            _ => {}
        }
    }

    fn carry_out(&self, action: &Action) {
        match action {
            Action::Adopt => (self.effects.adopt)(),
            Action::Abandon(addresses) => (self.effects.abandon)(addresses),
            Action::Tickle(addresses) => self.tickle(addresses),
        }
    }

    fn tickle(&self, addresses: &[IpAddr]) {
        let Some(tickler) = &self.tickler else { return };
        let view = self.cluster.view();
        let orphans = view.tunnels().filter(|tunnel| {
            addresses.contains(&tunnel.server.ip()) && !(self.effects.is_live)(tunnel)
        });
        let mut woken = 0_u32;
        for tunnel in orphans {
            match tickler.tickle(tunnel.server, tunnel.client) {
                Ok(()) => woken += 1,
                Err(error) => tracing::warn!(
                    %error, port = tunnel.port, client.addr = %tunnel.client,
                    "could not wake a tunnel's client"
                ),
            }
        }
        if woken > 0 {
            tracing::info!(tunnels = woken, "woke the clients of orphaned tunnels");
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_virtual_router_it_still_ends_when_told() {
        let dir = tempfile::tempdir().unwrap();
        let (member, handle) =
            cluster::Node::start(cluster::Config::single(1, dir.path())).await.unwrap();
        let effects = Effects {
            is_live: Box::new(|_tunnel| false),
            adopt: Box::new(|| {}),
            abandon: Box::new(|_addresses| {}),
        };
        let (reports, events) = mpsc::unbounded_channel();
        drop(reports);
        let stop = CancellationToken::new();
        let watch = tokio::spawn(Watch::new(handle, effects).run(events, stop.clone()));
        // Time enough to notice that no report will ever come.
        tokio::task::yield_now().await;
        stop.cancel();
        watch.await.unwrap();
        member.shutdown().await;
    }
}
