//! Keeps the guardian's knowledge up to date: notices for which virtual routers the last will has
//! to be written anew, and leaves it as soon as the guardian takes it.

use std::{net::IpAddr, os::fd::BorrowedFd};

use super::{
    lifeline::{Lifeline, Told},
    will::{Farewell, Holding, Will},
};
use crate::{config::RouterConfig, event::State, packet::Format, router::VirtualRouter};

/// What there is to end when a virtual router ends, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estate<'a> {
    pub(crate) router: &'a VirtualRouter,
    pub(crate) config: &'a RouterConfig,
    /// Where its advertisements come from, while it can send.
    pub(crate) source: Option<IpAddr>,
    /// How they are written.
    pub(crate) format: Format,
    /// The socket they leave through.
    pub(crate) sender: BorrowedFd<'a>,
    /// Index of the interface it sends through.
    pub(crate) interface: u32,
    /// Index of the interface that holds the addresses.
    pub(crate) holding: u32,
}

/// What a will depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    active: bool,
    source: Option<IpAddr>,
    format: Format,
    interface: u32,
    holding: u32,
}

/// The VRRP thread's side of the guardian.
#[derive(Debug, Default)]
pub(crate) struct Notary {
    lifeline: Option<Lifeline>,
    /// By seat, what the guardian was told last.
    told: Vec<Option<Standing>>,
}

impl Notary {
    /// A new guardian, which knows nothing.
    pub(crate) fn appoint(&mut self, lifeline: Lifeline) {
        self.lifeline = Some(lifeline);
        self.told.clear();
    }

    /// Leaves the will of the router in seat `index`, unless it is known. Never waits: what the
    /// guardian does not take now is left at the next call.
    pub(crate) fn leave(&mut self, index: usize, estate: &Estate<'_>) {
        let Some(lifeline) = &self.lifeline else { return };
        let &Estate { source, format, interface, holding, .. } = estate;
        let active = estate.router.state() == State::Active;
        let standing = Some(Standing { active, source, format, interface, holding });
        if self.told.len() <= index {
            self.told.resize(index + 1, None);
        }
        if self.told.get(index) == Some(&standing) {
            return;
        }
        match lifeline.tell(&will(estate), estate.sender) {
            Told::Done => self.told[index] = standing,
            Told::Later => {}
            Told::Gone(error) => {
                // Whoever keeps it alive notices by himself and appoints another.
                tracing::debug!(%error, "the guardian is gone");
                self.lifeline = None;
            }
        }
    }
}

fn will(estate: &Estate<'_>) -> Will {
    let &Estate { router, config, source, format, interface, .. } = estate;
    let farewells = source.map(|source| {
        let goodbye = router.advertisement(0);
        let farewell = |to: &IpAddr| Farewell {
            to: *to,
            scope: scope(*to, interface),
            message: goodbye.emit(source, *to, format),
        };
        config.destinations().iter().map(farewell).collect()
    });
    let holding = |held: &crate::VirtualAddress| Holding {
        interface: estate.holding,
        address: held.address(),
        prefix: held.prefix(),
    };
    Will {
        router: router.name().to_string(),
        active: router.state() == State::Active,
        farewells: farewells.unwrap_or_default(),
        holdings: config.held().iter().map(holding).collect(),
    }
}

/// Only link-local addresses need an interface beside them.
fn scope(to: IpAddr, interface: u32) -> u32 {
    match to {
        IpAddr::V6(to) if to.is_unicast_link_local() || to.is_multicast() => interface,
        _ => 0,
    }
}
