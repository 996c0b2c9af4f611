//! What the nodes of a pair see of the world beside each other: the segment their virtual router
//! speaks on, and whether anything beyond them answers.

use std::time::Duration;

use cluster::pair::Surroundings;
use cluster::record::NodeId;

/// A Backup that hears nothing for so long becomes Active.
const TAKEOVER: Duration = Duration::from_millis(700);

/// A segment with two routers; the one with the lower number wins where both are Active.
#[derive(Default)]
pub(crate) struct Air {
    /// Advertisements do not get through.
    pub(crate) cut: bool,
    /// When they did not last.
    cut_at: Option<Duration>,
    /// Nor does what the nodes say to each other.
    pub(crate) link_cut: bool,
    link_cut_at: Option<Duration>,
    sides: [Side; 2],
}

#[derive(Default)]
struct Side {
    /// Nothing beyond this node answers.
    inside: bool,
    active_since: Option<Duration>,
    heard: Option<Duration>,
    /// It waits for an advertisement since then.
    waits_since: Duration,
}

impl Air {
    /// Lets time pass. `up` tells which nodes run.
    pub(crate) fn step(&mut self, now: Duration, up: [bool; 2]) {
        if self.cut {
            self.cut_at = Some(now);
        }
        if self.link_cut {
            self.link_cut_at = Some(now);
        }
        for me in 0..2 {
            let is_told = !self.cut && up[1 - me] && self.sides[1 - me].active_since.is_some();
            let side = &mut self.sides[me];
            if !up[me] {
                (side.active_since, side.heard, side.waits_since) = (None, None, now);
                continue;
            }
            if is_told {
                (side.heard, side.waits_since) = (Some(now), now);
                if me == 1 {
                    side.active_since = None;
                }
            } else if now >= side.waits_since + TAKEOVER {
                side.active_since.get_or_insert(now);
            }
        }
    }

    /// Whether anything beyond that node answers.
    pub(crate) fn set_outside(&mut self, id: NodeId, outside: bool) {
        self.side_mut(id).inside = !outside;
    }

    /// When the two did not hear each other's advertisements last.
    pub(crate) fn cut_at(&self) -> Option<Duration> {
        self.cut_at
    }

    /// When something kept them from talking to each other last.
    pub(crate) fn link_cut_at(&self) -> Option<Duration> {
        self.link_cut_at
    }

    /// What that node sees.
    pub(crate) fn seen(&self, id: NodeId, now: Duration) -> Surroundings {
        let side = &self.sides[index(id)];
        Surroundings {
            active: Some(side.active_since.is_some()),
            active_for: side.active_since.map(|since| now - since),
            advert_heard: side.heard.map(|at| now - at),
            gateway: Some(!side.inside),
            nextcloud: Some(!side.inside),
        }
    }

    fn side_mut(&mut self, id: NodeId) -> &mut Side {
        &mut self.sides[index(id)]
    }
}

fn index(id: NodeId) -> usize {
    usize::from(id != 1)
}
