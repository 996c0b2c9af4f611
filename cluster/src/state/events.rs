//! What happened lately in the whole cluster, in one order. Sans-io.
//!
//! An event is known by its node and that node's own number, so the same one may be told again. A
//! ring: the newest [`MAX_EVENTS`] are kept, whatever is told.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::{State, table};
use crate::command::Reply;
use crate::record::{Event, MAX_EVENTS};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Events {
    /// Events there ever were; the number of the newest one.
    told: u64,
    #[serde(deserialize_with = "table::read")]
    ring: OrdMap<u64, Arc<Event>>,
}

impl Events {
    /// Keeps it, unless it is known or not sound.
    pub(super) fn tell(&mut self, event: &Event) -> bool {
        if !event.is_sound() || self.knows(event) {
            return false;
        }
        self.told = self.told.saturating_add(1);
        self.ring.insert(self.told, Arc::new(event.clone()));
        while self.ring.len() > MAX_EVENTS {
            let Some(oldest) = self.ring.get_min().map(|(seq, _)| *seq) else { break };
            self.ring.remove(&oldest);
        }
        true
    }

    /// Those after the one numbered `seq`, the oldest first.
    pub(super) fn after(&self, seq: u64) -> impl DoubleEndedIterator<Item = (u64, &Arc<Event>)> {
        self.ring.range(seq.saturating_add(1)..).map(|(seq, event)| (*seq, event))
    }

    /// Whether it would be new here and is not older than everything that is kept.
    pub(super) fn lacks(&self, event: &Event) -> bool {
        let is_full = self.ring.len() >= MAX_EVENTS;
        let is_old = is_full && self.ring.values().all(|known| known.at > event.at);
        !is_old && !self.knows(event)
    }

    fn knows(&self, event: &Event) -> bool {
        self.ring.values().any(|known| (known.node, known.id) == (event.node, event.id))
    }
}

impl State {
    /// What happened after the event numbered `seq`, the oldest first, each with its number. At
    /// most [`MAX_EVENTS`] are remembered; numbers only rise, but a node that comes back from a fork
    /// goes on with those of the others.
    pub fn events(&self, seq: u64) -> impl DoubleEndedIterator<Item = (u64, &Arc<Event>)> {
        self.events.after(seq)
    }

    pub(super) fn happened(&mut self, events: &[Event]) -> Reply {
        let told = events.iter().filter(|event| self.events.tell(event)).count();
        super::done_if(told > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(node: u64, id: u64) -> Event {
        let (kind, text) = ("test".to_owned(), format!("{node} {id}"));
        Event { node, id, at: id, kind, text, outage_ms: Some(7) }
    }

    fn kept(events: &Events, after: u64) -> Vec<(u64, u64, u64)> {
        events.after(after).map(|(seq, event)| (seq, event.node, event.id)).collect()
    }

    #[test]
    fn events_are_kept_once_in_the_order_they_were_told_and_asked_for_by_number() {
        let mut events = Events::default();
        for (node, id, is_new) in [(1, 7, true), (2, 7, true), (1, 7, false), (1, 6, true)] {
            assert_eq!(events.tell(&event(node, id)), is_new, "{node} {id}");
        }
        assert!(!events.tell(&Event { kind: "No Word".into(), ..event(3, 1) }), "not sound");
        assert_eq!(kept(&events, 0), [(1, 1, 7), (2, 2, 7), (3, 1, 6)]);
        assert_eq!(kept(&events, 2), [(3, 1, 6)]);
        assert_eq!(kept(&events, u64::MAX), []);
    }

    #[test]
    fn the_ring_has_its_limit_and_old_news_are_no_news() {
        let mut events = Events::default();
        for id in 0..700 {
            events.tell(&event(1, id));
        }
        assert_eq!(events.ring.len(), MAX_EVENTS);
        assert_eq!(kept(&events, 0).first(), Some(&(201, 1, 200)));
        assert!(!events.lacks(&event(1, 100)), "older than all that is kept");
        assert!(!events.lacks(&event(1, 300)), "known");
        assert!(events.lacks(&event(2, 300)));
    }
}
