//! What a speaker tells the outside: a [`Report`] at each change of state, and a [`RouterStatus`]
//! for whoever asks.
//!
//! The thread of the speaker never waits for a reader: it publishes only when nobody is reading
//! at that instant, else a moment later.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::{
    announce::Mac,
    checksum::ChecksumForm,
    error::PacketErrors,
    event::{Anomalies, Lateness, Peer, Reason, State},
    packet::Version,
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
    /// The version it speaks.
    pub version: Version,
    /// Where its advertisements come from; `None` while it cannot send.
    pub source: Option<IpAddr>,
    /// Who was heard, the first sixteen of them.
    pub peers: Vec<PeerStatus>,
    /// Sound advertisements received.
    pub adverts_in: u64,
    /// Advertisements sent; one to several unicast peers counts once.
    pub adverts_out: u64,
    /// Of those received over IPv4 in version 3: with the checksum keepalived uses.
    pub adverts_with_pseudo_header: u64,
    /// The same: with the checksum of RFC 9568.
    pub adverts_message_only: u64,
    /// Advertisements and ARP frames the kernel refused to send.
    pub send_errors: u64,
    /// Additions and removals of addresses the kernel refused.
    pub address_errors: u64,
    /// How often the thread was late.
    pub late: Lateness,
    /// How often somebody else took an address off the interface; each time it was put back.
    pub removals: u64,
    /// How often another host was seen to have one of the addresses while we had it by rights.
    pub duplicates: u64,
    /// The MAC address of that host.
    pub duplicate: Option<Mac>,
    /// An address that somebody else put on the interface of this host although the virtual router
    /// is not Active here.
    pub misplaced: Option<IpAddr>,
    /// Oddities in sound advertisements.
    pub anomalies: Anomalies,
    /// Refused packets on the interface, by kind. Most carry no VRID that could be believed, so
    /// all virtual routers of one speaker show the same counts.
    pub errors: PacketErrors,
    /// Storms of refused packets on the interface that were left to the kernel to drop. What it
    /// drops is not counted.
    pub storms: u64,
    /// Why it entered its state; `None` until the link was up for the first time.
    pub last_reason: Option<Reason>,
}

/// A sender of advertisements that a virtual router listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its address.
    pub source: IpAddr,
    /// Its priority as last advertised; 0: it said goodbye.
    pub priority: u8,
    /// How many of its advertisements were heard.
    pub adverts: u64,
    /// When the last of them came.
    pub last_heard: Instant,
    /// The form of its checksum, where there are two.
    pub checksum: Option<ChecksumForm>,
}

/// The latest status of all virtual routers of a speaker, and a sign that its thread lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board {
    shown: Arc<Mutex<Arc<[RouterStatus]>>>,
    turns: Arc<AtomicU64>,
}

impl Board {
    /// Puts up a new status; false: somebody was reading, try again soon.
    pub(crate) fn try_publish(&self, status: &[RouterStatus]) -> bool {
        let status: Arc<[RouterStatus]> = status.into();
        match self.shown.try_lock() {
            Ok(mut shown) => *shown = status,
            Err(TryLockError::Poisoned(shown)) => *shown.into_inner() = status,
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }

    /// The thread has gone through its loop once more.
    pub(crate) fn count_turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Waits at most for one pointer to be swapped.
    pub(crate) fn read(&self) -> Vec<RouterStatus> {
        let shown = Arc::clone(&self.shown.lock().unwrap_or_else(PoisonError::into_inner));
        shown.to_vec()
    }
}
