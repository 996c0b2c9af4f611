//! What a virtual router is told at start. Illegal values cannot be built. Sans-io.
//!
//! Whether a configured VRID collides with a stranger's is seen only on the wire; there is
//! deliberately no default VRID.

use std::{fmt, net::IpAddr, num::NonZeroU8, sync::Arc, time::Duration};

use crate::{
    dialect::Dialect,
    error::ConfigError,
    packet::{GROUP, GROUP_V6, Version},
    tracking::Tracker,
    virtual_address::VirtualAddress,
};

/// As long as keepalived allows.
const MAX_PREEMPT_DELAY: Duration = Duration::from_secs(1000);

/// The address family of a virtual router. The same VRID in the other family is another router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        })
    }
}

/// Identifier of a virtual router on one interface, 1 to 255 (RFC 9568 section 5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vrid(NonZeroU8);

impl Vrid {
    /// Refuses 0.
    pub fn new(vrid: u8) -> Result<Self, ConfigError> {
        NonZeroU8::new(vrid).map(Self).ok_or(ConfigError::Vrid)
    }

    /// The number itself.
    pub fn as_u8(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Priority of a virtual router on this node, 1 to 254.
///
/// 255 is reserved to the host whose own address the virtual one is (section 5.2.4). Our virtual
/// addresses are nobody's own, and an owner would start as Active, so 255 is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Priority(u8);

impl Priority {
    /// The highest priority of a router that does not own the address. Near the top Skew_Time
    /// all but vanishes, which is why it is the default.
    pub const HIGHEST: Self = Self(254);

    /// Refuses 0 and 255.
    pub fn new(priority: u8) -> Result<Self, ConfigError> {
        match priority {
            1..=254 => Ok(Self(priority)),
            _ => Err(ConfigError::Priority(priority)),
        }
    }

    /// The number itself.
    pub fn as_u8(self) -> u8 {
        self.0
    }
}

/// Time between two advertisements: 1 to 4095 centiseconds (section 5.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interval(u16);

impl Interval {
    /// 100 ms. The RFC's one second makes every power cut an outage of three.
    pub const DEFAULT: Self = Self(10);

    /// The unit of version 2.
    pub(crate) const SECOND: Self = Self(100);

    /// Refuses 0 and everything above 4095.
    pub fn from_centiseconds(centiseconds: u16) -> Result<Self, ConfigError> {
        match centiseconds {
            1..=4095 => Ok(Self(centiseconds)),
            _ => Err(ConfigError::Interval(u128::from(centiseconds) * 10)),
        }
    }

    /// Refuses durations that are not a whole number of centiseconds.
    pub fn from_duration(duration: Duration) -> Result<Self, ConfigError> {
        let refused = || ConfigError::Interval(duration.as_millis());
        if !duration.as_nanos().is_multiple_of(10_000_000) {
            return Err(refused());
        }
        let centiseconds =
            u16::try_from(duration.as_nanos() / 10_000_000).map_err(|_| refused())?;
        Self::from_centiseconds(centiseconds)
    }

    /// The unit of version 2: 1 to 255 whole seconds. Refuses 0.
    pub fn from_seconds(seconds: u8) -> Result<Self, ConfigError> {
        match seconds {
            1.. => Ok(Self(u16::from(seconds) * 100)),
            0 => Err(ConfigError::Interval(0)),
        }
    }

    /// In the unit of version 2, rounded down but never to 0.
    pub(crate) fn in_seconds(self) -> u8 {
        u8::try_from(self.0 / 100).unwrap_or(u8::MAX).max(1)
    }

    /// The unit of the wire.
    pub fn as_centiseconds(self) -> u16 {
        self.0
    }

    /// The unit of all arithmetic.
    pub fn as_micros(self) -> u64 {
        u64::from(self.0) * 10_000
    }

    /// The same as a [`Duration`].
    pub fn as_duration(self) -> Duration {
        Duration::from_micros(self.as_micros())
    }
}

/// One virtual router: who it is, what it protects, how eager it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterConfig {
    name: Arc<str>,
    interface: Arc<str>,
    vrid: Vrid,
    addresses: Vec<IpAddr>,
    priority: Priority,
    interval: Interval,
    preempt: bool,
    preempt_delay: Duration,
    permission: bool,
    second_opinion: bool,
    trackers: Vec<Tracker>,
    sync_group: Option<Arc<str>>,
    dialect: Dialect,
    held: Vec<VirtualAddress>,
    virtual_mac: bool,
}

impl RouterConfig {
    /// A virtual router on `interface` with the defaults: priority 254, interval 100 ms,
    /// preempting, permitted to become Active. Its name is `<interface>-<vrid>`, with `-v6` behind
    /// it for IPv6.
    ///
    /// # Errors
    /// VRID 0; no address, more than 255, one that is not a unicast host address, one twice, or
    /// addresses of both families.
    pub fn new(interface: &str, vrid: u8, addresses: Vec<IpAddr>) -> Result<Self, ConfigError> {
        let vrid = Vrid::new(vrid)?;
        let family = addresses.first().map(Family::of).ok_or(ConfigError::NoAddress)?;
        if addresses.len() > usize::from(u8::MAX) {
            return Err(ConfigError::TooManyAddresses(addresses.len()));
        }
        let mut held = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            held.push(VirtualAddress::host(*address)?);
            if Family::of(address) != family {
                return Err(ConfigError::MixedFamilies(*address));
            }
            if addresses[..index].contains(address) {
                return Err(ConfigError::DuplicateAddress(*address));
            }
        }
        let name = match family {
            Family::V4 => format!("{interface}-{vrid}"),
            Family::V6 => format!("{interface}-{vrid}-v6"),
        };
        Ok(Self {
            name: name.into(),
            interface: interface.into(),
            vrid,
            addresses,
            priority: Priority::HIGHEST,
            interval: Interval::DEFAULT,
            preempt: true,
            preempt_delay: Duration::ZERO,
            permission: true,
            second_opinion: false,
            trackers: Vec::new(),
            sync_group: None,
            dialect: Dialect::default(),
            held,
            virtual_mac: false,
        })
    }

