//! Carrying out what a virtual router asks for.

use std::{io, net::IpAddr, sync::Arc, time::Instant};

use smallvec::SmallVec;

use super::Engine;
use crate::{
    addresses::AddressTable,
    announce::{self, gratuitous_arp},
    event::{Action, Event, Opinion, State, Transition},
    neighbour::{self, unsolicited_advertisement},
    status::Report,
    sys,
    virtual_address::VirtualAddress,
};

impl Engine {
    pub(super) fn carry_out(&mut self, index: usize) {
        while let Some(action) = self.seats[index].router.poll_action() {
            match action {
                Action::Send(advertisement) => self.seats[index].send(&advertisement),
                Action::AddAddresses => {
                    if !self.change_addresses(index, AddressTable::add) {
                        self.seats[index].router.handle(Instant::now(), Event::AddressRefused);
                    }
                }
                Action::RenewAddresses => {
                    self.change_addresses(index, AddressTable::add);
                }
                Action::RemoveAddresses => {
                    self.change_addresses(index, |table, address| table.remove(address).map(drop));
                }
                Action::Consult => {
                    let opinion = self.consult(index);
                    self.seats[index].router.handle(Instant::now(), Event::Opinion(opinion));
                }
                Action::Announce => self.announce(index),
                Action::Report(transition) => self.report(index, transition),
            }
        }
    }

    fn consult(&mut self, index: usize) -> Opinion {
        let Some(counsel) = &mut self.ears.counsel else { return Opinion::Claim };
        counsel(self.seats[index].router.name(), Instant::now())
    }

    /// Tells everybody on the link where the addresses are. What was announced a while ago is asked
    /// for as well: a host that has the same address answers.
    fn announce(&mut self, index: usize) {
        let seat = &self.seats[index];
        let port = &self.ports[seat.port];
        let is_router = sys::is_forwarding(port.interface_name());
        let mac = seat.virtual_mac.as_ref().map_or(port.mac(), |own| own.interface.mac);
        let send = |frame: &[u8]| match &seat.virtual_mac {
            Some(own) => own.frames.send(frame),
            None => port.send_frame(frame),
        };
        let announced = seat.config().held().iter().map(|held| match held.address() {
            IpAddr::V4(address) => {
                gratuitous_arp(mac, address).iter().try_for_each(|frame| send(frame))
            }
            IpAddr::V6(address) => send(&unsolicited_advertisement(mac, address, is_router)),
        });
        let failures: SmallVec<[io::Error; 1]> = announced.filter_map(Result::err).collect();
        for error in failures {
            self.seats[index].note_send_error(&error);
        }
        if self.seats[index].is_settled(Instant::now()) {
            self.probe(index);
        }
    }

    /// Asks whether somebody has the addresses. Who does is heard by the watch over claims.
    pub(super) fn probe(&mut self, index: usize) {
        let seat = &self.seats[index];
        let port = &self.ports[seat.port];
        let mac = port.mac();
        for held in seat.config().held() {
            // Nothing depends on the question; a link that cannot carry it says so elsewhere.
            let _ = match (held.address(), seat.source) {
                (IpAddr::V4(address), _) => port.send_frame(&announce::probe(mac, address)),
                (IpAddr::V6(address), Some(IpAddr::V6(source))) => {
                    port.send_frame(&neighbour::probe(mac, source, address))
                }
                // Nobody of that family to ask in the name of.
                (IpAddr::V6(_), _) => Ok(()),
            };
        }
    }

    /// Applies `change` to every address of a router; false: at least one was refused.
    fn change_addresses(
        &mut self,
        index: usize,
        change: fn(&mut AddressTable, VirtualAddress) -> io::Result<()>,
    ) -> bool {
        let mut all_done = true;
        for address in self.seats[index].config().held().to_vec() {
            let seat = &mut self.seats[index];
            let table = match &mut seat.virtual_mac {
                Some(own) => &mut own.table,
                None => &mut self.ports[seat.port].table,
            };
            if let Err(error) = change(table, address) {
                all_done = false;
                seat.note_address_error(address.address(), &error);
            }
        }
        all_done
    }

    fn report(&mut self, index: usize, transition: Transition) {
        let at = Instant::now();
        let seat = &mut self.seats[index];
        seat.since = at;
        let Transition { from, to, reason } = transition;
        seat.last_reason = Some(reason.clone());
        let name = Arc::clone(seat.router.name());
        let vrid = seat.router.vrid().as_u8();
        // The story is told by whoever takes the report, on a thread that may wait for a log.
        tracing::debug!(router = &*name, state.from = %from, state.to = %to, %reason, "state changed");
        if to == State::Active {
            seat.look_for_duplicate(at);
        }
        let held = seat.config().held().iter();
        let addresses = held.map(VirtualAddress::address).collect();
        // A panic of the receiver must not meet a second one while addresses are given back.
        if !std::thread::panicking() {
            (self.ears.on_report)(Report { name, vrid, from, to, reason, at, addresses });
        }
    }
}
