//! The words of a virtual router: the states it knows, the events it is told, the actions it asks
//! for, and the reasons it gives. What follows from what stands in `router/`. Sans-io.

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    config::{Priority, RouterConfig},
    group::Order,
    packet::Advertisement,
    tracking::{Cause, Tracked},
};

/// The states of RFC 9568 section 6.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not taking part: stopped, or in fault.
    Initialize,
    /// Watching the Active.
    Backup,
    /// Holding the virtual addresses.
    Active,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initialize => "initialize",
            Self::Backup => "backup",
            Self::Active => "active",
        })
    }
}

/// What a virtual router is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The link is usable and `source` is our primary address on it. While already running it
    /// only changes the source.
    Startup {
        /// Source of our advertisements; decides ties (section 6.4.3).
        source: IpAddr,
    },
    /// Stop: say goodbye and give the addresses back.
    Shutdown,
    /// The link or our source address is gone; nothing can be sent any more.
    LinkDown,
    /// A sound advertisement of this virtual router arrived.
    Advertisement {
        /// Who sent it.
        source: IpAddr,
        /// What it says.
        advertisement: Advertisement,
    },
    /// The base priority changes at run time.
    SetPriority(Priority),
    /// A fault appears or is gone. While there is any the router takes no part.
    SetFault {
        /// Whose fault it is; a router may have several.
        cause: &'static str,
        /// Whether there is one.
        present: bool,
    },
    /// A tracked thing is in a new state.
    Track {
        /// The name of the tracker.
        tracker: Arc<str>,
        /// How it is.
        seen: Tracked,
    },
    /// What the sync group asks of this member.
    Group(Order),
    /// The router may (not) become Active; an Active without permission yields at once.
    SetPermission(bool),
    /// Somebody else took a virtual address off the interface, or its MAC address changed.
    AddressLost,
    /// The answer to [`Action::Consult`].
    Opinion(Opinion),
    /// [`Action::AddAddresses`] failed. An Active without address would keep the others from
    /// serving it.
    AddressRefused,
}

/// What a second source of news says about an Active that has fallen silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// Nothing speaks against taking over.
    Claim,
    /// The Active is known to be well, only its advertisements do not arrive.
    Hold {
        /// When to ask again.
        until: Instant,
        /// What is known, for the log and the status.
        why: &'static str,
    },
}

/// What the shell has to do, in the order in which it is polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this advertisement.
    Send(Advertisement),
    /// Put the virtual addresses on the interface; a failure is [`Event::AddressRefused`].
    AddAddresses,
    /// Renew the lease of the virtual addresses; after a failure the next renewal tries again.
    RenewAddresses,
    /// Take the virtual addresses off the interface.
    RemoveAddresses,
    /// Ask for a second opinion and answer with [`Event::Opinion`] at once.
    Consult,
    /// Send gratuitous ARP for every virtual address.
    Announce,
    /// Tell the owner of the speaker; all actions of the transition came before.
    Report(Transition),
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state left.
    pub from: State,
    /// The state entered.
    pub to: State,
    /// Why.
    pub reason: Reason,
}

/// Why a router changed its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The link came up, or the speaker was started on a link that was up.
    Started,
    /// Nothing was heard from the Active for Active_Down_Interval.
    ActiveSilent,
    /// The Active said that it stops (priority 0).
    ActiveLeft,
    /// A lower priority was Active and well, and we preempt.
    Preempting {
        /// Its address.
        source: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// The Active had been gone before; only the permission was missing.
    PermissionGranted,
    /// Permission was withdrawn from an Active.
    PermissionWithdrawn,
    /// Another router is Active with more right.
    BetterAdvertisement {
        /// Its address.
        source: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// We had been asleep, somebody took over meanwhile, and it is not ours to take back at once.
    Overslept,
    /// The system refused to add a virtual address.
    AddressRefused,
    /// Somebody else kept taking the virtual address off the interface.
    AddressContested,
    /// A fault appeared.
    Fault(Cause),
    /// The last fault is gone.
    Recovered,
    /// Another member of the sync group changed its state.
    SyncGroup,
    /// The link or our source address went away.
    LinkDown,
    /// The speaker was stopped.
    Shutdown,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("link is up"),
            Self::ActiveSilent => f.write_str("no advertisement from the active"),
            Self::ActiveLeft => f.write_str("the active stopped"),
            Self::Preempting { source, priority } => {
                write!(f, "{source} has the lower priority {priority}")
            }
            Self::PermissionGranted => f.write_str("permission granted"),
            Self::PermissionWithdrawn => f.write_str("permission withdrawn"),
            Self::BetterAdvertisement { source, priority } => {
                write!(f, "{source} advertises priority {priority}")
            }
            Self::Overslept => f.write_str("this node was suspended and another took over"),
            Self::AddressRefused => f.write_str("the virtual address could not be added"),
            Self::AddressContested => {
                f.write_str("the virtual address was removed again and again by someone else")
            }
            Self::Fault(cause) => write!(f, "fault: {cause}"),
            Self::Recovered => f.write_str("no fault any more"),
            Self::SyncGroup => f.write_str("moved with its sync group"),
            Self::LinkDown => f.write_str("link is down"),
            Self::Shutdown => f.write_str("stopped"),
        }
    }
}

/// Oddities in sound advertisements: no reason to refuse them, but worth a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anomalies {
    /// Advertisements from our own source address: a looping switch, or a duplicate host address.
    pub own_source: u64,
    /// The sender advertises at another interval than ours (legal, section 7.1).
    pub interval_mismatch: u64,
    /// The sender protects other addresses: a stranger may be using our VRID.
    pub address_mismatch: u64,
}

impl Anomalies {
    /// Counts what is odd about an advertisement that a router at `own_source` received.
    pub(crate) fn note(
        &mut self,
        config: &RouterConfig,
        own_source: Option<IpAddr>,
        source: IpAddr,
        advertisement: &Advertisement,
    ) {
        if Some(source) == own_source {
            self.own_source = self.own_source.saturating_add(1);
            return;
        }
        if advertisement.interval != config.interval() {
            self.interval_mismatch = self.interval_mismatch.saturating_add(1);
        }
        let same = |address: &IpAddr| config.addresses().contains(address);
        if advertisement.addresses.len() != config.addresses().len()
            || !advertisement.addresses.iter().all(same)
        {
            self.address_mismatch = self.address_mismatch.saturating_add(1);
        }
    }
}

/// The Active this router follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its primary address.
    pub source: IpAddr,
    /// Its priority as last advertised.
    pub priority: u8,
}

/// How often the process was late, so late that others had reason to act (see `router/`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// How often.
    pub times: u64,
    /// The longest delay of a timer.
    pub longest: Duration,
}

impl Lateness {
    pub(crate) fn note(&mut self, late: Duration) {
        self.times = self.times.saturating_add(1);
        self.longest = self.longest.max(late);
    }
}
