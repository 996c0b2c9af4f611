//! An address as a virtual router puts it on the interface. Sans-io.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::error::ConfigError;

/// A virtual address with its prefix length, /32 or /128 unless said otherwise: then deleting
/// another address of the host never takes it along, and no route comes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VirtualAddress {
    address: IpAddr,
    prefix: u8,
}

impl VirtualAddress {
    /// With a prefix length of its own.
    ///
    /// # Errors
    /// Not a unicast host address, or a prefix length of 0 or beyond that of the family.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, ConfigError> {
        if !is_unicast_host(address) {
            return Err(ConfigError::NotUnicast(address));
        }
        if prefix == 0 || prefix > host_prefix(address) {
            return Err(ConfigError::PrefixLength { address, prefix });
        }
        Ok(Self { address, prefix })
    }

    /// With the prefix length that covers nothing else.
    ///
    /// # Errors
    /// Not a unicast host address.
    pub fn host(address: IpAddr) -> Result<Self, ConfigError> {
        Self::new(address, host_prefix(address))
    }

    /// The address alone.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The prefix length.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether the prefix covers nothing else.
    pub fn is_host(&self) -> bool {
        self.prefix == host_prefix(self.address)
    }
}

/// `192.0.2.10`, `192.0.2.10/24`.
impl FromStr for VirtualAddress {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let refused = || ConfigError::NoAddressText(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address = address.parse().map_err(|_| refused())?;
        match prefix {
            Some(prefix) => Self::new(address, prefix.parse().map_err(|_| refused())?),
            None => Self::host(address),
        }
    }
}

impl fmt::Display for VirtualAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The prefix length that covers one address.
pub(crate) fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn is_unicast_host(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_broadcast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_with_and_without_prefix_length() {
        for (text, shown) in [
            ("192.0.2.10", "192.0.2.10/32"),
            ("192.0.2.10/24", "192.0.2.10/24"),
            ("2001:db8::10", "2001:db8::10/128"),
            ("fe80::10/64", "fe80::10/64"),
        ] {
            assert_eq!(text.parse::<VirtualAddress>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_address_of_one_host_is_refused() {
        for text in [
            "",
            "web",
            "192.0.2.10/",
            "192.0.2.10/x",
            "192.0.2.10/0",
            "192.0.2.10/33",
            "192.0.2/24",
            "2001:db8::10/129",
            "224.0.0.18",
            "::",
            "127.0.0.1",
            "255.255.255.255",
            "ff02::12",
            "10.0.0.1/24/24",
        ] {
            assert!(text.parse::<VirtualAddress>().is_err(), "{text}");
        }
    }
}
