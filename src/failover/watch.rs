//! Follows the virtual routers: tells their story in the log and carries out the steps of a
//! takeover, so that the rooms below need not know what a takeover is.
//!
//! A thread of its own, not a task: the VRRP thread wakes it directly, and no busy runtime stands
//! between a takeover and the clients that are to hear of it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use cluster::Handle;
use cluster::flows::{Flow, FlowKind};
use cluster::record::TunnelKey;
use vrrp::{Report, State};

use super::pace::{Orphan, Outcome};
use super::recorder::{ROUND, Recorder};
use super::takeover::{Action, Event, Takeover};
use super::tickle::{Tickler, is_no_room};
use crate::observe::metrics::metrics;

/// What a takeover does in rooms this one may not know.
pub struct Effects {
    /// Whether the client of this tunnel is connected to this node.
    pub is_live: Box<dyn Fn(&TunnelKey) -> bool + Send>,
    /// Start the clock for tunnels that ended at these addresses on their old holder.
    pub adopt: OnAddresses,
    /// Drop every connection ending at these addresses, silently.
    pub abandon: OnAddresses,
}

/// Something to do about addresses that came or went.
pub type OnAddresses = Box<dyn Fn(&[IpAddr]) + Send>;

/// What the thread is told.
pub enum Told {
    /// A virtual router has changed its state.
    Report(Report),
    /// The node stops.
    Stop,
}

/// The thread's inputs and outputs.
pub struct Watch {
    cluster: Handle,
    tickler: Option<Tickler>,
    effects: Effects,
    recorder: Recorder,
    machine: Takeover,
}

impl Watch {
    /// Prepares the thread. Without a raw socket it works too, but orphaned clients then wait for
    /// their own keepalive; the reason is logged once.
    pub fn new(cluster: Handle, effects: Effects, recorder: Recorder) -> Self {
        let tickler = match Tickler::open() {
            Ok(tickler) => Some(tickler),
            Err(error) => {
                tracing::warn!(%error, "no raw socket: clients will not be woken on a takeover");
                None
            }
        };
        Self { cluster, tickler, effects, recorder, machine: Takeover::default() }
    }

    /// Runs until it is told to stop. Blocks.
    pub fn run(mut self, told: &Receiver<Told>) {
        let mut round = Instant::now();
        loop {
            let now = Instant::now();
            if now >= round {
                // A new Active has clients to wake, and few connections of its own yet.
                if !self.machine.is_busy() {
                    self.recorder.round();
                }
                round = now + ROUND;
            }
            let deadline = self.machine.poll_timeout().map_or(round, |at| at.min(round));
            let report = match told.recv_timeout(deadline.saturating_duration_since(now)) {
                Ok(Told::Report(report)) => Some(report),
                Ok(Told::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => None,
            };
            match &report {
                Some(report) => self.take_in(report),
                None => self.machine.handle_timeout(Instant::now()),
            }
            self.carry_out();
            if let Some(report) = report {
                tell(&report);
            }
        }
    }

    fn take_in(&mut self, report: &Report) {
        let addresses = report.addresses.clone();
        match (report.from, report.to) {
            (_, State::Active) => self.machine.handle(report.at, Event::Arrived(addresses)),
            (State::Active, _) => self.machine.handle(report.at, Event::Left(addresses)),
            _ => {}
        }
    }

    fn carry_out(&mut self) {
        loop {
            let now = Instant::now();
            let Some(action) = self.machine.poll_action(now) else { return };
            match action {
                Action::Wake(orphan) => {
                    let outcome = self.wake(&orphan);
                    self.machine.handle(now, Event::Woken(orphan, outcome));
                }
                Action::Look(addresses) => {
                    let orphans = self.orphans(&addresses);
                    self.machine.handle(now, Event::Found(orphans));
                }
                Action::Adopt(addresses) => (self.effects.adopt)(&addresses),
                Action::Abandon(addresses) => {
                    self.recorder.last_words(&addresses);
                    self.cluster.flows().lock().leave(&addresses);
                    (self.effects.abandon)(&addresses);
                }
                Action::Bury(addresses) => self.cluster.flows().lock().bury(&addresses),
            }
        }
    }

    /// Every connection that ended at one of `addresses` on another node, as far as the log or
    /// the other node itself has told.
    fn orphans(&self, addresses: &[IpAddr]) -> Vec<Orphan> {
        let mut tunnels: HashMap<(SocketAddr, SocketAddr), Vec<TunnelKey>> = HashMap::new();
        for tunnel in self.cluster.view().tunnels() {
            let ends = (canonical(tunnel.server), canonical(tunnel.client));
            if addresses.contains(&ends.0.ip()) && !(self.effects.is_live)(&tunnel.key()) {
                tunnels.entry(ends).or_default().push(tunnel.key());
            }
        }
        let flows = self.cluster.flows().lock().orphans(addresses);
        let mut orphans: Vec<_> = flows
            .into_iter()
            .map(|flow| {
                let tunnels = tunnels.remove(&(flow.server, flow.client)).unwrap_or_default();
                Orphan { flow, tunnels }
            })
            .collect();
        orphans.extend(tunnels.into_iter().map(|((server, client), tunnels)| {
            let flow = Flow { server, client, kind: FlowKind::Control, sequence: None };
            Orphan { flow, tunnels }
        }));
        if !orphans.is_empty() {
            let controls = orphans.iter().filter(|o| o.flow.kind == FlowKind::Control).count();
            tracing::info!(
                tunnels = controls,
                clients = orphans.len() - controls,
                ?addresses,
                "waking the clients of connections that ended elsewhere"
            );
        }
        orphans
    }

    fn wake(&self, orphan: &Orphan) -> Outcome {
        let Some(tickler) = &self.tickler else { return Outcome::Failed };
        let Flow { server, client, kind, .. } = orphan.flow;
        let is_live = |tunnel| (self.effects.is_live)(tunnel);
        if orphan.tunnels.iter().any(is_live) || self.cluster.flows().lock().is_open(server, client)
        {
            return Outcome::Back;
        }
        let (word, outcome) = match tickler.tickle(&orphan.flow) {
            Ok(()) => ("sent", Outcome::Sent),
            Err(error) if is_no_room(&error) => return Outcome::NoRoom,
            Err(error) => {
                tracing::debug!(%error, client.addr = %client, "could not wake a client");
                ("failed", Outcome::Failed)
            }
        };
        let of = match kind {
            FlowKind::Control => "tunnel",
            FlowKind::Client => "client",
        };
        metrics().tickled(of, word);
        outcome
    }
}

/// IPv4 as IPv4, also on a listener for both families.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn tell(report: &Report) {
    let Report { name, vrid, from, to, reason, .. } = report;
    tracing::info!(
        name: "vrrp_transition",
        router = &**name, vrid, state.from = %from, state.to = %to, %reason,
        addresses = ?report.addresses,
        "virtual router changed its state"
    );
    metrics().vrrp_entered(name, &to.to_string());
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn without_a_virtual_router_it_still_ends_when_told() {
        let handle = Handle::in_memory(1);
        let effects = Effects {
            is_live: Box::new(|_tunnel| false),
            adopt: Box::new(|_addresses| {}),
            abandon: Box::new(|_addresses| {}),
        };
        let recorder = Recorder::new(handle.flows().clone(), Vec::new(), Vec::new());
        let (tell, told) = mpsc::channel();
        let watch = std::thread::spawn(|| Watch::new(handle, effects, recorder).run(&{ told }));
        tell.send(Told::Stop).unwrap();
        watch.join().unwrap();
    }
}
