//! A virtual router in its seat: its way to send, and what is counted about it.

use std::{
    io,
    net::IpAddr,
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    addresses::Found,
    announce::Mac,
    checksum::ChecksumForm,
    config::RouterConfig,
    error::PacketErrors,
    event::{Reason, State},
    guardian::Estate,
    link::Sender,
    packet::{Advertisement, Datagram, Format},
    router::VirtualRouter,
    status::{PeerStatus, RouterStatus},
    storm::Alarm,
    terms::Terms,
    virtual_address::VirtualAddress,
    virtual_mac::VirtualMac,
};

/// So many senders of one virtual router are told apart; more are counted together with the last.
const PEERS: usize = 16;
/// While two nodes change places both may announce the address; nobody is told of that.
const SETTLED: Duration = Duration::from_secs(1);

/// A virtual router and what is counted about it.
pub(super) struct Seat {
    pub(super) router: VirtualRouter,
    config: RouterConfig,
    /// Its interface among the ports.
    pub(super) port: usize,
    sender: Option<Sender>,
    /// Where it has its addresses, if not on the interface itself.
    pub(super) virtual_mac: Option<VirtualMac>,
    /// Where its advertisements come from, while it can send.
    pub(super) source: Option<IpAddr>,
    pub(super) since: Instant,
    pub(super) last_reason: Option<Reason>,
    adverts_in: u64,
    adverts_out: u64,
    send_errors: u64,
    address_errors: u64,
    /// Checksum form of whoever was Active last.
    heard: Option<ChecksumForm>,
    with_pseudo_header: u64,
    message_only: u64,
    peers: Vec<PeerStatus>,
    duplicates: u64,
    duplicate: Option<Mac>,
    duplicate_alarm: Alarm,
    /// Who else was last seen to have an address.
    claimed: Option<(IpAddr, Mac)>,
    /// An address this host has although it is not Active.
    misplaced: Option<IpAddr>,
    misplaced_alarm: Alarm,
    pub(super) removals: u64,
    pub(super) removal_alarm: Alarm,
}

impl Seat {
    pub(super) fn new(config: RouterConfig, port: usize, now: Instant) -> Self {
        Self {
            router: VirtualRouter::new(config.clone()),
            config,
            port,
            sender: None,
            virtual_mac: None,
            source: None,
            since: now,
            last_reason: None,
            adverts_in: 0,
            adverts_out: 0,
            send_errors: 0,
            address_errors: 0,
            heard: None,
            with_pseudo_header: 0,
            message_only: 0,
            peers: Vec::new(),
            duplicates: 0,
            duplicate: None,
            duplicate_alarm: Alarm::default(),
            claimed: None,
            misplaced: None,
            misplaced_alarm: Alarm::default(),
            removals: 0,
            removal_alarm: Alarm::default(),
        }
    }

    pub(super) fn config(&self) -> &RouterConfig {
        &self.config
    }

    pub(super) fn name(&self) -> &str {
        self.config.name()
    }

