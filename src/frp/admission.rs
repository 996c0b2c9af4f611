//! How many connections that have not proved anything yet are worked on, in all and per address.
//!
//! A takeover brings every client at once, often from one address behind NAT: the surplus waits
//! for its turn, holding a socket and nothing else. Only what exceeds [`MAX_WAITING`] is closed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use cluster::record::ban_key;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections accepted and not yet logged in.
const MAX_WAITING: usize = 4096;

/// Of those, the ones being worked on: each may hold buffers and a TLS handshake.
const MAX_ACTIVE: usize = 512;

/// Of those, the ones of one address (IPv6: one /64).
const MAX_PER_ADDRESS: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Admission {
    waiting: Arc<Semaphore>,
    active: Arc<Semaphore>,
    by_address: Arc<Mutex<HashMap<IpAddr, Arc<Semaphore>>>>,
}

/// A place in the queue; given back on drop.
#[derive(Debug)]
pub(super) struct Ticket {
    _waiting: OwnedSemaphorePermit,
    address: IpAddr,
    admission: Admission,
    /// Counts the tickets of the address; `None` only while being dropped.
    own: Option<Arc<Semaphore>>,
}

/// The right to be worked on; given back on drop, before the ticket looks whether it was the last.
#[derive(Debug)]
pub(super) struct Turn {
    _active: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _ticket: Ticket,
}

impl Admission {
    pub(super) fn new() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            active: Arc::new(Semaphore::new(MAX_ACTIVE)),
            by_address: Arc::default(),
        }
    }

    /// A place for a new connection, or `None` when too many have not proved anything.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Ticket> {
        let waiting = self.waiting.clone().try_acquire_owned().ok()?;
        let address = ban_key(address);
        let mut table = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let own = table
            .entry(address)
            .or_insert_with(|| Arc::new(Semaphore::new(MAX_PER_ADDRESS)))
            .clone();
        drop(table);
        Some(Ticket { _waiting: waiting, address, admission: self.clone(), own: Some(own) })
    }
}

impl Ticket {
    /// Waits for its turn; first come, first served.
    pub(super) async fn turn(self) -> Option<Turn> {
        let own = self.own.clone()?.acquire_owned().await.ok()?;
        let active = self.admission.active.clone().acquire_owned().await.ok()?;
        Some(Turn { _active: active, _own: own, _ticket: self })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = self.admission.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        self.own = None;
        // The one that is left is the table's own.
        if table.get(&self.address).is_some_and(|own| Arc::strong_count(own) == 1) {
            table.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_cannot_use_up_the_turns_and_leaves_no_trace() {
        let admission = Admission::new();
        let (noisy, quiet) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut turns = Vec::new();
        for _ in 0..MAX_PER_ADDRESS {
            turns.push(admission.admit(noisy).unwrap().turn().await.unwrap());
        }
        let next = tokio::spawn(admission.admit(noisy).unwrap().turn());
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        turns.push(admission.admit(quiet).unwrap().turn().await.unwrap());
        turns.remove(0);
        drop(next.await.unwrap().unwrap());
        turns.clear();
        assert!(admission.by_address.lock().unwrap().is_empty());
    }

    #[test]
    fn the_queue_is_bounded() {
        let admission = Admission::new();
        let address = |n: u32| IpAddr::V4(n.into());
        let held: Vec<_> = (0..5000).filter_map(|n| admission.admit(address(n))).collect();
        assert_eq!(held.len(), MAX_WAITING);
    }
}
