//! Who is let in at all: the shared key, failures per address, the bans they add up to, and those
//! an admin sets.
//!
//! Own failures count at once (`own`); those of other nodes arrive through the cluster view, as do
//! bans and pardons. `listing` says who is kept out and why. The decision what counts as a failure
//! is made in `access` and `frp::login`, not here.

mod keys;
mod listing;
mod own;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use cluster::clock::{millis, now};
use cluster::record::{Ban, MAX_BANS, MAX_STRIKE_AGE, Millis, Strike, Subnet, ban_key};
use cluster::{Command, Handle, ProposeError, Reply, Soft};
use ipnet::IpNet;

use crate::observe::failure;
use crate::observe::metrics::metrics;

pub use keys::SharedKeys;
pub use listing::{Entry, Source};
use own::OwnStrikes;

/// Longest wait for the cluster to confirm what an admin asked for.
const CONFIRM: Duration = Duration::from_secs(3);

/// What makes a ban.
#[derive(Clone, Debug)]
pub struct Config {
    /// The keys AppAPI and tunnel clients prove themselves with.
    pub keys: SharedKeys,
    /// Failures within the window that make a ban (`HP_BLACKLIST_COUNT`). 0 bans everyone.
    pub count: usize,
    /// Length of the window (`HP_BLACKLIST_WINDOW`); more than a day counts as one.
    pub window: Duration,
    /// Addresses and networks that are never banned and whose failures do not count.
    pub never_ban: Vec<IpNet>,
}

/// Why a ban was not set or lifted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The configuration of this node exempts it.
    #[error("bans: {subnet} lies in {exempt} of exapps.never_ban and cannot be banned")]
    Exempt {
        /// Whom.
        subnet: Subnet,
        /// By which entry.
        exempt: IpNet,
    },
    /// Nobody may quietly lose a ban, so there is a limit.
    #[error("bans: there are {MAX_BANS} already; remove one first, or ban a network")]
    Full,
    /// It was not confirmed. It may come into force later.
    #[error("bans: not confirmed ({0}); nothing may have changed, look again with `bans list`")]
    Unconfirmed(#[from] ProposeError),
}

/// What a pardon has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pardon {
    /// Whether there was a ban or a failure.
    pub found: bool,
    /// A ban of a larger network that goes on keeping it out.
    pub still_banned_by: Option<Subnet>,
}

/// Cheap to clone; all clones are one guard.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    keys: SharedKeys,
    limits: ArcSwap<Limits>,
    cluster: Handle,
    own: Mutex<OwnStrikes>,
    /// Whether `own` holds anything: spares the lock while nobody has failed.
    any_own: AtomicBool,
}

/// What can change while the guard stands.
struct Limits {
    count: usize,
    window: Millis,
    never_ban: Vec<IpNet>,
}

impl Guard {
    /// A guard that shares its failures through `cluster`.
    pub fn new(config: Config, cluster: Handle) -> Self {
        let own = Mutex::new(OwnStrikes::new(config.count));
        let limits = ArcSwap::from_pointee(Limits::new(&config));
        let any_own = AtomicBool::new(false);
        let keys = config.keys;
        Self { inner: Arc::new(Inner { keys, limits, cluster, own, any_own }) }
    }

    /// Goes by the limits of `config` from now on; the keys stay. Failures that were counted go on
    /// counting.
    pub fn set_limits(&self, config: &Config) {
        self.inner.own().tell_apart(config.count);
        self.inner.limits.store(Arc::new(Limits::new(config)));
    }

    /// Whether `offered` is the shared key (constant time).
    pub fn is_shared_key(&self, offered: &[u8]) -> bool {
        self.keys().tenant_of(offered).is_some()
    }

    /// The shared keys.
    pub fn keys(&self) -> &SharedKeys {
        &self.inner.keys
    }

