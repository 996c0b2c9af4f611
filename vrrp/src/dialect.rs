//! How a virtual router talks and to whom: version, password, checksum, multicast or unicast, and
//! who may talk to it. Illegal combinations cannot be built. Sans-io.
//!
//! What follows for received packets is in `terms.rs`.

use std::net::IpAddr;

use crate::{
    checksum::ChecksumForm,
    error::ConfigError,
    packet::{Authentication, Format, Version},
    password::Password,
};

/// The checksum of version 3 over IPv4. All of them accept both forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumChoice {
    /// With pseudo-header, unless the Active that is followed leaves it out: then as the Active.
    #[default]
    Auto,
    /// With pseudo-header, which keepalived and FRR want.
    PseudoHeader,
    /// The message alone (RFC 9568 section 5.2.8), which several makers of routers want.
    Rfc9568,
}

/// Advertisements are sent to these hosts in place of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unicast {
    source: Option<IpAddr>,
    peers: Vec<IpAddr>,
}

impl Unicast {
    /// Sends from `source`, or from the address multicast would use, to each of `peers`.
    ///
    /// # Errors
    /// No peer.
    pub fn new(source: Option<IpAddr>, peers: Vec<IpAddr>) -> Result<Self, ConfigError> {
        if peers.is_empty() {
            return Err(ConfigError::NoPeer);
        }
        Ok(Self { source, peers })
    }

    /// The configured source. It need not be an address of this host yet.
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// Who gets a copy, and whose packets are accepted.
    pub fn peers(&self) -> &[IpAddr] {
        &self.peers
    }
}

/// How a virtual router talks. The default is version 3 by multicast, with everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    version: Version,
    password: Option<Password>,
    checksum: ChecksumChoice,
    unicast: Option<Unicast>,
    members: Vec<IpAddr>,
}

impl Dialect {
    /// Version 2, with a password in clear text if there is one. IPv4 and whole seconds only.
    pub fn version_2(password: Option<Password>) -> Self {
        Self { version: Version::V2, password, ..Self::default() }
    }

    /// Version 3 with this checksum over IPv4.
    pub fn version_3(checksum: ChecksumChoice) -> Self {
        Self { checksum, ..Self::default() }
    }

    /// Sends by unicast and accepts nothing else.
    pub fn with_unicast(mut self, unicast: Unicast) -> Self {
        self.unicast = Some(unicast);
        self
    }

    /// Refuses and alarms what anybody but these hosts sends; the own address may be among them.
    /// An empty list lets everybody take part, as RFC 9568 has it.
    pub fn with_members(mut self, members: Vec<IpAddr>) -> Self {
        self.members = members;
        self
    }

    /// The version of the protocol.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The password of version 2.
    pub fn password(&self) -> Option<Password> {
        self.password
    }

    /// The checksum of version 3 over IPv4.
    pub fn checksum(&self) -> ChecksumChoice {
        self.checksum
    }

    /// Where to send, if not to the group.
    pub fn unicast(&self) -> Option<&Unicast> {
        self.unicast.as_ref()
    }

    /// Who may take part; empty: everybody.
    pub fn members(&self) -> &[IpAddr] {
        &self.members
    }

    /// How to write, if the Active that was heard last wrote like `heard`.
    pub(crate) fn format(&self, heard: Option<ChecksumForm>) -> Format {
        match (self.version, self.checksum) {
            (Version::V2, _) => Format::V2(match self.password {
                Some(password) => Authentication::Simple(password),
                None => Authentication::None,
            }),
            (Version::V3, ChecksumChoice::PseudoHeader) => Format::V3(ChecksumForm::PseudoHeader),
            (Version::V3, ChecksumChoice::Rfc9568) => Format::V3(ChecksumForm::MessageOnly),
            (Version::V3, ChecksumChoice::Auto) => {
                Format::V3(heard.unwrap_or(ChecksumForm::PseudoHeader))
            }
        }
    }

    /// Whether it fits virtual addresses like `address`.
    pub(crate) fn check_family(&self, address: IpAddr) -> Result<(), ConfigError> {
        if self.version == Version::V2 && address.is_ipv6() {
            return Err(ConfigError::VersionFamily(address));
        }
        let unicast = self.unicast.iter();
        let peers = unicast.clone().flat_map(|unicast| &unicast.peers);
        let named = (unicast.filter_map(|unicast| unicast.source.as_ref()))
            .map(|address| ("unicast source", address))
            .chain(peers.map(|address| ("unicast peers", address)))
            .chain(self.members.iter().map(|address| ("members", address)));
        for (what, found) in named {
            if found.is_ipv4() != address.is_ipv4() {
                return Err(ConfigError::Family { what, address: *found });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_follows_the_active_only_where_nothing_is_configured() {
        let (pseudo, bare) = (ChecksumForm::PseudoHeader, ChecksumForm::MessageOnly);
        let table = [
            (ChecksumChoice::Auto, None, pseudo),
            (ChecksumChoice::Auto, Some(pseudo), pseudo),
            (ChecksumChoice::Auto, Some(bare), bare),
            (ChecksumChoice::PseudoHeader, Some(bare), pseudo),
            (ChecksumChoice::Rfc9568, Some(pseudo), bare),
            (ChecksumChoice::Rfc9568, None, bare),
        ];
        for (choice, heard, sent) in table {
            assert_eq!(Dialect::version_3(choice).format(heard), Format::V3(sent), "{choice:?}");
        }
    }

    #[test]
    fn version_2_is_refused_for_ipv6_and_mixed_families_always() {
        let (v4, v6) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]));
        let check = |dialect: &Dialect| [dialect.check_family(v4), dialect.check_family(v6)];
        assert_eq!(check(&Dialect::default()), [Ok(()), Ok(())]);
        let refused = Err(ConfigError::VersionFamily(v6));
        assert_eq!(check(&Dialect::version_2(None)), [Ok(()), refused]);
        let named = |what| Err(ConfigError::Family { what, address: v4 });
        let members = Dialect::default().with_members(vec![v4]);
        assert_eq!(check(&members), [Ok(()), named("members")]);
        let peers = Dialect::default().with_unicast(Unicast::new(None, vec![v4]).unwrap());
        assert_eq!(check(&peers), [Ok(()), named("unicast peers")]);
        let source = Unicast::new(Some(v4), vec![v6]).unwrap();
        assert_eq!(
            Dialect::default().with_unicast(source).check_family(v6),
            named("unicast source")
        );
        assert_eq!(Unicast::new(None, vec![]), Err(ConfigError::NoPeer));
    }
}
