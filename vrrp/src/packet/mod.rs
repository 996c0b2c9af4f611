//! The ADVERTISEMENT of VRRPv3 (RFC 9568 section 5) and VRRPv2 (RFC 3768 section 5): checked parse
//! and emit. Sans-io.
//!
//! [`Datagram::parse`] cuts what a raw socket delivers down to the message, [`Advertisement::parse`]
//! reads it. Both take any bytes without panicking; every refusal is a [`PacketError`]. What a
//! configured virtual router insists on beyond that is in `terms.rs`.

mod datagram;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smallvec::SmallVec;

pub use datagram::Datagram;

use crate::{
    checksum::{ChecksumForm, checksum, is_sound},
    config::{Interval, Vrid},
    error::PacketError,
    password::Password,
};

/// The group of IPv4 (section 5.1.1.2); routers never forward it.
pub(crate) const GROUP_OF_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// The group of IPv6 (section 5.1.2.2), of link-local scope.
pub(crate) const GROUP_OF_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// The group that IPv4 advertisements are sent to.
pub const GROUP: IpAddr = IpAddr::V4(GROUP_OF_V4);

/// The group that IPv6 advertisements are sent to.
pub const GROUP_V6: IpAddr = IpAddr::V6(GROUP_OF_V6);

/// The only TTL or hop limit accepted of what was sent to a group (sections 5.1.1.3, 5.1.2.3): proof
/// that the sender sits on this segment. Unicast peers may be further away.
pub const TTL: u8 = 255;

const ADVERTISEMENT: u8 = 1;
const FIXED: usize = 8;
const CHECKSUM: std::ops::Range<usize> = 6..8;
/// Authentication Data of version 2, after the addresses.
const AUTHENTICATION: usize = 8;
/// keepalived 2.4 can append an authentication trailer of this size outside of the message. We
/// cannot check it, but its sender is as trustworthy without as with it.
const KEEPALIVED_TRAILER: usize = 28;

/// The version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 3768: IPv4 only, intervals of whole seconds; what keepalived speaks unless told
    /// otherwise.
    V2,
    /// RFC 9568.
    #[default]
    V3,
}

impl Version {
    /// The number on the wire.
    pub fn as_u8(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// What the sender of a version 2 advertisement proves itself by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Type 0: nothing.
    None,
    /// Type 1 of RFC 2338: a password in clear text.
    Simple(Password),
}

/// How an advertisement is written, as far as speakers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Version 2 with this authentication.
    V2(Authentication),
    /// Version 3 with this form of checksum; over IPv6 there is only the one with pseudo-header.
    V3(ChecksumForm),
}

impl Format {
    /// The version of the protocol.
    pub fn version(&self) -> Version {
        match self {
            Self::V2(_) => Version::V2,
            Self::V3(_) => Version::V3,
        }
    }
}

/// An advertisement that can be sent. Priority 0 says "I stop now".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The virtual router.
    pub vrid: Vrid,
    /// 0 to 255; the ends have meanings of their own (section 5.2.4).
    pub priority: u8,
    /// Max Advertise Interval: how often the sender sends.
    pub interval: Interval,
    /// The virtual addresses, 1 to 255 of them, all of the family of the packet.
    pub addresses: SmallVec<[IpAddr; 4]>,
}

