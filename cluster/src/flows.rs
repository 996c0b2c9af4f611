//! Which client connections end at virtual addresses, on this node and on the others, so that
//! whoever takes an address over can wake their clients. Sans-io.
//!
//! Soft state, not raft's: each node tells the others directly what changed ([`FlowDelta`]), with
//! the control links' regular messages. A node that was not heard for a while, or has started
//! anew, is told everything again. What opens and closes is entered by the rooms that own the
//! connections; `failover` reads the orphans. Own flows live in `local`, those of others in
//! `heard`, what travels between in `delta`; `shared` is how the rooms have one table together.

mod delta;
mod heard;
mod local;
mod pair;
mod shared;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use self::delta::{Applied, FlowDelta, FlowError, MAX_CHANGES, Mark};
use self::heard::Heard;
pub use self::heard::MAX_HEARD;
use self::local::Local;
use self::pair::Pair;
pub use self::shared::{Flows, Recorded};
use crate::record::NodeId;

/// Client connections a node records unless told otherwise.
pub const MAX_CLIENT_FLOWS: usize = 20_000;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FlowKind {
    /// frpc's control connection: woken first, and recorded however many there are.
    Control,
    /// A visitor's, or Nextcloud's.
    Client,
}

/// How far the two directions of a connection had come when it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sequence {
    /// The next number our end would send.
    pub send: u32,
    /// The next number our end expects, which is the only one a reset may have.
    pub receive: u32,
}

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// Our end: a virtual address and a port.
    pub server: SocketAddr,
    /// The other end.
    pub client: SocketAddr,
    /// Whose it is.
    pub kind: FlowKind,
    /// Unknown where the kernel would not tell, and for connections that do not stand still.
    pub sequence: Option<Sequence>,
}

/// How many flows there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// Tunnel clients' connections of this node.
    pub controls: usize,
    /// Other connections of this node.
    pub clients: usize,
    /// Flows of other nodes.
    pub heard: usize,
    /// Client connections that were not recorded because the table was full, since the start.
    pub turned_away: u64,
}

/// The flows of this node and what is known of the others'.
#[derive(Debug)]
pub struct FlowTable {
    local: Local,
    heard: BTreeMap<NodeId, Heard>,
}

impl FlowTable {
    /// An empty table. `epoch` tells this start of the node from every other one of its starts;
    /// `cap` bounds the client flows of this node.
    pub fn new(epoch: u64, cap: usize) -> Self {
        Self { local: Local::new(epoch, cap), heard: BTreeMap::new() }
    }

    /// Enters a connection of this node, or what became known of it since. `false`: there is no
    /// room for further client flows, or it cannot be woken from afar (a link-local client).
    pub fn add(&mut self, flow: Flow) -> bool {
        let usable = !delta::is_link_local(flow.client) && delta::check_flow(&flow).is_ok();
        usable && self.local.add(flow)
    }

    /// A connection of this node has ended.
    pub fn remove(&mut self, server: SocketAddr, client: SocketAddr) {
        self.local.remove(Pair::new(server, client));
    }

    /// How far a connection of this node has come by now, if it is recorded.
    pub fn refresh(&mut self, server: SocketAddr, client: SocketAddr, sequence: Sequence) {
        self.local.refresh(Pair::new(server, client), sequence);
    }

    /// The addresses are about to leave this node: what ends there now is orphaned, whatever
    /// becomes of its sockets here, until somebody has had the time to wake it: [`Self::bury`].
    pub fn leave(&mut self, addresses: &[IpAddr]) {
        self.local.leave(|server| addresses.contains(&server));
    }

    /// Removes what was left behind at these addresses.
    pub fn bury(&mut self, addresses: &[IpAddr]) {
        self.local.bury(|server| addresses.contains(&server));
    }

    /// The flows of this node.
    pub fn own(&self) -> impl Iterator<Item = Flow> {
        self.local.flows()
    }

    /// What somebody who knows this table up to `since` is to be told next, at most
    /// [`MAX_CHANGES`] changes at a time; `None` when there is nothing to tell. `since` is what
    /// [`Self::mark_of`] says there, or [`FlowDelta::end`] of the delta before. Whoever knows
    /// nothing, or too little, is told everything from the start.
    pub fn delta_since(&self, since: Mark) -> Option<FlowDelta> {
        self.local.delta_since(since)
    }

    /// How much is known of another node's table; the default for a stranger.
    pub fn mark_of(&self, node: NodeId) -> Mark {
        self.heard.get(&node).map(Heard::mark).unwrap_or_default()
    }

    /// Takes in what a node said about its flows. A delta may be lost or come twice: what does
    /// not fit is left out, and [`Self::mark_of`] says from where on the node has to tell again.
    ///
    /// # Errors
    /// A delta no honest node makes; nothing of it is taken in.
    pub fn apply(&mut self, node: NodeId, delta: &FlowDelta) -> Result<Applied, FlowError> {
        delta.check()?;
        self.heard.entry(node).or_default().apply(delta)
    }

    /// The flows of another node.
    pub fn of_node(&self, node: NodeId) -> impl Iterator<Item = Flow> {
        self.heard.get(&node).into_iter().flat_map(Heard::flows)
    }

    /// A node is gone for good, or its flows are: nothing is known of it any more.
    pub fn forget(&mut self, node: NodeId) {
        self.heard.remove(&node);
    }

    /// The flows of all other nodes that ended at one of `addresses`, and those left behind there
    /// when this node lost them: each once, without those that are open here, tunnel clients
    /// first.
    pub fn orphans(&self, addresses: &[IpAddr]) -> Vec<Flow> {
        let mut orphans = HashMap::new();
        let heard = self.heard.values().flat_map(Heard::flows);
        for flow in heard.chain(self.local.left()) {
            let pair = Pair::new(flow.server, flow.client);
            if addresses.contains(&flow.server.ip()) && !self.local.holds(&pair) {
                orphans.insert(pair, flow);
            }
        }
        let mut orphans: Vec<_> = orphans.into_values().collect();
        orphans.sort_unstable_by_key(|flow| (flow.kind, flow.client));
        orphans
    }

    /// Whether a connection is open here now.
    pub fn is_open(&self, server: SocketAddr, client: SocketAddr) -> bool {
        self.local.holds(&Pair::new(server, client))
    }

    /// How many there are.
    pub fn counts(&self) -> FlowCounts {
        let heard = self.heard.values().map(Heard::len).sum();
        FlowCounts { heard, ..self.local.counts() }
    }
}
