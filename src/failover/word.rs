//! What this node tells the other members about itself with every beat. Sans-io.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::presence::{RouterState, RouterWord, Word};
use vrrp::{RouterStatus, State};

/// An Active that has sent nothing for so many intervals cannot advertise: the one interval it
/// waits anyway, and two that a busy machine may take.
const UNSENT: u32 = 3;

/// What counts of a virtual router's status.
#[derive(Clone, Debug)]
pub struct Seen {
    name: Arc<str>,
    vrid: u8,
    addresses: Vec<IpAddr>,
    state: State,
    since: Instant,
    priority: u8,
    source: Option<IpAddr>,
    adverts_out: u64,
}

impl From<RouterStatus> for Seen {
    fn from(status: RouterStatus) -> Self {
        Self {
            name: status.name,
            vrid: status.vrid,
            addresses: status.addresses,
            state: status.state,
            since: status.since,
            priority: status.priority,
            source: status.source,
            adverts_out: status.adverts_out,
        }
    }
}

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

    /// What to say at `now`. `own`: how the node is, without routers; `yielding`: it is about to
    /// give its addresses away.
    pub fn word(
        &mut self,
        now: Instant,
        own: Word,
        yielding: bool,
        routers: impl IntoIterator<Item = Seen>,
    ) -> Word {
        let routers = routers.into_iter().map(|router| RouterWord {
            advertising: self.is_advertising(now, &router),
            name: router.name.to_string(),
            vrid: router.vrid,
            source: router.source,
            state: match router.state {
                State::Initialize => RouterState::Initialize,
                State::Backup => RouterState::Backup,
                State::Active => RouterState::Active,
            },
            priority: router.priority,
            yielding,
            addresses: router.addresses,
        });
        Word { routers: routers.collect(), ..own }
    }

    fn is_advertising(&mut self, now: Instant, router: &Seen) -> bool {
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

    fn seen(state: State, since: Instant, adverts_out: u64) -> Seen {
        Seen {
            name: "web".into(),
            vrid: 51,
            addresses: vec![[192, 0, 2, 10].into()],
            state,
            since,
            priority: 254,
            source: Some([192, 0, 2, 1].into()),
            adverts_out,
        }
    }

    #[test]
    fn an_active_whose_advertisements_do_not_leave_says_so() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let address = IpAddr::from([192, 0, 2, 10]);
        let router = vrrp::RouterConfig::new("eth0", 51, vec![address]).unwrap().with_name("web");
        let mut teller = Teller::new(&[router]);
        let mut says = |now, state, sent| {
            let word = teller.word(now, Word::default(), false, [seen(state, start, sent)]);
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
        let word = teller.word(
            now,
            Word { quorum: true, ..Word::default() },
            true,
            [seen(State::Active, now, 0)],
        );
        assert!(!word.healthy && word.quorum && word.routers[0].yielding);
    }
}
