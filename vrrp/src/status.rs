//! What a speaker tells the outside: a [`Report`] at each change of state, and a [`RouterStatus`]
//! for whoever asks.
//!
//! The thread of the speaker never waits for a reader: it publishes only when nobody is reading
//! at that instant, else a moment later.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, TryLockError},
    time::Instant,
};

use crate::{
    error::PacketErrors,
    event::{Anomalies, Lateness, Peer, Reason, State},
    tracking::{Adjustment, Cause},
};

/// A virtual router changed its state, and everything that belongs to the change is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which virtual router.
    pub name: Arc<str>,
    /// Its number on the wire.
    pub vrid: u8,
    /// The state left.
    pub from: State,
    /// The state entered.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// When: after addresses and announcements.
    pub at: Instant,
    /// The virtual addresses concerned.
    pub addresses: Vec<IpAddr>,
}

/// A virtual router as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterStatus {
    /// Which virtual router.
    pub name: Arc<str>,
    /// The interface it lives on.
    pub interface: Arc<str>,
    /// Its number on the wire.
    pub vrid: u8,
    /// Its virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// Its state.
    pub state: State,
    /// When it entered that state.
    pub since: Instant,
    /// The priority in force.
    pub priority: u8,
    /// The priority before all adjustments.
    pub base_priority: u8,
    /// What lies between the two. The sum is cut to 1 to 254.
    pub adjustments: Vec<Adjustment>,
    /// What keeps it from taking part.
    pub faults: Vec<Cause>,
    /// The sync group it belongs to.
    pub sync_group: Option<Arc<str>>,
    /// Whether it may become Active.
    pub permission: bool,
    /// The Active is gone; only the permission to succeed it is missing.
    pub held: bool,
    /// Why it does not succeed an Active that it does not hear: a second opinion, or its sync group.
    pub hold: Option<&'static str>,
    /// The Active it follows, while in Backup.
    pub peer: Option<Peer>,
    /// Sound advertisements received.
    pub adverts_in: u64,
    /// Advertisements sent.
    pub adverts_out: u64,
    /// Advertisements and ARP frames the kernel refused to send.
    pub send_errors: u64,
    /// Additions and removals of addresses the kernel refused.
    pub address_errors: u64,
    /// How often the thread was late.
    pub late: Lateness,
    /// Oddities in sound advertisements.
    pub anomalies: Anomalies,
    /// Refused packets on the interface, by kind. Most carry no VRID that could be believed, so
    /// all virtual routers of one speaker show the same counts.
    pub errors: PacketErrors,
    /// Why it entered its state; `None` until the link was up for the first time.
    pub last_reason: Option<Reason>,
}

/// The latest status of all virtual routers of a speaker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<Arc<[RouterStatus]>>>);

impl Board {
    /// Puts up a new status; false: somebody was reading, try again soon.
    pub(crate) fn try_publish(&self, status: &[RouterStatus]) -> bool {
        let status: Arc<[RouterStatus]> = status.into();
        match self.0.try_lock() {
            Ok(mut shown) => *shown = status,
            Err(TryLockError::Poisoned(shown)) => *shown.into_inner() = status,
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }

    /// Waits at most for one pointer to be swapped.
    pub(crate) fn read(&self) -> Vec<RouterStatus> {
        let shown = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        shown.to_vec()
    }
}