    /// Sets the name, which tells it from all others of this host.
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the priority at start, 1 to 254. Give every node of one virtual router another one.
    pub fn with_priority(mut self, priority: u8) -> Result<Self, ConfigError> {
        self.priority = Priority::new(priority)?;
        Ok(self)
    }

    /// Sets Advertisement_Interval: 10 ms to 40.95 s in steps of 10 ms.
    pub fn with_interval(mut self, interval: Duration) -> Result<Self, ConfigError> {
        self.interval = Interval::from_duration(interval)?;
        Ok(self)
    }

    /// Sets Preempt_Mode: whether to take over from a lower priority that is Active and well.
    pub fn with_preempt(mut self, preempt: bool) -> Self {
        self.preempt = preempt;
        self
    }

    /// Sets for how long a lower priority that is Active and well is left alone before it is taken
    /// over from: 0 to 1000 s. Not in the RFC; the meaning is keepalived's.
    ///
    /// # Errors
    /// A longer delay.
    pub fn with_preempt_delay(mut self, delay: Duration) -> Result<Self, ConfigError> {
        if delay > MAX_PREEMPT_DELAY {
            return Err(ConfigError::PreemptDelay(delay.as_secs()));
        }
        self.preempt_delay = delay;
        Ok(self)
    }

    /// Sets what is tracked besides the link.
    ///
    /// # Errors
    /// Two trackers with the same name.
    pub fn with_trackers(mut self, trackers: Vec<Tracker>) -> Result<Self, ConfigError> {
        for (index, tracker) in trackers.iter().enumerate() {
            if trackers[..index].iter().any(|other| other.name() == tracker.name()) {
                return Err(ConfigError::DuplicateTracker(Arc::clone(tracker.name())));
            }
        }
        self.trackers = trackers;
        Ok(self)
    }

    /// Sets the sync group: all routers of one host with the same word move together.
    pub fn with_sync_group(mut self, group: &str) -> Self {
        self.sync_group = Some(group.into());
        self
    }

    /// Sets whether the router may become Active before it is told so.
    pub fn with_permission(mut self, permission: bool) -> Self {
        self.permission = permission;
        self
    }