    /// Whether an admin keeps the address out, or it has failed too often lately, on any node.
    pub fn is_banned(&self, address: IpAddr) -> bool {
        self.is_banned_at(address, now())
    }

    /// Counts one failure against the address.
    pub fn strike(&self, address: IpAddr) {
        self.strike_at(address, now());
    }

    /// Keeps a client or a network out on every node, for `length` or until it is pardoned.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn ban(
        &self,
        subnet: Subnet,
        length: Option<Duration>,
        reason: String,
    ) -> Result<(), ChangeError> {
        let inner = &*self.inner;
        let exempt = inner.limits.load().exemption(&subnet);
        if let Some(exempt) = exempt {
            return Err(ChangeError::Exempt { subnet, exempt });
        }
        let since = now();
        let until = length.map(|length| since.saturating_add(millis(length)));
        let node = inner.cluster.node_id();
        let ban = Command::SetBan(Ban { subnet, since, until, node, reason });
        match inner.cluster.propose(ban, CONFIRM).await? {
            Reply::Full => Err(ChangeError::Full),
            _ => Ok(()),
        }
    }

    /// Lifts every ban within the subnet and forgives its failures, on every node.
    ///
    /// # Errors
    /// [`ChangeError::Unconfirmed`].
    pub async fn pardon(&self, subnet: Subnet) -> Result<Pardon, ChangeError> {
        let inner = &*self.inner;
        let at = now();
        // This node's failures of the last moment may be on no record yet.
        let since = inner.limits.load().window_start(at);
        let own = inner
            .own()
            .iter(since)
            .any(|(address, at)| subnet.contains(address) && !inner.is_pardoned(address, at));
        let reply = inner.cluster.propose(Command::Pardon { subnet, at }, CONFIRM).await?;
        let wider = inner.cluster.read(|state| {
            let mut bans = state.bans().filter(|ban| ban.is_in_force(at));
            bans.find(|ban| ban.subnet.covers(&subnet)).map(|ban| ban.subnet)
        });
        Ok(Pardon { found: own || reply == Reply::Done, still_banned_by: wider })
    }

    /// Everyone with a ban or a failure that counts.
    pub fn list(&self) -> Vec<Entry> {
        self.list_at(now())
    }

    fn list_at(&self, at: Millis) -> Vec<Entry> {
        let inner = &*self.inner;
        let limits = inner.limits.load();
        let since = limits.window_start(at);
        let node = inner.cluster.node_id();
        let own: Vec<_> = inner.own().iter(since).collect();
        let own = own.into_iter().map(|(address, at)| Strike { node, address, at });
        let own = own.filter(|strike| !inner.is_pardoned(strike.address, strike.at));
        let view = inner.cluster.view();
        let elsewhere =
            view.every_strike().filter(|strike| strike.node != node && strike.at > since);
        let rule = listing::Rule { count: limits.count, window: limits.window };
        let bans = view.bans().map(|ban| &**ban);
        listing::entries(rule, at, bans, own.chain(elsewhere))
    }

    fn is_banned_at(&self, address: IpAddr, at: Millis) -> bool {
        let inner = &*self.inner;
        let limits = inner.limits.load();
        if limits.is_exempt(address) {
            return false;
        }
        let address = ban_key(address);
        let since = limits.window_start(at);
        let own = if inner.any_own.load(Ordering::Acquire) {
            inner.own_failures(address, since)
        } else {
            0
        };
        if own >= limits.count {
            return true;
        }
        inner.cluster.read(|state| {
            state.ban(address, at).is_some()
                || own + state.strikes(address, since, inner.cluster.node_id()) >= limits.count
        })
    }

    fn strike_at(&self, address: IpAddr, at: Millis) {
        let inner = &*self.inner;
        let limits = inner.limits.load();
        if limits.is_exempt(address) {
            return;
        }
        let address = ban_key(address);
        let was_banned = self.is_banned_at(address, at);
        inner.own().add(address, at, limits.window_start(at));
        inner.any_own.store(true, Ordering::Release);
        metrics().strike();
        if !was_banned && self.is_banned_at(address, at) {
            metrics().banned();
            failure::tell_ban(address);
        }
        let node = inner.cluster.node_id();
        inner.cluster.share(Soft::Strike(Strike { node, address, at }));
    }
}

