//! What this node tells the other members about itself with every beat. Sans-io.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::presence::{RouterState, RouterWord, Word};
use vrrp::{RouterStatus, State};

/// An Active that has sent nothing for so many intervals cannot advertise: the one interval it
/// waits anyway, and two that a busy machine may take.
const UNSENT: u32 = 3;

/// Turns the status of the virtual routers into words, and remembers when each last got an
/// advertisement out.
#[derive(Debug, Default)]
pub struct Teller {
    intervals: BTreeMap<Arc<str>, Duration>,
    sent: BTreeMap<Arc<str>, (u64, Instant)>,
}

impl Teller {
    /// Tells about these virtual routers.
    pub fn new(routers: &[vrrp::RouterConfig]) -> Self {
        let intervals = routers.iter().map(|router| {
            let interval = router.interval().as_duration();
            (Arc::clone(router.name()), interval)
        });
        Self { intervals: intervals.collect(), sent: BTreeMap::new() }
    }

    /// What to say at `now`. `yielding`: the node is about to give its addresses away.
    pub fn word(
        &mut self,
        now: Instant,
        healthy: bool,
        yielding: bool,
        routers: &[RouterStatus],
    ) -> Word {
        let routers = routers.iter().map(|router| RouterWord {
            name: router.name.to_string(),
            vrid: router.vrid,
            addresses: router.addresses.clone(),
            state: match router.state {
                State::Initialize => RouterState::Initialize,
                State::Backup => RouterState::Backup,
                State::Active => RouterState::Active,
            },
            priority: router.priority,
            yielding,
            advertising: self.is_advertising(now, router),
        });
        Word { healthy, routers: routers.collect() }
    }

    fn is_advertising(&mut self, now: Instant, router: &RouterStatus) -> bool {
        let interval = self.intervals.get(&router.name).copied().unwrap_or_default();
        let last = (router.adverts_out, now);
        let (count, at) = self.sent.entry(Arc::clone(&router.name)).or_insert(last);
        if *count != router.adverts_out {
            (*count, *at) = last;
        }
        // One that has just become Active has sent its first by the time its status is seen.
        let since = (*at).max(router.since);
        router.state == State::Active && now.saturating_duration_since(since) < interval * UNSENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: State, since: Instant, adverts_out: u64) -> RouterStatus {
        RouterStatus {
            name: "web".into(),
            interface: "eth0".into(),
            vrid: 51,
            addresses: vec![[192, 0, 2, 10].into()],
            state,
            since,
            priority: 254,
            base_priority: 254,
            adjustments: Vec::new(),
            faults: Vec::new(),
            sync_group: None,
            permission: true,
            held: false,
            hold: None,
            peer: None,
            adverts_in: 0,
            adverts_out,
            send_errors: 0,
            address_errors: 0,
            late: vrrp::Lateness::default(),
            anomalies: vrrp::Anomalies::default(),
            errors: vrrp::PacketErrors::default(),
            last_reason: None,
        }
    }

    #[test]
    fn an_active_whose_advertisements_do_not_leave_says_so() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let address = std::net::IpAddr::from([192, 0, 2, 10]);
        let router = vrrp::RouterConfig::new("eth0", 51, vec![address]).unwrap().with_name("web");
        let mut teller = Teller::new(&[router]);
        let mut says = |now, state, sent| {
            let word = teller.word(now, true, false, &[status(state, start, sent)]);
            (word.routers[0].state, word.routers[0].advertising)
        };
        assert_eq!(says(at(0), State::Active, 1), (RouterState::Active, true));
        assert_eq!(says(at(250), State::Active, 1), (RouterState::Active, true));
        assert_eq!(says(at(300), State::Active, 1), (RouterState::Active, false));
        assert_eq!(says(at(310), State::Active, 2), (RouterState::Active, true));
        assert_eq!(says(at(320), State::Backup, 2), (RouterState::Backup, false));
    }

    #[test]
    fn health_and_yielding_are_the_nodes_own() {
        let now = Instant::now();
        let mut teller = Teller::default();
        let word = teller.word(now, false, true, &[status(State::Active, now, 0)]);
        assert!(!word.healthy && word.routers[0].yielding);
    }
}
