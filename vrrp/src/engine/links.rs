//! Following the interfaces: what appeared, changed or vanished is told to the virtual routers.

use std::{net::IpAddr, time::Instant};

use super::Engine;
use crate::{
    addresses::Found,
    announce::gratuitous_arp,
    channel::bury,
    event::{Event, State},
    virtual_mac::VirtualMac,
};

impl Engine {
    /// Looks at the interfaces and at what they hold, and tells the routers what changed.
    pub(super) fn inspect_links(&mut self) {
        self.published = false;
        for port in 0..self.ports.len() {
            self.inspect_link(port);
        }
    }

    fn inspect_link(&mut self, port: usize) {
        let look = match self.ports[port].look() {
            Ok(look) => look,
            Err(error) => {
                // Believed to be as before; the next news or renewal tells.
                let interface = self.ports[port].name();
                tracing::warn!(interface, %error, "reading the interface failed");
                return;
            }
        };
        for index in 0..self.seats.len() {
            if self.seats[index].port != port {
                continue;
            }
            self.equip(index, look.reopened);
            self.follow_source(index, &look.present);
            let own = self.seats[index].virtual_mac.as_mut();
            match own.map(|own| own.table.list()) {
                None => self.keep_addresses(index, &look.present, look.new_mac),
                Some(Ok(present)) => self.keep_addresses(index, &present, false),
                Some(Err(error)) => {
                    let router = self.seats[index].name();
                    tracing::warn!(router, %error, "reading the addresses failed");
                }
            }
        }
    }

    /// Gives a virtual router what it needs on its interface, anew where that was made anew.
    fn equip(&mut self, index: usize, reopened: bool) {
        let port = &self.ports[self.seats[index].port];
        let seat = &mut self.seats[index];
        if seat.virtual_mac.as_mut().is_some_and(VirtualMac::is_gone) {
            tracing::warn!(router = seat.name(), "its interface was removed by someone else");
            seat.virtual_mac = None;
        }
        if !port.is_present() || (!reopened && seat.is_equipped()) {
            return;
        }
        let sender = port.open_sender(seat.router.family());
        if let Some(old) = seat.set_sender(sender) {
            bury(old);
        }
        // The old one went with its interface, or never was.
        seat.virtual_mac = None;
        match port.virtual_mac(seat.config()) {
            Ok(virtual_mac) => seat.virtual_mac = virtual_mac,
            Err(error) => {
                let router = seat.name();
                tracing::error!(router, %error, "the virtual mac address cannot be had");
            }
        }
    }

    fn follow_source(&mut self, index: usize, present: &[Found]) {
        let port = &self.ports[self.seats[index].port];
        let seat = &mut self.seats[index];
        let source = port
            .source(present, seat.config())
            .filter(|source| seat.is_equipped() && seat.may_send_from(*source));
        if source == seat.source {
            return;
        }
        let was_mute = seat.source.is_none();
        seat.source = source;
        let Some(source) = source else {
            self.feed(index, Event::LinkDown);
            return;
        };
        if was_mute {
            self.greet(index, source);
        }
        self.feed(index, Event::Startup { source });
    }

    /// The link is usable again. Unicast peers may believe in an old place of our own address, as
    /// keepalived knows too; and somebody may have taken a virtual address meanwhile.
    fn greet(&mut self, index: usize, source: IpAddr) {
        let seat = &self.seats[index];
        let port = &self.ports[seat.port];
        if let (Some(_), IpAddr::V4(source)) = (seat.config().dialect().unicast(), source) {
            for frame in gratuitous_arp(port.mac(), source) {
                // Only a help: advertisements go out in any case, or fail and say so.
                let _ = port.send_frame(&frame);
            }
        }
        self.probe(index);
    }

    /// An Active whose address was taken off by someone else puts it back; one that is not Active
    /// should have none.
    fn keep_addresses(&mut self, index: usize, present: &[Found], new_mac: bool) {
        let seat = &mut self.seats[index];
        if seat.router.state() != State::Active {
            seat.look_for_misplaced(present, Instant::now());
            return;
        }
        let is_there = |held: &crate::VirtualAddress| {
            let is_it =
                |found: &Found| found.address == held.address() && found.prefix == held.prefix();
            present.iter().any(is_it)
        };
        let missing = seat.config().held().iter().find(|held| !is_there(held)).copied();
        if let Some(address) = missing {
            // A router that became Active a moment ago may have added them after the listing;
            // adding them once more does no harm.
            let now = Instant::now();
            seat.removals += 1;
            if seat.removal_alarm.may_ring(now) {
                let (router, count) = (seat.name(), seat.removals);
                tracing::warn!(
                    router,
                    %address,
                    count,
                    "a virtual address was removed by someone else; put back"
                );
            }
        }
        if missing.is_some() || new_mac {
            self.feed(index, Event::AddressLost);
        }
    }
}
