//! What has to happen when a virtual address arrives or leaves, in order and on time.
//! Sans-io: reports and time go in, actions come out; `watch` carries them out.
//!
//! The address itself and its announcements are already out when a report arrives (they belong
//! to the VRRP thread), so tickles may go at once: an answer to a tickle must find the address
//! here, otherwise the client wastes the one answer per 500 ms it is willing to give.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::pace::{Orphan, Outcome, Pace};

/// When it is looked again for orphans, after the first look: another node's last words and the
/// log's last entries may arrive later than the address.
const LOOK_AGAIN: [Duration; 6] = [
    Duration::from_millis(150),
    Duration::from_millis(300),
    Duration::from_millis(600),
    Duration::from_millis(1200),
    Duration::from_millis(2500),
    Duration::from_secs(5),
];

/// How long the connections of an address that left are remembered for its next holder, who may
/// be slow to come.
const BURY_AFTER: Duration = Duration::from_secs(60);

/// What a virtual router did, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It became Active: these addresses are up and announced on this node.
    Arrived(Vec<IpAddr>),
    /// It stopped being Active: these addresses are gone from this node.
    Left(Vec<IpAddr>),
    /// The answer to [`Action::Look`].
    Found(Vec<Orphan>),
    /// The answer to [`Action::Wake`].
    Woken(Orphan, Outcome),
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Find the connections that ended at these addresses on other nodes.
    Look(Vec<IpAddr>),
    /// Tickle the client of one of them, unless it is back.
    Wake(Orphan),
    /// Start the clock for tunnels that ended at these addresses on their old holder.
    Adopt(Vec<IpAddr>),
    /// Drop every connection that ends at these addresses without sending a packet: the new
    /// holder answers for them now, and nothing may come back to life when the address returns.
    Abandon(Vec<IpAddr>),
    /// Whoever holds these addresses now knows by now what was abandoned.
    Bury(Vec<IpAddr>),
}

/// The machine. One serves all virtual routers of a node.
#[derive(Debug, Default)]
pub struct Takeover {
    actions: VecDeque<Action>,
    looks: BTreeMap<Instant, Vec<IpAddr>>,
    burials: BTreeMap<Instant, Vec<IpAddr>>,
    pace: Pace,
}

impl Takeover {
    /// Takes in what a virtual router did, or how an action went.
    pub fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Arrived(addresses) => {
                self.pace.forget(&addresses);
                self.actions.push_back(Action::Look(addresses.clone()));
                self.actions.push_back(Action::Adopt(addresses.clone()));
                for delay in LOOK_AGAIN {
                    self.looks.entry(now + delay).or_default().extend(&addresses);
                }
            }
            Event::Left(addresses) => {
                self.pace.forget(&addresses);
                cancel(&mut self.looks, &addresses);
                cancel(&mut self.burials, &addresses);
                self.burials.entry(now + BURY_AFTER).or_default().extend(&addresses);
                self.actions.push_back(Action::Abandon(addresses));
            }
            Event::Found(orphans) => self.pace.add(now, orphans),
            Event::Woken(orphan, outcome) => self.pace.woken(now, orphan, outcome),
        }
        self.settle();
    }

    /// Takes in that `now` has come; does nothing before [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(addresses) = due(&mut self.looks, now) {
            self.actions.push_back(Action::Look(addresses));
        }
        while let Some(addresses) = due(&mut self.burials, now) {
            self.actions.push_back(Action::Bury(addresses));
        }
        self.settle();
    }

    /// The next thing to do, until there is none. Every [`Action::Look`] and [`Action::Wake`] is
    /// answered by an event before the next call.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        self.pace.next(now).map(Action::Wake).or_else(|| self.actions.pop_front())
    }

    /// When [`Self::handle_timeout`] wants to be called. Changes with every `handle`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let look = self.looks.first_key_value().map(|(at, _)| *at);
        let burial = self.burials.first_key_value().map(|(at, _)| *at);
        [look, burial, self.pace.due()].into_iter().flatten().min()
    }

    /// Whether clients are waiting to be woken.
    pub fn is_busy(&self) -> bool {
        self.pace.due().is_some()
    }

    /// What is remembered against doubles is not needed once nothing more will be found.
    fn settle(&mut self) {
        if self.looks.is_empty() && self.actions.is_empty() {
            self.pace.settle();
        }
    }
}