    /// Sets whether a second opinion is asked for before a silent Active is succeeded.
    pub fn with_second_opinion(mut self, second_opinion: bool) -> Self {
        self.second_opinion = second_opinion;
        self
    }

    /// Sets how it talks and to whom.
    ///
    /// # Errors
    /// Version 2 for IPv6, or a peer, member or source of the other family.
    pub fn with_dialect(mut self, dialect: Dialect) -> Result<Self, ConfigError> {
        for address in &self.addresses {
            dialect.check_family(*address)?;
        }
        self.dialect = dialect;
        Ok(self)
    }

    /// Sets the prefix length with which one of the addresses is put on the interface; /32 and
    /// /128 unless set.
    ///
    /// # Errors
    /// No such prefix length in the family.
    pub fn with_prefix_length(mut self, address: IpAddr, prefix: u8) -> Result<Self, ConfigError> {
        let of_address = |held: &&mut VirtualAddress| held.address() == address;
        if let Some(held) = self.held.iter_mut().find(of_address) {
            *held = VirtualAddress::new(address, prefix)?;
        }
        Ok(self)
    }

    /// Adds addresses of any family that move along without being advertised.
    ///
    /// # Errors
    /// An address that is held already.
    pub fn with_extra_addresses(mut self, extra: Vec<VirtualAddress>) -> Result<Self, ConfigError> {
        for address in extra {
            if self.held.iter().any(|held| held.address() == address.address()) {
                return Err(ConfigError::DuplicateAddress(address.address()));
            }
            self.held.push(address);
        }
        Ok(self)
    }

    /// Sets whether the addresses are at a MAC address of the virtual router's own, which needs an
    /// interface of its own: `vrrp.<vrid>`, or `vrrp6.<vrid>` for IPv6. All nodes must agree.
    pub fn with_virtual_mac(mut self, virtual_mac: bool) -> Self {
        self.virtual_mac = virtual_mac;
        self
    }

    /// What it is called in logs, metrics and commands.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The interface it lives on.
    pub fn interface(&self) -> &Arc<str> {
        &self.interface
    }

    /// The family of its addresses, and so of its advertisements.
    pub fn family(&self) -> Family {
        self.addresses.first().map_or(Family::V4, Family::of)
    }

    /// The identifier on the wire.
    pub fn vrid(&self) -> Vrid {
        self.vrid
    }

    /// The virtual addresses, in the order in which they are advertised.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The priority at start.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Advertisement_Interval.
    pub fn interval(&self) -> Interval {
        self.interval
    }

    /// Preempt_Mode.
    pub fn preempt(&self) -> bool {
        self.preempt
    }

    /// For how long a lower priority is left alone before it is taken over from.
    pub fn preempt_delay(&self) -> Duration {
        self.preempt_delay
    }

    /// What is tracked besides the link.
    pub fn trackers(&self) -> &[Tracker] {
        &self.trackers
    }

    /// The sync group it belongs to.
    pub fn sync_group(&self) -> Option<&Arc<str>> {
        self.sync_group.as_ref()
    }

    /// Whether the router may become Active at start.
    pub fn permission(&self) -> bool {
        self.permission
    }

    /// How it talks and to whom.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// Where its advertisements go: to the group, or to each of its unicast peers.
    pub(crate) fn destinations(&self) -> &[IpAddr] {
        match (self.dialect.unicast(), self.family()) {
            (Some(unicast), _) => unicast.peers(),
            (None, Family::V4) => &[GROUP],
            (None, Family::V6) => &[GROUP_V6],
        }
    }

    /// Everything the Active has on the interface: the advertised addresses, then those that only
    /// move along.
    pub fn held(&self) -> &[VirtualAddress] {
        &self.held
    }

    /// Whether the addresses are at a MAC address of the virtual router's own.
    pub fn virtual_mac(&self) -> bool {
        self.virtual_mac
    }