impl Advertisement {
    /// The bytes of the message, checksum included.
    ///
    /// Only the first 255 addresses are written; [`crate::RouterConfig`] never holds more. In
    /// version 2 the interval is written in whole seconds, at least one.
    pub fn emit(&self, source: IpAddr, destination: IpAddr, format: Format) -> Vec<u8> {
        let count = u8::try_from(self.addresses.len()).unwrap_or(u8::MAX);
        let capacity = FIXED + 16 * usize::from(count) + AUTHENTICATION;
        let mut message = Vec::with_capacity(capacity);
        let version_type = format.version().as_u8() << 4 | ADVERTISEMENT;
        message.extend([version_type, self.vrid.as_u8(), self.priority, count]);
        match format {
            Format::V2(authentication) => {
                message.extend([kind(authentication), self.interval.in_seconds()])
            }
            Format::V3(_) => message.extend(self.interval.as_centiseconds().to_be_bytes()),
        }
        message.extend([0, 0]);
        for address in self.addresses.iter().take(usize::from(count)) {
            match address {
                IpAddr::V4(address) => message.extend(address.octets()),
                IpAddr::V6(address) => message.extend(address.octets()),
            }
        }
        let form = match format {
            Format::V2(authentication) => {
                message.extend(match authentication {
                    Authentication::None => [0; AUTHENTICATION],
                    Authentication::Simple(password) => password.to_wire(),
                });
                ChecksumForm::MessageOnly
            }
            Format::V3(form) => form,
        };
        let sum = checksum(form, &message, source, destination);
        message[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        message
    }

    /// Reads a received datagram; also says how the sender writes.
    ///
    /// The order of the checks follows section 7.1, from "not for us" to "not sound", so that the
    /// counters tell what is wrong with a sender and not just that something is.
    pub fn parse(datagram: &Datagram<'_>) -> Result<(Self, Format), PacketError> {
        let message = datagram.message;
        if datagram.is_multicast() && datagram.ttl != TTL {
            return Err(PacketError::Ttl(datagram.ttl));
        }
        let &[version_type, vrid, priority, count, fifth, sixth, _, _] =
            message.first_chunk::<FIXED>().ok_or(PacketError::Truncated)?;
        let version = match version_type >> 4 {
            2 if datagram.source.is_ipv4() => Version::V2,
            3 => Version::V3,
            other => return Err(PacketError::Version(other)),
        };
        if version_type & 0x0f != ADVERTISEMENT {
            return Err(PacketError::Type(version_type & 0x0f));
        }
        if count == 0 {
            return Err(PacketError::CountZero);
        }
        let size = if datagram.source.is_ipv4() { 4 } else { 16 };
        let addresses_end = FIXED + size * usize::from(count);
        let expected = match version {
            Version::V2 => addresses_end + AUTHENTICATION,
            Version::V3 => addresses_end,
        };
        if message.len() != expected && message.len() != expected + KEEPALIVED_TRAILER {
            return Err(PacketError::Length { found: message.len(), expected });
        }
        let message = &message[..expected];
        let form = forms(version, datagram.source)
            .iter()
            .find(|form| is_sound(**form, message, datagram.source, datagram.destination))
            .ok_or(PacketError::Checksum)?;
        let vrid = Vrid::new(vrid).map_err(|_| PacketError::VridZero)?;
        let (interval, format) = match version {
            Version::V2 => {
                let authentication = authentication(fifth, &message[addresses_end..])?;
                (Interval::from_seconds(sixth), Format::V2(authentication))
            }
            // The upper four bits are reserved and ignored on receipt (section 5.2.6).
            Version::V3 => {
                let centiseconds = u16::from_be_bytes([fifth & 0x0f, sixth]);
                (Interval::from_centiseconds(centiseconds), Format::V3(*form))
            }
        };
        let interval = interval.map_err(|_| PacketError::IntervalZero)?;
        let addresses = message[FIXED..addresses_end].chunks_exact(size).map(address).collect();
        Ok((Self { vrid, priority, interval, addresses }, format))
    }
}

/// The checksums that make a message sound.
fn forms(version: Version, source: IpAddr) -> &'static [ChecksumForm] {
    match (version, source) {
        (Version::V2, _) => &[ChecksumForm::MessageOnly],
        (Version::V3, IpAddr::V6(_)) => &[ChecksumForm::PseudoHeader],
        (Version::V3, IpAddr::V4(_)) => &[ChecksumForm::PseudoHeader, ChecksumForm::MessageOnly],
    }
}

fn kind(authentication: Authentication) -> u8 {
    match authentication {
        Authentication::None => 0,
        Authentication::Simple(_) => 1,
    }
}

fn authentication(kind: u8, data: &[u8]) -> Result<Authentication, PacketError> {
    match kind {
        0 => Ok(Authentication::None),
        1 => {
            let octets = data.first_chunk().ok_or(PacketError::Truncated)?;
            Ok(Authentication::Simple(Password::from_wire(*octets)))
        }
        other => Err(PacketError::AuthenticationType(other)),
    }
}

/// An address of four or sixteen octets.
fn address(octets: &[u8]) -> IpAddr {
    match <[u8; 16]>::try_from(octets) {
        Ok(octets) => Ipv6Addr::from(octets).into(),
        Err(_) => {
            let octets = octets.first_chunk().copied().unwrap_or_default();
            Ipv4Addr::from(octets).into()
        }
    }
}