    pub(super) fn terms(&self) -> Terms<'_> {
        Terms {
            dialect: self.config.dialect(),
            interval: self.config.interval(),
            addresses: self.config.addresses(),
        }
    }

    /// Whether it has what it needs on its interface: a socket, and its own MAC address if it is to
    /// have one.
    pub(super) fn is_equipped(&self) -> bool {
        self.sender.is_some() && self.config.virtual_mac() == self.virtual_mac.is_some()
    }

    /// Sets the socket, and returns the one it had.
    pub(super) fn set_sender(&mut self, sender: io::Result<Sender>) -> Option<Sender> {
        let sender = sender.inspect_err(|error| {
            let router = self.name();
            tracing::debug!(router, %error, "opening the sending raw socket failed");
        });
        std::mem::replace(&mut self.sender, sender.ok())
    }

    /// Whether the kernel lets it send from `source`.
    pub(super) fn may_send_from(&self, source: IpAddr) -> bool {
        let Some(sender) = &self.sender else { return false };
        match sender.set_source(source) {
            Ok(()) => true,
            Err(error) => {
                let router = self.name();
                tracing::warn!(router, %source, %error, "the source address cannot be used");
                false
            }
        }
    }

    /// Sends an advertisement to whom it may concern.
    pub(super) fn send(&mut self, advertisement: &Advertisement) {
        let (Some(source), Some(sender)) = (self.source, &self.sender) else { return };
        let format = self.config.dialect().format(self.heard);
        let mut failure = None;
        for destination in self.config.destinations() {
            let message = advertisement.emit(source, *destination, format);
            if let Err(error) = sender.send(&message, *destination) {
                failure = Some(error);
            }
        }
        match failure {
            None => self.adverts_out += 1,
            Some(error) => self.note_send_error(&error),
        }
    }

    /// What a guardian must know to speak in place of this router; `None`: there is no socket for
    /// it, and nothing that would have been said through one.
    pub(super) fn estate(&self, interface: u32) -> Option<Estate<'_>> {
        let own = self.virtual_mac.as_ref().map(|own| own.interface.index);
        Some(Estate {
            holding: own.unwrap_or(interface),
            router: &self.router,
            config: &self.config,
            source: self.source,
            format: self.config.dialect().format(self.heard),
            sender: self.sender.as_ref()?.as_fd(),
            interface,
        })
    }

    pub(super) fn note_send_error(&mut self, error: &io::Error) {
        self.send_errors += 1;
        if self.send_errors.is_power_of_two() {
            let (router, count) = (self.name(), self.send_errors);
            tracing::warn!(router, count, %error, "vrrp cannot send");
        }
    }

    pub(super) fn note_address_error(&mut self, address: IpAddr, error: &io::Error) {
        self.address_errors += 1;
        if self.address_errors.is_power_of_two() {
            let (router, count) = (self.name(), self.address_errors);
            tracing::error!(router, %address, count, %error, "virtual address not changed");
        }
    }

    /// Notes an advertisement that is listened to.
    pub(super) fn note_heard(
        &mut self,
        datagram: &Datagram<'_>,
        advertisement: &Advertisement,
        format: Format,
        now: Instant,
    ) {
        self.adverts_in += 1;
        let source = datagram.source;
        let form = match format {
            Format::V3(form) if source.is_ipv4() => Some(form),
            _ => None,
        };
        match form {
            Some(ChecksumForm::PseudoHeader) => self.with_pseudo_header += 1,
            Some(ChecksumForm::MessageOnly) => self.message_only += 1,
            None => {}
        }
        if advertisement.priority > 0 && Some(source) != self.source {
            self.heard = form;
        }
        let known = self.peers.iter().position(|peer| peer.source == source);
        if known.is_none() && self.peers.len() < PEERS {
            if form == Some(ChecksumForm::MessageOnly) {
                let router = self.name();
                tracing::info!(router, %source, "this speaker leaves the pseudo-header out of the \
                    checksum, as rfc 9568 has it");
            }
            self.peers.push(PeerStatus {
                source,
                priority: advertisement.priority,
                adverts: 0,
                last_heard: now,
                checksum: form,
            });
        }
        let index = known.unwrap_or(self.peers.len().saturating_sub(1));
        if let Some(peer) = self.peers.get_mut(index) {
            peer.source = source;
            peer.priority = advertisement.priority;
            peer.adverts += 1;
            peer.last_heard = now;
            peer.checksum = form;
        }
    }

    /// Whether it has been Active for so long that nobody else can be by rights.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.router.state() == State::Active && now >= self.since + SETTLED
    }

    /// Whether a MAC address is the virtual router's own, whichever node has it.
    pub(super) fn is_own(&self, mac: Mac) -> bool {
        self.virtual_mac.as_ref().is_some_and(|own| own.interface.mac == mac)
    }

    /// Notes that somebody else says to have one of the addresses.
    pub(super) fn note_claim(&mut self, address: IpAddr, mac: Mac, now: Instant) {
        self.claimed = Some((address, mac));
        if self.is_settled(now) {
            self.alarm_of_duplicate(address, mac, now);
        }
    }

    /// Looks back, when the router became Active without ever having heard another one: did somebody
    /// answer for an address? That was no predecessor.
    pub(super) fn look_for_duplicate(&mut self, now: Instant) {
        if let Some((address, mac)) = self.claimed
            && self.adverts_in == 0
        {
            self.alarm_of_duplicate(address, mac, now);
        }
    }

    /// Looks for an address that somebody put on our interface while it is another node's.
    pub(super) fn look_for_misplaced(&mut self, present: &[Found], now: Instant) {
        let mut held = self.config.held().iter().map(VirtualAddress::address);
        let misplaced = held.find(|held| present.iter().any(|found| found.address == *held));
        let is_news = misplaced != self.misplaced;
        self.misplaced = misplaced;
        if let Some(address) = misplaced
            && is_news
            && self.misplaced_alarm.may_ring(now)
        {
            let router = self.name();
            tracing::error!(
                router,
                %address,
                "someone gave this host a virtual address while it is not active; clients reach \
                 this host or the active one"
            );
        }
    }

    fn alarm_of_duplicate(&mut self, address: IpAddr, mac: Mac, now: Instant) {
        self.duplicates += 1;
        self.duplicate = Some(mac);
        if self.duplicate_alarm.may_ring(now) {
            let (router, count) = (self.name(), self.duplicates);
            let [a, b, c, d, e, f] = mac;
            let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
            tracing::error!(
                router,
                %address,
                mac,
                count,
                "another host has this virtual address as well; clients reach one or the other"
            );
        }
    }

    pub(super) fn status(&self, errors: PacketErrors, storms: u64) -> RouterStatus {
        RouterStatus {
            name: Arc::clone(self.config.name()),
            interface: Arc::clone(self.config.interface()),
            vrid: self.router.vrid().as_u8(),
            addresses: self.router.addresses().to_vec(),
            state: self.router.state(),
            since: self.since,
            priority: self.router.priority().as_u8(),
            base_priority: self.router.base_priority().as_u8(),
            adjustments: self.router.adjustments(),
            faults: self.router.faults(),
            sync_group: self.router.sync_group().map(Arc::clone),
            permission: self.router.permission(),
            held: self.router.is_held(),
            hold: self.router.hold(),
            peer: self.router.peer(),
            version: self.config.dialect().version(),
            source: self.source,
            peers: self.peers.clone(),
            adverts_in: self.adverts_in,
            adverts_out: self.adverts_out,
            adverts_with_pseudo_header: self.with_pseudo_header,
            adverts_message_only: self.message_only,
            send_errors: self.send_errors,
            address_errors: self.address_errors,
            late: self.router.lateness(),
            removals: self.removals,
            duplicates: self.duplicates,
            duplicate: self.duplicate,
            misplaced: self.misplaced.filter(|_| self.router.state() != State::Active),
            anomalies: self.router.anomalies(),
            errors,
            storms,
            last_reason: self.last_reason.clone(),
        }
    }
}
