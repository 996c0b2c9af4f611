//! What a virtual router insists on before it listens to a sound advertisement: the configured
//! version and cast, a known sender, and in version 2 password, interval and addresses. Sans-io.
//!
//! Whether the bytes are sound was said by `packet/`; what the advertisement means is for
//! `router.rs`.

use std::net::IpAddr;

use crate::{
    config::Interval,
    dialect::Dialect,
    error::PacketError,
    packet::{Advertisement, Authentication, Datagram, Format},
};

/// The priority of a sender whose own the addresses are; it knows them best.
const OWNER: u8 = 255;

/// The terms of one virtual router.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) dialect: &'a Dialect,
    pub(crate) interval: Interval,
    pub(crate) addresses: &'a [IpAddr],
}

impl Terms<'_> {
    /// Whether to listen. Who may speak is asked before what is said, so that a stranger is called
    /// one whatever it says.
    pub(crate) fn check(
        &self,
        datagram: &Datagram<'_>,
        advertisement: &Advertisement,
        format: Format,
    ) -> Result<(), PacketError> {
        let multicast = datagram.is_multicast();
        if multicast == self.dialect.unicast().is_some() {
            return Err(PacketError::Cast { multicast });
        }
        let source = &datagram.source;
        if !self.dialect.members().is_empty() && !self.dialect.members().contains(source) {
            return Err(PacketError::Stranger);
        }
        if self.dialect.unicast().is_some_and(|unicast| !unicast.peers().contains(source)) {
            return Err(PacketError::UnknownPeer);
        }
        if format.version() != self.dialect.version() {
            return Err(PacketError::Version(format.version().as_u8()));
        }
        match format {
            Format::V3(_) => Ok(()),
            Format::V2(authentication) => {
                self.check_password(authentication)?;
                self.check_version_2(advertisement)
            }
        }
    }

    fn check_password(&self, authentication: Authentication) -> Result<(), PacketError> {
        match (authentication, self.dialect.password()) {
            (Authentication::None, None) => Ok(()),
            (Authentication::None, Some(_)) => Err(PacketError::Authentication { offered: false }),
            (Authentication::Simple(_), None) => Err(PacketError::Authentication { offered: true }),
            (Authentication::Simple(found), Some(expected)) if found == expected => Ok(()),
            (Authentication::Simple(_), Some(_)) => Err(PacketError::Password),
        }
    }

    /// RFC 3768 section 7.1. Version 3 only notes such differences.
    fn check_version_2(&self, advertisement: &Advertisement) -> Result<(), PacketError> {
        let (found, expected) = (advertisement.interval.in_seconds(), self.interval.in_seconds());
        if found != expected {
            return Err(PacketError::IntervalMismatch { found, expected });
        }
        let is_ours = |address| self.addresses.contains(address);
        let is_same = advertisement.addresses.len() == self.addresses.len()
            && advertisement.addresses.iter().all(is_ours);
        if !is_same && advertisement.priority != OWNER {
            return Err(PacketError::AddressMismatch);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checksum::ChecksumForm, config::Vrid, dialect::Unicast, packet::GROUP, password::Password,
    };

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 2));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 3));
    const V3: Format = Format::V3(ChecksumForm::PseudoHeader);

    fn judge(
        dialect: &Dialect,
        (source, destination): (IpAddr, IpAddr),
        format: Format,
        (priority, seconds, last): (u8, u8, u8),
    ) -> Result<(), PacketError> {
        let interval = Interval::from_seconds(1).unwrap();
        let addresses = [IpAddr::from([10, 99, 0, 100])];
        let terms = Terms { dialect, interval, addresses: &addresses };
        let datagram = Datagram { source, destination, ttl: 255, message: &[] };
        let advertisement = Advertisement {
            vrid: Vrid::new(51).unwrap(),
            priority,
            interval: Interval::from_seconds(seconds).unwrap(),
            addresses: [IpAddr::from([10, 99, 0, last])].into_iter().collect(),
        };
        terms.check(&datagram, &advertisement, format)
    }

    #[test]
    fn who_may_speak_is_decided_by_cast_members_and_peers() {
        let everybody = Dialect::default();
        let members = Dialect::default().with_members(vec![PEER]);
        let unicast = Dialect::default().with_unicast(Unicast::new(None, vec![PEER]).unwrap());
        let both = unicast.clone().with_members(vec![OTHER]);
        let (here, sound) = (IpAddr::from([10, 99, 0, 1]), (200, 1, 100));
        let table = [
            ("everybody", &everybody, (OTHER, GROUP), Ok(())),
            ("unicast to multicast", &everybody, (PEER, here), {
                Err(PacketError::Cast { multicast: false })
            }),
            ("a member", &members, (PEER, GROUP), Ok(())),
            ("no member", &members, (OTHER, GROUP), Err(PacketError::Stranger)),
            ("a peer", &unicast, (PEER, here), Ok(())),
            ("no peer", &unicast, (OTHER, here), Err(PacketError::UnknownPeer)),
            ("multicast to unicast", &unicast, (PEER, GROUP), {
                Err(PacketError::Cast { multicast: true })
            }),
            ("a peer that is no member", &both, (PEER, here), Err(PacketError::Stranger)),
        ];
        for (name, dialect, way, expected) in table {
            assert_eq!(judge(dialect, way, V3, sound), expected, "{name}");
        }
    }

    #[test]
    fn version_2_insists_on_password_interval_and_addresses() {
        let secret = Password::new(b"secret").unwrap();
        let wrong = Authentication::Simple(Password::new(b"guess").unwrap());
        let right = Authentication::Simple(secret);
        let with = Dialect::version_2(Some(secret));
        let without = Dialect::version_2(None);
        let nothing = Authentication::None;
        let mismatch = PacketError::IntervalMismatch { found: 2, expected: 1 };
        let table = [
            ("no password", &without, nothing, (200, 1, 100), Ok(())),
            ("the password", &with, right, (200, 1, 100), Ok(())),
            ("a wrong one", &with, wrong, (200, 1, 100), Err(PacketError::Password)),
            ("none", &with, nothing, (200, 1, 100), {
                Err(PacketError::Authentication { offered: false })
            }),
            ("an unasked one", &without, right, (200, 1, 100), {
                Err(PacketError::Authentication { offered: true })
            }),
            ("another interval", &without, nothing, (200, 2, 100), Err(mismatch)),
            ("a farewell at another interval", &without, nothing, (0, 2, 100), Err(mismatch)),
            ("another address", &without, nothing, (200, 1, 101), {
                Err(PacketError::AddressMismatch)
            }),
            ("another address of the owner", &without, nothing, (255, 1, 101), Ok(())),
        ];
        for (name, dialect, authentication, says, expected) in table {
            let format = Format::V2(authentication);
            assert_eq!(judge(dialect, (PEER, GROUP), format, says), expected, "{name}");
        }
    }

    #[test]
    fn each_version_is_deaf_to_the_other() {
        let v2 = Format::V2(Authentication::None);
        let sound = (200, 1, 100);
        let heard = |dialect: &Dialect, format| judge(dialect, (PEER, GROUP), format, sound);
        assert_eq!(heard(&Dialect::default(), v2), Err(PacketError::Version(2)));
        assert_eq!(heard(&Dialect::version_2(None), V3), Err(PacketError::Version(3)));
        // Version 3 notes other addresses and intervals, but does not insist.
        assert_eq!(judge(&Dialect::default(), (PEER, GROUP), V3, (200, 9, 101)), Ok(()));
    }
}