impl Limits {
    fn new(config: &Config) -> Self {
        // The cluster keeps failures, and pardons of them, for a day.
        let window = millis(config.window).min(MAX_STRIKE_AGE);
        Self { count: config.count, window, never_ban: config.never_ban.clone() }
    }

    /// Failures up to and including this moment are too old to count.
    fn window_start(&self, now: Millis) -> Millis {
        now.saturating_sub(self.window)
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        let exempt = &self.never_ban;
        !exempt.is_empty() && exempt.iter().any(|net| net.contains(&address.to_canonical()))
    }

    /// The entry in which all of `subnet` lies.
    fn exemption(&self, subnet: &Subnet) -> Option<IpNet> {
        let covers =
            |net: &&IpNet| net.prefix_len() <= subnet.prefix() && net.contains(&subnet.first());
        self.never_ban.iter().find(covers).copied()
    }
}

impl Inner {
    fn own(&self) -> MutexGuard<'_, OwnStrikes> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pardon given on any node reaches the failures counted on this one through the view.
    fn own_failures(&self, address: IpAddr, since: Millis) -> usize {
        let own = self.own();
        let all = own.count(address, since);
        if all == 0 {
            return 0;
        }
        match self.cluster.read(|state| state.pardoned(address)) {
            Some(pardoned) if pardoned > since => own.count(address, pardoned),
            _ => all,
        }
    }

    fn is_pardoned(&self, address: IpAddr, at: Millis) -> bool {
        self.cluster.read(|state| state.pardoned(address)).is_some_and(|pardoned| at <= pardoned)
    }
}

#[cfg(test)]
mod tests {
    use cluster::record::MAX_STRIKES_PER_KEY;

    use super::*;
    use crate::secret::Secret;

    const NODE: u64 = 1;
    const START: Millis = 1_000_000;

    fn guard(count: usize) -> (Guard, Handle) {
        let cluster = Handle::in_memory(NODE);
        (Guard::new(config(count), cluster.clone()), cluster)
    }

    fn config(count: usize) -> Config {
        let keys = SharedKeys::new(Secret::new("right"));
        Config { keys, count, window: Duration::from_secs(300), never_ban: Vec::new() }
    }

    /// Two nodes of one cluster, as far as bans go.
    fn pair(count: usize) -> [Guard; 2] {
        Handle::in_memory_pair([NODE, NODE + 1]).map(|node| Guard::new(config(count), node))
    }

