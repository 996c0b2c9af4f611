//! What has to happen when a virtual address arrives or leaves, in order and on time.
//! Sans-io: reports and time go in, actions come out; `watch` carries them out.
//!
//! The address itself and its announcements are already out when a report arrives (they belong
//! to the VRRP thread), so tickles may go at once: an answer to a tickle must find the address
//! here, otherwise the client wastes the one answer per 500 ms it is willing to give.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// When tickles are repeated after the first: later than the 500 ms for which Linux suppresses
/// a second answer (`tcp_invalid_ratelimit`).
const REPEATS: [Duration; 2] = [Duration::from_millis(600), Duration::from_millis(1200)];

/// What a virtual router did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It became Active: these addresses are up and announced on this node.
    Arrived(Vec<IpAddr>),
    /// It stopped being Active: these addresses are gone from this node.
    Left(Vec<IpAddr>),
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the clock for tunnels that were registered with the old holder.
    Adopt,
    /// Wake the clients whose connections ended at these addresses on the old holder.
    Tickle(Vec<IpAddr>),
    /// Drop every connection that ends at these addresses without sending a packet: the new
    /// holder answers for them now, and nothing may come back to life when the address returns.
    Abandon(Vec<IpAddr>),
}

/// The machine. One serves all virtual routers of a node.
#[derive(Debug, Default)]
pub struct Takeover {
    actions: VecDeque<Action>,
    repeats: BTreeMap<Instant, Vec<IpAddr>>,
}

impl Takeover {
    /// Takes in what a virtual router did.
    pub fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Arrived(addresses) => {
                self.actions.push_back(Action::Tickle(addresses.clone()));
                self.actions.push_back(Action::Adopt);
                for delay in REPEATS {
                    self.repeats.entry(now + delay).or_default().extend(&addresses);
                }
            }
            Event::Left(addresses) => {
                for waiting in self.repeats.values_mut() {
                    waiting.retain(|address| !addresses.contains(address));
                }
                self.repeats.retain(|_, waiting| !waiting.is_empty());
                self.actions.push_back(Action::Abandon(addresses));
            }
        }
    }

    /// Takes in that `now` has come; does nothing before [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(entry) = self.repeats.first_entry() {
            if *entry.key() > now {
                break;
            }
            self.actions.push_back(Action::Tickle(entry.remove()));
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called. Changes with every `handle`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.repeats.first_key_value().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn drain(machine: &mut Takeover) -> Vec<Action> {
        std::iter::from_fn(|| machine.poll_action()).collect()
    }

    #[test]
    fn a_takeover_tickles_at_once_and_twice_more() {
        let start = Instant::now();
        let mut machine = Takeover::default();
        machine.handle(start, Event::Arrived(vec![vip(1)]));
        assert_eq!(drain(&mut machine), [Action::Tickle(vec![vip(1)]), Action::Adopt]);
        for repeat in REPEATS {
            assert_eq!(machine.poll_timeout(), Some(start + repeat));
            machine.handle_timeout(start + repeat - Duration::from_nanos(1));
            assert_eq!(drain(&mut machine), []);
            machine.handle_timeout(start + repeat);
            assert_eq!(drain(&mut machine), [Action::Tickle(vec![vip(1)])]);
        }
        assert_eq!(machine.poll_timeout(), None);
    }

    #[test]
    fn an_address_that_left_again_is_not_tickled_for() {
        let start = Instant::now();
        let mut machine = Takeover::default();
        machine.handle(start, Event::Arrived(vec![vip(1), vip(2)]));
        drain(&mut machine);
        machine.handle(start, Event::Left(vec![vip(1)]));
        assert_eq!(drain(&mut machine), [Action::Abandon(vec![vip(1)])]);
        machine.handle_timeout(start + REPEATS[1]);
        assert_eq!(
            drain(&mut machine),
            [Action::Tickle(vec![vip(2)]), Action::Tickle(vec![vip(2)])],
            "one late wake-up still carries out both repeats, and only for the address we hold"
        );
        machine.handle(start, Event::Left(vec![vip(2)]));
        assert_eq!(machine.poll_timeout(), None);
    }
}
