//! What an operator may choose about who holds an address. Sans-io.

use std::net::IpAddr;
use std::time::Duration;

/// The section `[failover]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether the control links are heard before an address is claimed.
    pub claim: ClaimPolicy,
    /// Time between two beats of the presence; none: half the shortest advertisement interval.
    pub beat: Option<Duration>,
    /// How long an Active hears nobody before it steps down; none: it never does.
    pub isolation: Option<Duration>,
    /// The neighbour that counts besides the members.
    pub gateway: Gateway,
}

/// What has to be true before a silent Active is succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimPolicy {
    /// Its advertisements are missing, and nobody hears it on the control links.
    Presence,
    /// Its advertisements are missing: plain VRRP.
    Vrrp,
}

/// Whose silence counts besides that of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// That of the default route, if there is one.
    Default,
    /// This neighbour's.
    Address(IpAddr),
    /// Nobody's.
    Off,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            claim: ClaimPolicy::Presence,
            beat: None,
            isolation: Some(Duration::from_secs(2)),
            gateway: Gateway::Default,
        }
    }
}

impl Config {
    /// The beat this node asks for: none without virtual routers, whose timing it serves.
    pub fn pace(&self, routers: &[vrrp::RouterConfig]) -> Option<Duration> {
        let shortest = routers.iter().map(|router| router.interval().as_duration()).min()?;
        Some(self.beat.unwrap_or(shortest / 2).max(cluster::presence::FASTEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_come_twice_an_advertisement_interval_unless_chosen() {
        let router = |vrid, millis| {
            let address = IpAddr::from([192, 0, 2, vrid]);
            let router = vrrp::RouterConfig::new("eth0", vrid, vec![address]).unwrap();
            router.with_interval(Duration::from_millis(millis)).unwrap()
        };
        let pace = |beat: Option<u64>, routers: &[_]| {
            let beat = beat.map(Duration::from_millis);
            let config = Config { beat, ..Config::default() };
            config.pace(routers).map(|pace| pace.as_millis())
        };
        assert_eq!(pace(None, &[]), None);
        assert_eq!(pace(None, &[router(1, 1000), router(2, 100)]), Some(50));
        assert_eq!(pace(Some(20), &[router(1, 100)]), Some(20));
        assert_eq!(pace(None, &[router(1, 10)]), Some(5));
    }
}
