//! Who is let in at all: the shared key, failures per address, and the bans they add up to.
//!
//! Own failures count at once; those of other nodes arrive through the cluster view. The
//! decision what counts as a failure is made in `access` and `frp::login`, not here.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cluster::record::{MAX_STRIKE_KEYS, MAX_STRIKES_PER_KEY, Millis, Strike, ban_key};
use cluster::{Handle, Soft};

use crate::secret::Secret;

/// What makes a ban.
#[derive(Clone, Debug)]
pub struct Config {
    /// The key AppAPI and every frpc prove themselves with.
    pub shared_key: Secret,
    /// Failures within the window that make a ban (`HP_BLACKLIST_COUNT`).
    pub count: usize,
    /// Length of the window (`HP_BLACKLIST_WINDOW`).
    pub window: Duration,
}

/// Cheap to clone; all clones are one guard.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    cluster: Handle,
    own: Mutex<HashMap<IpAddr, VecDeque<Millis>>>,
}

impl Guard {
    /// A guard that shares its failures through `cluster`.
    pub fn new(config: Config, cluster: Handle) -> Self {
        Self { inner: Arc::new(Inner { config, cluster, own: Mutex::default() }) }
    }

    /// Whether `offered` is the shared key (constant time).
    pub fn is_shared_key(&self, offered: &[u8]) -> bool {
        self.inner.config.shared_key.matches(offered)
    }

    /// Whether the address has failed too often lately, on any node.
    pub fn is_banned(&self, address: IpAddr) -> bool {
        let inner = &*self.inner;
        let address = ban_key(address);
        let since = now().saturating_sub(millis(inner.config.window));
        let own = {
            let table = inner.own.lock().unwrap_or_else(PoisonError::into_inner);
            table.get(&address).map_or(0, |times| times.iter().filter(|at| **at > since).count())
        };
        let elsewhere =
            inner.cluster.read(|state| state.strikes(address, since, inner.cluster.node_id()));
        own + elsewhere >= inner.config.count
    }

    /// Counts one failure against the address.
    pub fn strike(&self, address: IpAddr) {
        let inner = &*self.inner;
        let address = ban_key(address);
        let at = now();
        let since = at.saturating_sub(millis(inner.config.window));
        {
            let mut table = inner.own.lock().unwrap_or_else(PoisonError::into_inner);
            if table.len() >= MAX_STRIKE_KEYS && !table.contains_key(&address) {
                table.retain(|_, times| times.back().is_some_and(|last| *last > since));
            }
            if table.len() < MAX_STRIKE_KEYS || table.contains_key(&address) {
                let times = table.entry(address).or_default();
                times.push_back(at);
                while times.len() > MAX_STRIKES_PER_KEY {
                    times.pop_front();
                }
            }
        }
        let node = inner.cluster.node_id();
        inner.cluster.share(Soft::Strike(Strike { node, address, at }));
    }
}

fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
