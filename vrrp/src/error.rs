//! Everything that can go wrong in this crate: refused configuration, refused packets, and system
//! calls that failed.
//!
//! Packets come from strangers, so every reason to refuse one is a variant of [`PacketError`] and
//! a counter of [`PacketErrors`]. Nothing a packet holds can become an [`Error`].

use std::{io, net::IpAddr, sync::Arc};

/// A configuration value that VRRP cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// RFC 9568 section 5.2.3: VRIDs are 1 to 255.
    #[error("vrid: 0 is not a virtual router id; use 1-255")]
    Vrid,
    /// 0 means "I stop now" and 255 "I own the address"; neither can be configured.
    #[error("priority: {0} is not allowed; use 1-254 (255 is for owners of the address)")]
    Priority(u8),
    /// The wire field holds 12 bits of centiseconds, of which 0 is refused by every receiver.
    #[error("interval: {0} ms is not allowed; use 10-40950 ms in steps of 10 ms")]
    Interval(u128),
    /// A virtual router without an address protects nothing.
    #[error("addresses: at least one virtual address is needed")]
    NoAddress,
    /// The wire field that counts addresses has eight bits.
    #[error("addresses: {0} virtual addresses found, at most 255 fit into an advertisement")]
    TooManyAddresses(usize),
    /// Multicast, loopback, unspecified and broadcast addresses cannot be taken over.
    #[error("addresses: {0} is not a unicast host address")]
    NotUnicast(IpAddr),
    /// The same address twice in one virtual router, or in two of one speaker.
    #[error("addresses: {0} is listed twice")]
    DuplicateAddress(IpAddr),
    /// An advertisement carries addresses of the family it travels in.
    #[error("addresses: {0} is of another family than the first address")]
    MixedFamilies(IpAddr),
    /// Names tell virtual routers apart in logs, metrics and commands.
    #[error("name: {0} is used by two virtual routers")]
    DuplicateName(Arc<str>),
    /// Two virtual routers of one speaker share a VRID.
    #[error("vrid: {0} is used twice on one interface and in one address family")]
    DuplicateVrid(u8),
    /// A speaker without virtual routers has nothing to say.
    #[error("routers: at least one virtual router is needed")]
    NoRouter,
    /// The lease must survive a few missed refreshes.
    #[error("lease: {0} s is not allowed; use 2-3600 s")]
    Lease(u32),
    /// A weight that outweighs every priority says nothing more than one that reaches them all.
    #[error("track: weight {0} is not allowed; use -254 to 254")]
    Weight(i16),
    /// Names tell trackers apart in reasons.
    #[error("track: {0} is tracked twice")]
    DuplicateTracker(Arc<str>),
    /// Whoever waits longer does not want preemption at all.
    #[error("preempt_delay: {0} s is not allowed; use 0-1000 s")]
    PreemptDelay(u64),
    /// Authentication Data of version 2 has eight octets.
    #[error("password: {0} octets found, 1-8 fit; the last must not be zero")]
    Password(usize),
    /// VRRPv2 is a protocol of IPv4.
    #[error("version: 2 is for ipv4 addresses only; {0} needs version 3")]
    VersionFamily(IpAddr),
    /// The wire field of version 2 holds whole seconds.
    #[error("interval: {0} ms is not allowed in version 2; use whole seconds")]
    IntervalVersion(u128),
    /// A peer, a member or the source is of another family than the virtual addresses.
    #[error("{what}: {address} is not of the family of the virtual addresses")]
    Family {
        /// Which list it stands in, such as "unicast peers".
        what: &'static str,
        /// The address.
        address: IpAddr,
    },
    /// A prefix length that does not exist in the family of the address.
    #[error("addresses: {address}/{prefix} has no such prefix length")]
    PrefixLength {
        /// The virtual address.
        address: IpAddr,
        /// The prefix length found.
        prefix: u8,
    },
    /// Not an address with or without prefix length.
    #[error("addresses: {0:?} is not an address")]
    NoAddressText(String),
    /// The MAC address of a virtual router follows from its VRID, and so does its interface.
    #[error("virtual_mac: vrid {0} has one on two interfaces; use another vrid")]
    DuplicateVirtualMac(u8),
    /// Unicast needs somebody to send to.
    #[error("unicast peers: at least one is needed")]
    NoPeer,
}

