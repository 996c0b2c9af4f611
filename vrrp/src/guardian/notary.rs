//! Keeps the guardian's knowledge up to date: notices for which virtual routers the last will has
//! to be written anew, and leaves it as soon as the guardian takes it.

use std::net::IpAddr;

use super::{
    lifeline::{Lifeline, Told},
    will::{Farewell, Holding, Will},
};
use crate::{
    checksum::ChecksumForm, event::State, packet::GROUP, port::Port, router::VirtualRouter,
};

/// What a will depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    active: bool,
    source: Option<IpAddr>,
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
    pub(crate) fn leave(&mut self, index: usize, router: &VirtualRouter, port: &Port) {
        let Some(lifeline) = &self.lifeline else { return };
        let active = router.state() == State::Active;
        let standing = Some(Standing { active, source: port.source });
        if self.told.len() <= index {
            self.told.resize(index + 1, None);
        }
        if self.told.get(index) == Some(&standing) {
            return;
        }
        match lifeline.tell(&will(router, port), port.link.sender()) {
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

fn will(router: &VirtualRouter, port: &Port) -> Will {
    let farewell = port.source.map(|source| {
        let message = router.advertisement(0).emit(source, GROUP, ChecksumForm::PseudoHeader);
        Farewell { to: GROUP, scope: 0, message }
    });
    let holding = |address: &IpAddr| Holding { interface: port.index(), address: *address };
    Will {
        router: router.name().to_string(),
        active: router.state() == State::Active,
        farewells: farewell.into_iter().collect(),
        holdings: router.addresses().iter().map(holding).collect(),
    }
}