    fn net(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn enough_failures_of_one_address_ban_it_and_nobody_else() {
        let (guard, _) = guard(3);
        let client = ip("192.0.2.1");
        for failure in 0..3 {
            assert!(!guard.is_banned_at(client, START), "after {failure}");
            guard.strike_at(client, START);
        }
        assert!(guard.is_banned_at(client, START));
        assert!(!guard.is_banned_at(ip("192.0.2.2"), START));
    }

    #[test]
    fn the_window_slides() {
        let (guard, _) = guard(2);
        let client = ip("192.0.2.1");
        guard.strike_at(client, START);
        guard.strike_at(client, START + 200_000);
        assert!(guard.is_banned_at(client, START + 299_999));
        // The first failure is exactly one window old: it no longer counts.
        assert!(!guard.is_banned_at(client, START + 300_000));
        guard.strike_at(client, START + 400_000);
        assert!(guard.is_banned_at(client, START + 499_999));
        assert!(!guard.is_banned_at(client, START + 500_000));
    }

    #[test]
    fn limits_can_be_changed_while_failures_stay_counted() {
        let (guard, _) = guard(3);
        let client = ip("192.0.2.1");
        let limit = |count, seconds, never_ban: &[&str]| {
            guard.set_limits(&Config {
                keys: SharedKeys::new(Secret::new("another")),
                count,
                window: Duration::from_secs(seconds),
                never_ban: never_ban.iter().map(|net| net.parse().unwrap()).collect(),
            });
        };
        guard.strike_at(client, START);
        guard.strike_at(client, START + 1);
        assert!(!guard.is_banned_at(client, START + 2));
        limit(2, 10, &[]);
        assert!(guard.is_banned_at(client, START + 2));
        assert!(!guard.is_banned_at(client, START + 10_000));
        limit(2, 10, &["192.0.2.0/24"]);
        assert!(!guard.is_banned_at(client, START + 2));
        let count = MAX_STRIKES_PER_KEY + 1;
        limit(count, 300, &[]);
        for _ in 2..count {
            guard.strike_at(client, START + 2);
        }
        assert!(guard.is_banned_at(client, START + 3));
        assert!(guard.is_shared_key(b"right") && !guard.is_shared_key(b"another"));
    }

    #[test]
    fn the_clock_of_the_machine_is_used() {
        let (guard, _) = guard(1);
        assert!(!guard.is_banned(ip("192.0.2.1")));
        guard.strike(ip("192.0.2.1"));
        assert!(guard.is_banned(ip("192.0.2.1")));
    }

    #[test]
    fn a_count_of_zero_bans_everyone() {
        let (guard, _) = guard(0);
        assert!(guard.is_banned(ip("192.0.2.1")));
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_mapped_ipv4_is_ipv4() {
        let (guard, _) = guard(2);
        guard.strike_at(ip("2001:db8:1:2::a"), START);
        guard.strike_at(ip("2001:db8:1:2:ffff::b"), START);
        assert!(guard.is_banned_at(ip("2001:db8:1:2::c"), START));
        assert!(!guard.is_banned_at(ip("2001:db8:1:3::a"), START));
        guard.strike_at(ip("::ffff:192.0.2.1"), START);
        guard.strike_at(ip("192.0.2.1"), START);
        assert!(guard.is_banned_at(ip("192.0.2.1"), START));
    }

    #[test]
    fn failures_seen_by_other_nodes_count() {
        let (guard, cluster) = guard(3);
        let client = ip("192.0.2.1");
        guard.strike_at(client, START);
        for node in [2, 3] {
            assert!(!guard.is_banned_at(client, START));
            cluster.share(Soft::Strike(Strike { node, address: client, at: START }));
        }
        assert!(guard.is_banned_at(client, START));
        assert!(!guard.is_banned_at(client, START + 300_000));
    }

    #[test]
    fn own_failures_do_not_count_twice_when_the_cluster_echoes_them() {
        let (guard, cluster) = guard(2);
        let client = ip("192.0.2.1");
        guard.strike_at(client, START);
        assert_eq!(cluster.read(|state| state.strikes(client, 0, NODE + 1)), 1);
        assert!(!guard.is_banned_at(client, START));
    }

    #[test]
    fn a_threshold_above_the_usual_bound_can_still_be_reached() {
        let count = MAX_STRIKES_PER_KEY + 10;
        let (guard, _) = guard(count);
        let client = ip("192.0.2.1");
        for _ in 1..count {
            guard.strike_at(client, START);
        }
        assert!(!guard.is_banned_at(client, START));
        guard.strike_at(client, START);
        assert!(guard.is_banned_at(client, START));
    }

    #[test]
    fn only_the_shared_key_is_the_shared_key() {
        let (guard, _) = guard(1);
        assert!(guard.is_shared_key(b"right"));
        assert!(!guard.is_shared_key(b"righ") && !guard.is_shared_key(b""));
    }

    #[tokio::test]
    async fn w07_list_and_unban_reach_the_failures_of_every_node() {
        let [here, there] = pair(4);
        let client = ip("192.0.2.1");
        for guard in [&here, &here, &there, &there] {
            guard.strike_at(client, now());
        }
        for guard in [&here, &there] {
            assert!(guard.is_banned(client));
            let listed = guard.list();
            assert_eq!(listed.len(), 1, "{listed:?}");
            assert!(listed[0].banned && listed[0].until > Some(now()));
            assert_eq!(listed[0].source, Source::Failures { count: 4, nodes: [1, 2].into() });
        }
        let pardon = there.pardon(Subnet::of(client)).await.unwrap();
        assert_eq!(pardon, Pardon { found: true, still_banned_by: None });
        for guard in [&here, &there] {
            assert!(!guard.is_banned(client));
            assert!(guard.list().is_empty());
        }
        let again = there.pardon(Subnet::of(client)).await.unwrap();
        assert!(!again.found, "nothing was left");
        let later = now() + 1;
        for _ in 0..4 {
            here.strike_at(client, later);
        }
        assert!(there.is_banned_at(client, later), "what comes after a pardon counts");
    }

    #[tokio::test]
    async fn w07_list_and_unban_a_network_set_by_hand() {
        let [here, there] = pair(3);
        here.ban(net("10.1.0.0/16"), Some(Duration::from_secs(60)), "scans".into()).await.unwrap();
        assert!(there.is_banned(ip("10.1.2.3")) && !there.is_banned(ip("10.2.0.1")));
        assert!(!there.is_banned_at(ip("10.1.2.3"), now() + 61_000));
        let listed = there.list();
        assert_eq!((listed[0].subnet, listed[0].banned), (net("10.1.0.0/16"), true));
        assert!(
            matches!(&listed[0].source, Source::Admin { node: NODE, reason, .. } if reason == "scans")
        );
        let part = there.pardon(net("10.1.2.3")).await.unwrap();
        assert_eq!(part, Pardon { found: false, still_banned_by: Some(net("10.1.0.0/16")) });
        assert!(there.pardon(net("10.0.0.0/8")).await.unwrap().found);
        assert!(!here.is_banned(ip("10.1.2.3")));
    }

    #[tokio::test]
    async fn who_is_never_banned_is_neither_struck_nor_banned_by_hand() {
        let never_ban =
            vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::5".parse::<IpAddr>().unwrap().into()];
        let config = Config { never_ban, ..config(1) };
        let guard = Guard::new(config, Handle::in_memory(NODE));
        for exempt in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::5"] {
            guard.strike(ip(exempt));
            assert!(!guard.is_banned(ip(exempt)), "{exempt}");
        }
        assert!(guard.list().is_empty());
        let refused = guard.ban(net("10.1.0.0/16"), None, String::new()).await.unwrap_err();
        assert!(refused.to_string().contains("10.0.0.0/8 of exapps.never_ban"), "{refused}");
        // Its neighbours are one client to bans, and are kept out; it is not.
        guard.strike(ip("2001:db8::6"));
        assert!(guard.is_banned(ip("2001:db8::6")) && !guard.is_banned(ip("2001:db8::5")));
        // A wider network may be banned; who is exempt stays so.
        guard.ban(net("0.0.0.0/0"), None, String::new()).await.unwrap();
        assert!(guard.is_banned(ip("11.0.0.1")) && !guard.is_banned(ip("10.0.0.1")));
    }

    #[test]
    fn a_window_of_more_than_a_day_is_a_day() {
        let window = Duration::from_secs(30 * 24 * 3600);
        let guard = Guard::new(Config { window, ..config(1) }, Handle::in_memory(NODE));
        guard.strike_at(ip("192.0.2.1"), START);
        assert!(guard.is_banned_at(ip("192.0.2.1"), START + MAX_STRIKE_AGE - 1));
        assert!(!guard.is_banned_at(ip("192.0.2.1"), START + MAX_STRIKE_AGE));
    }
}
