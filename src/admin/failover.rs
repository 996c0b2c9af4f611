//! `trigon failover`: virtual addresses move to another node on purpose.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The order of `POST /failover`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Order {
    /// Name or number of the node that is to hold them; the next in line when missing.
    pub to: Option<String>,
    /// Only the virtual router with this address. When missing: those this node is Active for, or,
    /// if it is for none, those of the others.
    pub address: Option<IpAddr>,
    /// Also to a node that is not ready.
    pub force: bool,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// What moved; empty when everything was where it should be.
    pub moves: Vec<Move>,
}

/// A virtual router that another node is Active for now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Name of the node that gave them away.
    pub from: String,
    /// Name of the node that holds them.
    pub to: String,
    /// Milliseconds until the one heard that the other is Active.
    pub took_ms: u64,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.moves.is_empty() {
            return f.write_str("nothing to move: that node holds the addresses");
        }
        for Move { addresses, from, to, took_ms } in &self.moves {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            writeln!(f, "{}: from {from} to {to} in {took_ms} ms", addresses.join(" "))?;
        }
        Ok(())
    }
}
