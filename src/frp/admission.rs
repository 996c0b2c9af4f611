//! How many connections that have not proved anything yet are worked on, in all and per address.
//!
//! A takeover brings every client at once, often from one address behind NAT: the surplus waits
//! for its turn, holding a socket and nothing else. Only what exceeds the queue is closed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cluster::record::ban_key;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections accepted and not yet logged in, silent ones included.
const MAX_WAITING: usize = 4096;

/// Of those, the ones of one address (IPv6: one /64).
const MAX_WAITING_PER_ADDRESS: usize = 1024;

/// Connections being worked on: each may hold buffers and a TLS handshake.
const MAX_ACTIVE: usize = 512;

/// Of those, the ones of one address.
const MAX_ACTIVE_PER_ADDRESS: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Admission {
    active: Arc<Semaphore>,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    waiting: usize,
    by_address: HashMap<IpAddr, Place>,
}

#[derive(Debug)]
struct Place {
    waiting: usize,
    active: Arc<Semaphore>,
}

/// A place in the queue; given back on drop.
#[derive(Debug)]
pub(super) struct Ticket {
    address: IpAddr,
    own: Arc<Semaphore>,
    admission: Admission,
}

/// The right to be worked on; given back on drop.
#[derive(Debug)]
pub(super) struct Turn {
    _active: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _ticket: Ticket,
}

impl Admission {
    pub(super) fn new() -> Self {
        Self { active: Arc::new(Semaphore::new(MAX_ACTIVE)), table: Arc::default() }
    }

    /// A place for a new connection, or `None` when too many have not proved anything.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Ticket> {
        let address = ban_key(address);
        let mut guard = self.table();
        let table = &mut *guard;
        if table.waiting >= MAX_WAITING {
            return None;
        }
        let place = table.by_address.entry(address).or_insert_with(|| Place {
            waiting: 0,
            active: Arc::new(Semaphore::new(MAX_ACTIVE_PER_ADDRESS)),
        });
        if place.waiting >= MAX_WAITING_PER_ADDRESS {
            return None;
        }
        place.waiting += 1;
        table.waiting += 1;
        Some(Ticket { address, own: place.active.clone(), admission: self.clone() })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Waits for its turn; first come, first served.
    pub(super) async fn turn(self) -> Option<Turn> {
        let own = self.own.clone().acquire_owned().await.ok()?;
        let active = self.admission.active.clone().acquire_owned().await.ok()?;
        Some(Turn { _active: active, _own: own, _ticket: self })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = self.admission.table();
        table.waiting -= 1;
        if let Entry::Occupied(mut place) = table.by_address.entry(self.address) {
            place.get_mut().waiting -= 1;
            if place.get().waiting == 0 {
                place.remove();
            }
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
        for _ in 0..MAX_ACTIVE_PER_ADDRESS {
            turns.push(admission.admit(noisy).unwrap().turn().await.unwrap());
        }
        let next = tokio::spawn(admission.admit(noisy).unwrap().turn());
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        turns.push(admission.admit(quiet).unwrap().turn().await.unwrap());
        turns.remove(0);
        drop(next.await.unwrap().unwrap());
        turns.clear();
        assert!(admission.table().by_address.is_empty());
        assert_eq!(admission.table().waiting, 0);
    }

    #[test]
    fn the_queue_is_bounded() {
        let admission = Admission::new();
        let address = |n: u32| IpAddr::V4(n.into());
        let held: Vec<_> = (0..5000).filter_map(|n| admission.admit(address(n))).collect();
        assert_eq!(held.len(), MAX_WAITING);
        drop(held);
        let held: Vec<_> = (0..5000).filter_map(|_| admission.admit(address(1))).collect();
        assert_eq!(held.len(), MAX_WAITING_PER_ADDRESS, "one address leaves room for others");
    }
}
