//! One look at everything the page shows, taken from the rooms that answer the admin socket.

use crate::admin::bans::Ban;
use crate::admin::certificates::Certificate;
use crate::admin::events::Event;
use crate::admin::exapps::ExApp;
use crate::admin::server::Source;
use crate::admin::status::Status;
use crate::admin::tunnels::Tunnel;

/// What a node knows at one moment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) status: Status,
    /// Sessions that are remembered.
    pub(super) sessions: usize,
    pub(super) certificates: Vec<Certificate>,
    /// The timeline, the oldest first.
    pub(super) events: Vec<Event>,
    /// None on a witness.
    pub(super) served: Option<Served>,
}

/// What only a node that serves has.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) exapps: Vec<ExApp>,
    pub(super) tunnels: Vec<Tunnel>,
    pub(super) bans: Vec<Ban>,
}

impl Look {
    /// Asks; waits for nothing but short locks.
    pub(super) fn take(source: &Source) -> Self {
        let Source { status, membership, desk, .. } = source;
        let certificates = match desk {
            Some(desk) => desk.certificates(),
            None => membership.certificates(),
        };
        Self {
            status: status(),
            sessions: membership.sessions(),
            certificates: certificates.0,
            events: membership.events(0).0,
            served: desk.as_ref().map(|desk| Served {
                exapps: desk.exapps().0,
                tunnels: desk.tunnels().0,
                bans: desk.bans(false).0,
            }),
        }
    }

    /// What a node is called.
    pub(super) fn name(&self, id: u64) -> String {
        let mut members = self.status.cluster.members.0.iter();
        let known = members.find(|member| member.id == id);
        known.map_or_else(|| format!("node {id}"), |member| member.name.clone())
    }
}
