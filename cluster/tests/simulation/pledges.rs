//! Bans that only ever get longer, set by everybody on the same few subnets. What was confirmed
//! has to be there in the end, whatever forked and merged, and none may end earlier.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use cluster::State;
use cluster::record::{Ban, Millis, NodeId, Subnet};

use crate::site::epoch;

/// Subnets everybody bans.
pub(crate) const SUBNETS: u64 = 8;

/// How long a proposal nobody waits for any more may still be on its way.
const LINGER: Duration = Duration::from_secs(10);

/// Ends of these bans, far beyond any clock of a run.
const FAR: Millis = 100 * 86_400_000;

/// All bans of a run.
#[derive(Default)]
pub(crate) struct Pledges {
    made: Vec<Pledge>,
}

struct Pledge {
    subnet: u64,
    called: Duration,
    /// From then on it cannot come after anything that is called.
    over: Duration,
    confirmed: Option<Confirmed>,
}

/// A change that was confirmed.
#[derive(Clone, Copy)]
struct Confirmed {
    at: Duration,
    /// The pair said all the while that both nodes have what it confirms.
    is_sync: bool,
}

/// Every ban ends a millisecond after all that were begun before.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(usize);

impl Pledges {
    /// A ban to propose.
    pub(crate) fn make(&mut self, subnet: u64, now: Duration) -> Ticket {
        self.made.push(Pledge { subnet, called: now, over: Duration::MAX, confirmed: None });
        Ticket(self.made.len() - 1)
    }

    /// What `ticket` stands for.
    pub(crate) fn ban(&self, ticket: Ticket, node: NodeId, since: Millis) -> Ban {
        let until = Some(epoch() + FAR + ticket.0 as u64);
        let subnet = subnet(self.made[ticket.0].subnet);
        Ban { subnet, since, until, node, reason: String::new() }
    }

    /// It was confirmed, or not.
    pub(crate) fn answer(&mut self, ticket: Ticket, now: Duration, confirmed: bool) {
        let pledge = &mut self.made[ticket.0];
        pledge.over = if confirmed { now } else { now + LINGER };
        pledge.confirmed = confirmed.then_some(Confirmed { at: now, is_sync: true });
    }

    /// Somebody who confirms has not been known to be sync since a moment ago.
    pub(crate) fn not_sync(&mut self, now: Duration) {
        let moment = Duration::from_millis(50);
        for pledge in self.made.iter_mut().rev().take(64) {
            if let Some(confirmed) = &mut pledge.confirmed
                && now <= confirmed.at + moment
            {
                confirmed.is_sync = false;
            }
        }
    }

    /// Whether the state of the end has all of it; with `one_died` only what both had counts.
    pub(crate) fn check(&self, state: &State, one_died: bool) -> Result<(), String> {
        let ends: BTreeMap<_, _> = state.bans().map(|ban| (ban.subnet, ban.until)).collect();
        for (at, pledge) in self.made.iter().enumerate() {
            let counts = |confirmed: Confirmed| confirmed.is_sync || !one_died;
            if !pledge.confirmed.is_some_and(counts) {
                continue;
            }
            // A shorter one that was under way may come later and, as an admin's word, shorten it.
            let shorter = self.made[..at].iter().filter(|other| other.subnet == pledge.subnet);
            if shorter.clone().any(|other| other.over >= pledge.called) {
                continue;
            }
            let end = epoch() + FAR + at as u64;
            match ends.get(&subnet(pledge.subnet)) {
                Some(Some(until)) if *until >= end => {}
                found => {
                    let found = found.copied().flatten().map(|until| until - epoch() - FAR);
                    return Err(format!(
                        "ban {at} of subnet {} was confirmed, ban {found:?} stands there",
                        pledge.subnet
                    ));
                }
            }
        }
        Ok(())
    }
}

fn subnet(which: u64) -> Subnet {
    Subnet::of(Ipv4Addr::new(10, 200, 0, u8::try_from(which).unwrap()).into())
}