/// Why a received packet was refused (RFC 9568 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PacketError {
    /// Not a whole IPv4 header of protocol 112, or less than its total length arrived.
    #[error("the ip header is not a whole ipv4 header of protocol 112")]
    IpHeader,
    /// The message is shorter than its fixed part of eight bytes.
    #[error("the message is shorter than 8 bytes")]
    Truncated,
    /// The packet was forwarded by a router, or forged by someone who is not on this segment.
    #[error("the ttl is {0}, expected 255")]
    Ttl(u8),
    /// Another version of the protocol than this virtual router speaks; both use the same group.
    #[error("the version is {0}, which is not the configured one")]
    Version(u8),
    /// Only type 1, ADVERTISEMENT, exists.
    #[error("the type is {0}, expected 1")]
    Type(u8),
    /// The address count is zero (section 5.2.5).
    #[error("the address count is 0")]
    CountZero,
    /// The length does not follow from the address count.
    #[error("the message is {found} bytes long, expected {expected}")]
    Length {
        /// Bytes that arrived.
        found: usize,
        /// Bytes the address count asks for.
        expected: usize,
    },
    /// None of the checksum forms in use fits.
    #[error("the checksum is wrong")]
    Checksum,
    /// VRID 0 does not exist (section 5.2.3).
    #[error("the vrid is 0")]
    VridZero,
    /// An interval of zero would make every timer expire at once.
    #[error("the advertisement interval is 0")]
    IntervalZero,
    /// A sound packet of a virtual router that is not configured here.
    #[error("the vrid {0} is not configured on this interface")]
    ForeignVrid(u8),
    /// The sender is not among the members of this virtual router: a misconfigured host, or one
    /// that wants the addresses.
    #[error("the sender is not a member of this virtual router")]
    Stranger,
    /// A unicast packet from somebody who is not a configured peer.
    #[error("the sender is not a unicast peer of this virtual router")]
    UnknownPeer,
    /// Sent to the group where unicast is configured, or the other way round.
    #[error("it was sent by {}, expected {}", cast(*.multicast), cast(!*.multicast))]
    Cast {
        /// Whether it was sent to the group.
        multicast: bool,
    },
    /// Version 2 with an authentication nobody here knows.
    #[error("the authentication type is {0}, expected 0 or 1")]
    AuthenticationType(u8),
    /// Version 2 with a password where none is configured, or without where one is.
    #[error("the sender {} a password", if *.offered { "sent" } else { "did not send" })]
    Authentication {
        /// Whether there was one.
        offered: bool,
    },
    /// Version 2 with the wrong password.
    #[error("the password is wrong")]
    Password,
    /// Version 2 with another interval than ours (RFC 3768 section 7.1).
    #[error("the interval is {found} s, expected {expected} s")]
    IntervalMismatch {
        /// What the sender says.
        found: u8,
        /// What is configured.
        expected: u8,
    },
    /// Version 2 with other virtual addresses than ours (RFC 3768 section 7.1).
    #[error("the virtual addresses are not the configured ones")]
    AddressMismatch,
}

fn cast(multicast: bool) -> &'static str {
    if multicast { "multicast" } else { "unicast" }
}

/// How many packets were refused, by reason. Counts since the speaker was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketErrors {
    /// See [`PacketError::IpHeader`].
    pub ip_header: u64,
    /// See [`PacketError::Truncated`].
    pub truncated: u64,
    /// See [`PacketError::Ttl`].
    pub ttl: u64,
    /// See [`PacketError::Version`].
    pub version: u64,
    /// See [`PacketError::Type`].
    pub kind: u64,
    /// See [`PacketError::CountZero`].
    pub count_zero: u64,
    /// See [`PacketError::Length`].
    pub length: u64,
    /// See [`PacketError::Checksum`].
    pub checksum: u64,
    /// See [`PacketError::VridZero`].
    pub vrid_zero: u64,
    /// See [`PacketError::IntervalZero`].
    pub interval_zero: u64,
    /// See [`PacketError::ForeignVrid`].
    pub foreign_vrid: u64,
    /// See [`PacketError::Stranger`].
    pub stranger: u64,
    /// See [`PacketError::UnknownPeer`].
    pub unknown_peer: u64,
    /// See [`PacketError::Cast`].
    pub cast: u64,
    /// See [`PacketError::AuthenticationType`].
    pub authentication_type: u64,
    /// See [`PacketError::Authentication`].
    pub authentication: u64,
    /// See [`PacketError::Password`].
    pub password: u64,
    /// See [`PacketError::IntervalMismatch`].
    pub interval_mismatch: u64,
    /// See [`PacketError::AddressMismatch`].
    pub address_mismatch: u64,
}

