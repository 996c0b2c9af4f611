//! A host of the simulation: its virtual routers, each on a wire of its own.

use std::{net::IpAddr, time::Instant};

use super::Frame;
use crate::{
    config::RouterConfig, event::Transition, group::Group, packet::Version, router::VirtualRouter,
};

#[derive(Debug, Default)]
pub(super) struct Host {
    /// By wire.
    pub(super) seats: Vec<Seat>,
    pub(super) groups: Vec<Group>,
    pub(super) running: bool,
    pub(super) paused: bool,
    /// What arrives while paused, as in a socket buffer.
    pub(super) inbox: Vec<Frame>,
}

#[derive(Debug)]
pub(super) struct Seat {
    config: RouterConfig,
    pub(super) router: VirtualRouter,
    pub(super) source: IpAddr,
    pub(super) part: u32,
    /// When the kernel drops the addresses, if they are there.
    pub(super) lease: Option<Instant>,
    pub(super) announcements: u64,
    pub(super) transitions: Vec<(Instant, Transition)>,
}

impl Seat {
    pub(super) fn new(config: RouterConfig, source: IpAddr) -> Self {
        Self {
            router: VirtualRouter::new(config.clone()),
            config,
            source,
            part: 0,
            lease: None,
            announcements: 0,
            transitions: Vec::new(),
        }
    }
}

impl Seat {
    pub(super) fn version(&self) -> Version {
        self.config.dialect().version()
    }
}

impl Host {
    pub(super) fn is_awake(&self) -> bool {
        self.running && !self.paused
    }

    /// The next timer, and on which wire.
    pub(super) fn due(&self) -> Option<(Instant, usize)> {
        let dues = self.seats.iter().enumerate();
        dues.filter_map(|(wire, seat)| Some((seat.router.poll_timeout()?, wire))).min()
    }

    pub(super) fn crash(&mut self) {
        for seat in &mut self.seats {
            seat.router = VirtualRouter::new(seat.config.clone());
            seat.lease = None;
        }
        self.running = false;
        self.paused = false;
        self.inbox.clear();
    }
}
