//! The simple password of VRRPv2 (RFC 2338 section 5.3.6). Sans-io.
//!
//! It crosses the wire in clear text: it keeps two careless configurations apart and protects
//! against nobody who can listen. RFC 3768 removed it; it lives on in keepalived.

use std::fmt;

use subtle::ConstantTimeEq;

use crate::error::ConfigError;

/// Octets of Authentication Data.
const LENGTH: usize = 8;

/// Up to eight octets, shorter ones filled up with zeros. Prints as `***` and is compared in
/// constant time.
#[derive(Clone, Copy)]
pub struct Password([u8; LENGTH]);

impl Password {
    /// Takes the octets as they are.
    ///
    /// # Errors
    /// Nothing, more than eight octets (keepalived cuts such a password silently), or a zero octet
    /// at the end, which cannot be told from the filling.
    pub fn new(password: &[u8]) -> Result<Self, ConfigError> {
        if password.is_empty() || password.len() > LENGTH || password.ends_with(&[0]) {
            return Err(ConfigError::Password(password.len()));
        }
        let mut octets = [0; LENGTH];
        octets[..password.len()].copy_from_slice(password);
        Ok(Self(octets))
    }

    /// As found in a packet.
    pub(crate) fn from_wire(octets: [u8; LENGTH]) -> Self {
        Self(octets)
    }

    /// As written to a packet.
    pub(crate) fn to_wire(self) -> [u8; LENGTH] {
        self.0
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.0[..].ct_eq(&other.0[..]).into()
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_to_eight_octets_make_a_password() {
        for (octets, fits) in [
            (&b""[..], false),
            (b"x", true),
            (b"12345678", true),
            (b"123456789", false),
            (b"\0", false),
            (b"a\0b", true),
        ] {
            assert_eq!(Password::new(octets).is_ok(), fits, "{octets:?}");
        }
    }

    #[test]
    fn equal_octets_are_equal_and_none_are_printed() {
        let password = Password::new(b"secret").unwrap();
        assert_eq!(password, Password::from_wire(*b"secret\0\0"));
        assert_ne!(password, Password::new(b"secrets").unwrap());
        assert_ne!(password, Password::new(b"Secret").unwrap());
        assert_eq!(format!("{password:?}"), "***");
    }
}