impl PacketErrors {
    /// Counts one refused packet and returns the new count of its kind.
    pub fn count(&mut self, error: PacketError) -> u64 {
        let counter = match error {
            PacketError::IpHeader => &mut self.ip_header,
            PacketError::Truncated => &mut self.truncated,
            PacketError::Ttl(_) => &mut self.ttl,
            PacketError::Version(_) => &mut self.version,
            PacketError::Type(_) => &mut self.kind,
            PacketError::CountZero => &mut self.count_zero,
            PacketError::Length { .. } => &mut self.length,
            PacketError::Checksum => &mut self.checksum,
            PacketError::VridZero => &mut self.vrid_zero,
            PacketError::IntervalZero => &mut self.interval_zero,
            PacketError::ForeignVrid(_) => &mut self.foreign_vrid,
            PacketError::Stranger => &mut self.stranger,
            PacketError::UnknownPeer => &mut self.unknown_peer,
            PacketError::Cast { .. } => &mut self.cast,
            PacketError::AuthenticationType(_) => &mut self.authentication_type,
            PacketError::Authentication { .. } => &mut self.authentication,
            PacketError::Password => &mut self.password,
            PacketError::IntervalMismatch { .. } => &mut self.interval_mismatch,
            PacketError::AddressMismatch => &mut self.address_mismatch,
        };
        *counter = counter.saturating_add(1);
        *counter
    }

    /// Every kind with its count, for metrics: `("checksum", 3)`.
    pub fn by_kind(&self) -> [(&'static str, u64); 19] {
        [
            ("ip_header", self.ip_header),
            ("truncated", self.truncated),
            ("ttl", self.ttl),
            ("version", self.version),
            ("type", self.kind),
            ("count_zero", self.count_zero),
            ("length", self.length),
            ("checksum", self.checksum),
            ("vrid_zero", self.vrid_zero),
            ("interval_zero", self.interval_zero),
            ("foreign_vrid", self.foreign_vrid),
            ("stranger", self.stranger),
            ("unknown_peer", self.unknown_peer),
            ("cast", self.cast),
            ("authentication_type", self.authentication_type),
            ("authentication", self.authentication),
            ("password", self.password),
            ("interval_mismatch", self.interval_mismatch),
            ("address_mismatch", self.address_mismatch),
        ]
    }
}

/// A speaker could not be started, or could not be told something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See [`ConfigError`].
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The interface does not exist in this network namespace.
    #[error("interface {0} does not exist")]
    NoInterface(String),
    /// VRRP over IPv4 announces by ARP, so the interface must be an Ethernet.
    #[error("interface {0} has no ethernet address")]
    NotEthernet(String),
    /// A virtual address is configured on the interface by other means.
    #[error(
        "{address}/{prefix} is configured on {interface}, but it is a virtual address; \
         remove it from the network configuration of this host"
    )]
    StaticAddress {
        /// Where it was found.
        interface: String,
        /// The virtual address.
        address: IpAddr,
        /// The prefix it was found with; our own addresses always have 32.
        prefix: u8,
    },
    /// A system call failed; most often a missing capability.
    #[error("{what} failed; cap_net_raw and cap_net_admin are needed")]
    System {
        /// What was attempted, such as "opening the raw socket".
        what: &'static str,
        /// The answer of the kernel.
        #[source]
        source: io::Error,
    },
    /// The kernel answered a netlink request in an unexpected way.
    #[error("netlink: unexpected answer to {0}")]
    Netlink(&'static str),
    /// No virtual router with this name is configured.
    #[error("virtual router {0} is not configured on this speaker")]
    UnknownRouter(String),
    /// The thread of the speaker has ended.
    #[error("the vrrp thread has ended")]
    Stopped,
}

/// Shorthand for `map_err`: names the step a system call belongs to.
pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { what, source }
}