    /// Whether the values fit together, which is known only when all are set.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let interval = self.interval.as_duration();
        if self.dialect.version() == Version::V2 && interval.subsec_nanos() != 0 {
            return Err(ConfigError::IntervalVersion(interval.as_millis()));
        }
        Ok(())
    }

    /// Whether a second opinion is asked for before a silent Active is succeeded.
    pub fn second_opinion(&self) -> bool {
        self.second_opinion
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));

    #[test]
    fn defaults_are_fast_and_preempting() {
        let config = RouterConfig::new("eth0", 7, vec![VIP]).unwrap();
        assert_eq!(config.priority().as_u8(), 254);
        assert_eq!(config.interval().as_duration(), Duration::from_millis(100));
        assert!(config.preempt());
        assert!(config.permission());
    }

    #[test]
    fn illegal_values_are_refused_by_name() {
        let router = || RouterConfig::new("eth0", 7, vec![VIP]).unwrap();
        assert_eq!(RouterConfig::new("eth0", 0, vec![VIP]), Err(ConfigError::Vrid));
        assert_eq!(router().with_priority(0), Err(ConfigError::Priority(0)));
        assert_eq!(router().with_priority(255), Err(ConfigError::Priority(255)));
        for millis in [0, 5, 15, 40_960, u64::MAX / 2_000_000] {
            assert_eq!(
                router().with_interval(Duration::from_millis(millis)),
                Err(ConfigError::Interval(u128::from(millis)))
            );
        }
        assert_eq!(RouterConfig::new("eth0", 7, vec![]), Err(ConfigError::NoAddress));
        assert_eq!(
            RouterConfig::new("eth0", 7, vec![VIP, VIP]),
            Err(ConfigError::DuplicateAddress(VIP))
        );
        for address in ["0.0.0.0", "127.0.0.1", "224.0.0.18", "255.255.255.255"] {
            let address = address.parse().unwrap();
            assert_eq!(
                RouterConfig::new("eth0", 7, vec![address]),
                Err(ConfigError::NotUnicast(address))
            );
        }
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let mixed = RouterConfig::new("eth0", 7, vec![VIP, v6]);
        assert_eq!(mixed, Err(ConfigError::MixedFamilies(v6)));
        let many = (0..256).map(|n| std::net::Ipv4Addr::from(0x0a00_0000 + n).into()).collect();
        assert_eq!(RouterConfig::new("eth0", 7, many), Err(ConfigError::TooManyAddresses(256)));
    }

    #[test]
    fn the_ends_of_every_range_are_accepted() {
        let router = RouterConfig::new("eth0", 255, vec![VIP]).unwrap();
        for priority in [1, 254] {
            assert!(router.clone().with_priority(priority).is_ok());
        }
        for millis in [10, 40_950] {
            assert!(router.clone().with_interval(Duration::from_millis(millis)).is_ok());
        }
    }

    #[test]
    fn addresses_that_move_along_are_held_but_not_advertised() {
        let extra = vec!["2001:db8::10".parse().unwrap()];
        let router = RouterConfig::new("eth0", 7, vec![VIP]).unwrap();
        let router = router.with_extra_addresses(extra).unwrap();
        let router = router.with_prefix_length(VIP, 24).unwrap();
        assert_eq!(router.addresses(), [VIP]);
        let held: Vec<_> = router.held().iter().map(ToString::to_string).collect();
        assert_eq!(held, ["192.0.2.10/24", "2001:db8::10/128"]);
        let again = vec![VirtualAddress::host(VIP).unwrap()];
        let twice = router.clone().with_extra_addresses(again);
        assert_eq!(twice, Err(ConfigError::DuplicateAddress(VIP)));
        let refused = ConfigError::PrefixLength { address: VIP, prefix: 33 };
        assert_eq!(router.with_prefix_length(VIP, 33), Err(refused));
    }

    #[test]
    fn version_2_counts_in_whole_seconds() {
        let router = RouterConfig::new("eth0", 7, vec![VIP]).unwrap();
        let router = router.with_dialect(Dialect::version_2(None)).unwrap();
        assert_eq!(router.check(), Err(ConfigError::IntervalVersion(100)));
        let router = router.with_interval(Duration::from_secs(2)).unwrap();
        assert_eq!(router.check(), Ok(()));
    }
}
