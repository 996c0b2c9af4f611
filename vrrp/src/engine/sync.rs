//! Keeping the virtual routers of a sync group together.

use std::time::Instant;

use super::Engine;
use crate::{
    event::Event,
    group::{ROUNDS, orders},
};

impl Engine {
    /// Lets the sync group of a router agree, after something happened to it.
    pub(super) fn coordinate(&mut self, index: usize) {
        let mut groups = self.groups.iter();
        let Some(group) = groups.find(|group| group.members().contains(&index)) else { return };
        let seats = group.members().to_vec();
        for _ in 0..ROUNDS {
            let now = Instant::now();
            let member = |seat: &usize| self.seats[*seat].router.member(now);
            let members: Vec<_> = seats.iter().map(member).collect();
            let orders = orders(&members);
            if orders.is_empty() {
                return;
            }
            self.published = false;
            for (member, order) in orders {
                self.seats[seats[member]].router.handle(now, Event::Group(order));
                self.carry_out(seats[member]);
            }
        }
    }
}
