//! When a fault strikes: at a chosen place between two VRRP advertisements.
//!
//! How long a power cut lasts depends on how long ago the Active was last heard, so a handful of
//! faults at random moments says little about the middle. The rounds share one interval evenly
//! instead. `after_advert` is the arithmetic; the rest is one raw socket on the client's host,
//! which hears what the switch floods.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{sleep_until, timeout};

use super::namespaces::Host;

/// Where VRRP routers talk (RFC 5798, 5.1.1.2.1), and their IP protocol number.
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const PROTOCOL: i32 = 112;

/// The place of one fault among all of a run.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Which round, from 0.
    pub round: u32,
    /// Of how many.
    pub of: u32,
    /// Between two advertisements.
    pub interval: Duration,
}

impl Place {
    /// How long after an advertisement the fault strikes: the middle of this round's share.
    fn after_advert(self) -> Duration {
        self.interval.mul_f64((f64::from(self.round) + 0.5) / f64::from(self.of.max(1)))
    }
}

/// The ear for advertisements.
pub struct Adverts {
    /// A raw socket; of what tokio has, a datagram socket reads it as it is.
    socket: UdpSocket,
}

impl Adverts {
    /// Opens it on `host`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The raw socket could not be made or not join the group.
    pub fn listen(host: &Host) -> io::Result<Self> {
        let address = host.address();
        let socket = host.within(|| {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(PROTOCOL)))?;
            socket.join_multicast_v4(&GROUP, &address)?;
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        })??;
        Ok(Self { socket: UdpSocket::from_std(OwnedFd::from(socket).into())? })
    }

    /// Waits for the next advertisement of `active` and then for the moment at `place` after it.
    /// Returns at once if none comes within two intervals: then any moment is as good.
    pub async fn moment(&self, active: Ipv4Addr, place: Place) {
        let heard = timeout(place.interval * 2, self.next_of(active)).await;
        if let Ok(Ok(heard)) = heard {
            sleep_until((heard + place.after_advert()).into()).await;
        }
    }

    async fn next_of(&self, active: Ipv4Addr) -> io::Result<Instant> {
        let mut packet = [0u8; 256];
        // Whatever came before anybody waited says nothing about now.
        while self.socket.try_recv(&mut packet).is_ok() {}
        loop {
            let (_length, from) = self.socket.recv_from(&mut packet).await?;
            if from.ip() == IpAddr::V4(active) {
                return Ok(Instant::now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rounds_share_one_interval_evenly() {
        let interval = Duration::from_millis(100);
        let table: [(u32, &[u64]); 4] =
            [(1, &[50]), (2, &[25, 75]), (4, &[12, 37, 62, 87]), (5, &[10, 30, 50, 70, 90])];
        for (of, expected) in table {
            let moments = (0..of).map(|round| Place { round, of, interval }.after_advert());
            let moments: Vec<u64> =
                moments.map(|moment| u64::try_from(moment.as_millis()).unwrap()).collect();
            assert_eq!(moments, expected, "{of} rounds");
        }
    }

    #[test]
    fn a_fault_strikes_before_the_next_advertisement_however_many_rounds() {
        let interval = Duration::from_millis(10);
        let last = Place { round: 999, of: 1000, interval };
        assert!(last.after_advert() < interval);
    }
}
