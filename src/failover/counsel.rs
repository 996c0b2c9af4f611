//! Carries the question of the VRRP thread to [`opinion`]: everything it needs is
//! read from memory, without a lock anybody else holds for more than a moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use cluster::{NodeId, Presence};

use super::opinion::{self, Router, Verdict};

/// What the status of a held virtual router says.
const WHY: &str = "the active is alive and well on the control link";

/// A hold asked about again within this time after it ended is the same one going on.
const SAME: Duration = Duration::from_secs(1);

/// A claim that is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Since when, renewals included.
    pub since: Instant,
    /// Until when, unless it is renewed.
    pub until: Instant,
    /// The node that holds the address and is well.
    pub active: NodeId,
}

/// The holds of all virtual routers, by name. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Holds(Arc<BTreeMap<Arc<str>, ArcSwapOption<Hold>>>);

impl Holds {
    /// No router is held.
    pub fn new(routers: &[vrrp::RouterConfig]) -> Self {
        let names = routers.iter().map(|router| Arc::clone(router.name()));
        Self(Arc::new(names.map(|name| (name, ArcSwapOption::empty())).collect()))
    }

    /// The hold of a router that lasts at `now`, or has just ended and may be renewed.
    pub fn current(&self, name: &str, now: Instant) -> Option<Hold> {
        let hold = self.0.get(name)?.load().as_deref().copied();
        hold.filter(|hold| now <= hold.until + SAME)
    }
}

/// The callback for [`vrrp::Speaker::spawn`]; notes what it answers in `holds`.
pub fn counsel(presence: Presence, routers: &[vrrp::RouterConfig], holds: Holds) -> vrrp::Counsel {
    let routers: BTreeMap<Arc<str>, Router> = routers
        .iter()
        .map(|router| {
            let known = Router {
                vrid: router.vrid().as_u8(),
                addresses: router.addresses().to_vec(),
                interval: router.interval().as_duration(),
            };
            (Arc::clone(router.name()), known)
        })
        .collect();
    Box::new(move |name, now| {
        let (Some(router), Some(noted)) = (routers.get(name), holds.0.get(name)) else {
            return vrrp::Opinion::Claim;
        };
        let since = holds.current(name, now).map(|hold| hold.since);
        match opinion::judge(router, &presence.heard(), since, now) {
            Verdict::Claim => {
                noted.store(None);
                vrrp::Opinion::Claim
            }
            Verdict::Hold { until, active } => {
                let hold = Hold { since: since.unwrap_or(now), until, active };
                noted.store(Some(Arc::new(hold)));
                vrrp::Opinion::Hold { until, why: WHY }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_nobody_to_hear_it_is_plain_vrrp() {
        let address = std::net::IpAddr::from([192, 0, 2, 10]);
        let routers = [vrrp::RouterConfig::new("eth0", 51, vec![address]).unwrap()];
        let holds = Holds::new(&routers);
        let mut ask = counsel(Presence::default(), &routers, holds.clone());
        assert_eq!(ask("eth0-51", Instant::now()), vrrp::Opinion::Claim);
        assert_eq!(ask("nobody", Instant::now()), vrrp::Opinion::Claim);
        assert_eq!(holds.current("eth0-51", Instant::now()), None);
    }
}
