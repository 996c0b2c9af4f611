//! What the trackers of virtual routers are given: looks at this node's own health, and the way to
//! the VRRP thread.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::PoisonError;

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use vrrp::{State, Tracked};

use super::status::Speaker;
use crate::failover::trackers::{self, Check, Checks, Health, Reading, Tracker};
use crate::frp;
use crate::nextcloud;

/// The rooms that are looked at.
pub(super) struct Rooms {
    /// Addresses of the HTTP and the FRP port, as configured.
    pub(super) listeners: Vec<SocketAddr>,
    /// The default Nextcloud.
    pub(super) nextcloud: nextcloud::Client,
    /// All tunnels.
    pub(super) tunnels: frp::Tunnels,
}

/// Watches until `stop`.
pub(super) async fn watch(
    trackers: Vec<Tracker>,
    rooms: Rooms,
    speaker: Speaker,
    stop: CancellationToken,
) {
    let Rooms { listeners, nextcloud, tunnels } = rooms;
    let ports: Vec<_> = listeners.into_iter().map(from_here).collect();
    let take_connections: Check = Box::new(move || Box::pin(all_accept(ports.clone())));
    let reachable: Check = Box::new(move || {
        let nextcloud = nextcloud.clone();
        Box::pin(async move { nextcloud.is_reachable().await })
    });
    let holder = Speaker::clone(&speaker);
    let connected: Check = Box::new(move || {
        let well = !holds_an_address(&holder) || most_are_here(&tunnels.status());
        Box::pin(std::future::ready(well))
    });
    let health = BTreeMap::from([
        (Health::Listeners, take_connections),
        (Health::Nextcloud, reachable),
        (Health::Tunnels, connected),
    ]);
    let teller = Speaker::clone(&speaker);
    let tell = move |router: &str, tracker: &str, reading| {
        let seen = match reading {
            Reading::Up => Tracked::Up,
            Reading::Down => Tracked::Down,
            Reading::Value(value) => Tracked::Value(value),
        };
        if let Some(handle) = &*teller.lock().unwrap_or_else(PoisonError::into_inner) {
            // Fails only when the thread has ended, which ends this process too.
            let _ = handle.set_tracker(router, tracker, seen);
        }
    };
    let priority = move |router: &str| {
        let speaker = speaker.lock().unwrap_or_else(PoisonError::into_inner);
        let states = speaker.as_ref()?.states();
        states.iter().find(|state| &*state.name == router).map(|state| state.priority)
    };
    let checks = Checks { health, tell: Box::new(tell), priority: Box::new(priority) };
    trackers::watch(trackers, checks, stop).await;
}

/// Where to reach a listener of this machine from this machine.
fn from_here(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

async fn all_accept(ports: Vec<SocketAddr>) -> bool {
    for port in ports {
        if TcpStream::connect(port).await.is_err() {
            return false;
        }
    }
    true
}

fn holds_an_address(speaker: &Speaker) -> bool {
    let speaker = speaker.lock().unwrap_or_else(PoisonError::into_inner);
    speaker.iter().flat_map(vrrp::SpeakerHandle::states).any(|state| state.state == State::Active)
}

/// Whether at least half of the registered tunnels are connected to this node.
fn most_are_here(tunnels: &[frp::TunnelStatus]) -> bool {
    let here = tunnels.iter().filter(|tunnel| tunnel.live_here).count();
    2 * here >= tunnels.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_on_the_loopback() {
        for (listener, reached) in [
            ("0.0.0.0:8780", "127.0.0.1:8780"),
            ("[::]:8780", "[::1]:8780"),
            ("10.0.0.1:8780", "10.0.0.1:8780"),
        ] {
            assert_eq!(from_here(listener.parse().unwrap()), reached.parse().unwrap());
        }
    }

    #[tokio::test]
    async fn a_port_nobody_listens_on_is_not_well() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap();
        assert!(all_accept(vec![port]).await);
        drop(listener);
        assert!(!all_accept(vec![port]).await);
    }
}
