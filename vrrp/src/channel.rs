//! One address family on one interface: who is listened to, who is watched for, and how much.
//!
//! A family that is missing (IPv6 switched off, no link-local address yet) leaves its virtual
//! routers in Initialize; the others are not concerned.

use std::{
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    config::{Family, RouterConfig},
    error::PacketError,
    interface::Interface,
    link::{Claim, Claims, Receiver, filter::Wanted},
    packet::{Datagram, TTL},
    storm::{Alarm, StormGuard},
    virtual_address::VirtualAddress,
};

/// How often snooping switches are reminded of us; they forget after a few minutes.
const REJOIN: Duration = Duration::from_secs(60);

/// The receiving side of a family.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) family: Family,
    addresses: Vec<IpAddr>,
    wanted: Wanted,
    receiver: Option<Receiver>,
    claims: Option<Claims>,
    rejoin: Instant,
    guard: StormGuard,
    alarm: Alarm,
    /// How often the kernel was told to filter.
    pub(crate) storms: u64,
    /// What opening failed with last, so that it is told once.
    failure: Option<io::ErrorKind>,
}

impl Channel {
    /// The channel of a family for `routers`, which are all those on one interface; `None`: none of
    /// them is of that family. Its sockets are opened by [`Self::open`].
    pub(crate) fn new(family: Family, routers: &[&RouterConfig]) -> Option<Self> {
        // Watched are also addresses that only move along with a router of the other family.
        let held = routers.iter().flat_map(|router| router.held());
        let addresses = held.map(VirtualAddress::address);
        let of_family = |router: &&&RouterConfig| router.family() == family;
        let talking: Vec<_> = routers.iter().filter(of_family).copied().collect();
        (!talking.is_empty()).then(|| Self {
            family,
            addresses: addresses.filter(|address| Family::of(address) == family).collect(),
            wanted: wanted(&talking),
            receiver: None,
            claims: None,
            rejoin: Instant::now() + REJOIN,
            guard: StormGuard::default(),
            alarm: Alarm::default(),
            storms: 0,
            failure: None,
        })
    }

    /// Opens the sockets unless they are open.
    pub(crate) fn open(&mut self, interface: &Interface) -> io::Result<()> {
        if self.receiver.is_none() {
            self.receiver = Some(Receiver::open(interface, self.family)?);
            self.guard = StormGuard::default();
        }
        if self.claims.is_none() {
            self.claims = Some(Claims::open(interface, self.family, &self.addresses)?);
        }
        Ok(())
    }

    /// Like [`Self::open`], for a system that may lack the family: that is told once.
    pub(crate) fn try_open(&mut self, interface: &Interface) {
        let failure = self.open(interface).err();
        let kind = failure.as_ref().map(io::Error::kind);
        if let Some(error) = failure
            && kind != self.failure
        {
            let (interface, family) = (interface.name.as_str(), self.family);
            tracing::warn!(
                interface,
                %family,
                %error,
                "the address family cannot be used; its virtual routers wait for it"
            );
        }
        self.failure = kind;
    }

    /// Takes the sockets of an interface that is gone, for [`bury`].
    pub(crate) fn take_sockets(&mut self) -> (Option<Receiver>, Option<Claims>) {
        (self.receiver.take(), self.claims.take())
    }

    /// Whether it can be listened to.
    pub(crate) fn is_open(&self) -> bool {
        self.receiver.is_some()
    }

    /// The next packet; `None`: there is none.
    pub(crate) fn receive<'a>(
        &self,
        buffer: &'a mut [u8],
    ) -> io::Result<Option<Result<Datagram<'a>, PacketError>>> {
        self.receiver.as_ref().map_or(Ok(None), |receiver| receiver.receive(buffer))
    }

    /// The next claim of somebody else to one of our addresses.
    pub(crate) fn next_claim(&self) -> Option<Claim> {
        self.claims.as_ref()?.next()
    }

    /// What to wait for.
    pub(crate) fn sources(&self) -> (Option<&Receiver>, Option<&Claims>) {
        (self.receiver.as_ref(), self.claims.as_ref())
    }

    /// Notes that a packet was refused; a storm of them is handed to the kernel.
    pub(crate) fn refused(&mut self, interface: &str, now: Instant) {
        if !self.guard.refused(now) {
            return;
        }
        self.storms += 1;
        let narrowed = self.receiver.as_ref().map(|receiver| receiver.narrow(Some(&self.wanted)));
        if self.alarm.may_ring(now) {
            let (family, count) = (self.family, self.storms);
            tracing::warn!(
                interface,
                %family,
                count,
                error = ?narrowed.and_then(Result::err),
                "a storm of vrrp packets that are not for us; the kernel drops them for a while"
            );
        }
    }

    /// When [`Self::attend`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let rejoin = self.receiver.as_ref().map(|_| self.rejoin);
        [rejoin, self.guard.poll_timeout()].into_iter().flatten().min()
    }

    /// Does what is due: reminds the switches, looks at everything again after a storm.
    pub(crate) fn attend(&mut self, now: Instant) {
        let Some(receiver) = &self.receiver else { return };
        if now >= self.rejoin {
            self.rejoin = now + REJOIN;
            if let Err(error) = receiver.rejoin() {
                tracing::debug!(%error, "joining the vrrp group again failed");
            }
        }
        if self.guard.is_over(now)
            && let Err(error) = receiver.narrow(None)
        {
            tracing::warn!(%error, "the filter against the storm stays");
        }
    }
}

/// Closes sockets on a thread of their own: it waits for the kernel.
pub(crate) fn bury(sockets: impl Send + 'static) {
    // Where no thread can be started they are closed here, and the advertisements of the other
    // interfaces are late once.
    drop(std::thread::Builder::new().spawn(move || drop(sockets)));
}

fn wanted(routers: &[&RouterConfig]) -> Wanted {
    let vrids = routers.iter().map(|router| router.vrid().as_u8()).collect();
    let is_unicast = |router: &&&RouterConfig| router.dialect().unicast().is_some();
    let ttl = routers.iter().find(is_unicast).is_none().then_some(TTL);
    let mut sources = Vec::new();
    for router in routers {
        let peers = router.dialect().unicast().map(|unicast| unicast.peers());
        match (router.dialect().members(), peers) {
            // One listens to everybody, so the kernel must let everybody through.
            ([], None) => {
                sources.clear();
                break;
            }
            ([], Some(peers)) => sources.extend_from_slice(peers),
            (members, _) => sources.extend_from_slice(members),
        }
    }
    Wanted { vrids, ttl, sources }
}