fn cancel(waiting: &mut BTreeMap<Instant, Vec<IpAddr>>, addresses: &[IpAddr]) {
    for waiting in waiting.values_mut() {
        waiting.retain(|address| !addresses.contains(address));
    }
    waiting.retain(|_, waiting| !waiting.is_empty());
}

fn due(waiting: &mut BTreeMap<Instant, Vec<IpAddr>>, now: Instant) -> Option<Vec<IpAddr>> {
    let entry = waiting.first_entry()?;
    (*entry.key() <= now).then(|| entry.remove())
}

#[cfg(test)]
mod tests {
    use super::super::pace::tests::orphan;
    use super::*;

    fn vip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Everything there is to do now; every wake is sent.
    fn drain(machine: &mut Takeover, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(action) = machine.poll_action(now) {
            if let Action::Wake(orphan) = &action {
                machine.handle(now, Event::Woken(orphan.clone(), Outcome::Sent));
            }
            actions.push(action);
        }
        actions
    }

    #[test]
    fn a_takeover_looks_at_once_and_wakes_whom_it_finds_before_anything_else() {
        let start = Instant::now();
        let mut machine = Takeover::default();
        machine.handle(start, Event::Arrived(vec![vip(1)]));
        assert_eq!(machine.poll_action(start), Some(Action::Look(vec![vip(1)])));
        machine.handle(start, Event::Found(vec![orphan(vip(1), 1)]));
        let expected = [Action::Wake(orphan(vip(1), 1)), Action::Adopt(vec![vip(1)])];
        assert_eq!(drain(&mut machine, start), expected);
        let (mut looks, mut wakes) = (0, 0);
        let mut now = start;
        while let Some(next) = machine.poll_timeout() {
            assert!(next > now, "it waits");
            now = next;
            machine.handle_timeout(now);
            for action in drain(&mut machine, now) {
                match action {
                    Action::Look(_) => {
                        looks += 1;
                        // Found again each time: it is woken by its own clock alone.
                        machine.handle(now, Event::Found(vec![orphan(vip(1), 1)]));
                    }
                    Action::Wake(_) => wakes += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!((looks, wakes), (LOOK_AGAIN.len(), 2));
    }

    #[test]
    fn whom_only_a_later_look_finds_is_woken_too() {
        let start = Instant::now();
        let mut machine = Takeover::default();
        machine.handle(start, Event::Arrived(vec![vip(1)]));
        drain(&mut machine, start);
        let later = start + LOOK_AGAIN[1];
        machine.handle_timeout(later);
        machine.handle(later, Event::Found(vec![orphan(vip(1), 7)]));
        assert!(drain(&mut machine, later).contains(&Action::Wake(orphan(vip(1), 7))));
    }

    #[test]
    fn an_address_that_left_again_is_not_tickled_for_and_its_connections_are_buried_in_time() {
        let start = Instant::now();
        let mut machine = Takeover::default();
        machine.handle(start, Event::Arrived(vec![vip(1), vip(2)]));
        drain(&mut machine, start);
        machine.handle(start, Event::Found(vec![orphan(vip(1), 1), orphan(vip(2), 2)]));
        machine.handle(start, Event::Left(vec![vip(1)]));
        let expected = [Action::Wake(orphan(vip(2), 2)), Action::Abandon(vec![vip(1)])];
        assert_eq!(drain(&mut machine, start), expected);
        let last = start + LOOK_AGAIN[LOOK_AGAIN.len() - 1];
        machine.handle_timeout(last);
        let all = drain(&mut machine, last);
        let looks = all.iter().filter(|action| **action == Action::Look(vec![vip(2)]));
        assert_eq!(looks.count(), LOOK_AGAIN.len(), "only for the address we hold: {all:?}");
        // It comes and leaves once more: the burial waits from the last time on.
        let again = start + Duration::from_secs(50);
        machine.handle(again, Event::Arrived(vec![vip(1)]));
        machine.handle(again, Event::Left(vec![vip(1)]));
        drain(&mut machine, again);
        assert_eq!(machine.poll_timeout(), Some(again + BURY_AFTER));
        machine.handle_timeout(again + BURY_AFTER);
        assert_eq!(drain(&mut machine, again + BURY_AFTER), [Action::Bury(vec![vip(1)])]);
        assert_eq!(machine.poll_timeout(), None);
    }
}
