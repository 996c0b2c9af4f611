//! The certificates of the FRP port, the same on every node. Sans-io.

use serde::{Deserialize, Serialize};

use super::Millis;

/// Authorities kept at once: each is trusted until it is dropped.
pub const MAX_AUTHORITIES: usize = 4;

/// Authorities, server and client certificate of the FRP port. Private keys are sealed by the frp
/// room, so a witness cannot read them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrpPki {
    /// One more with every change, from 1 on.
    pub revision: u64,
    /// Every authority that is trusted, the oldest first; the last one signs.
    pub authorities: Vec<FrpAuthority>,
    /// The server's (`harp.nc`).
    pub server: FrpCertificate,
    /// The one new clients get (`harp.client.nc`).
    pub client: FrpCertificate,
}

/// An authority of the FRP port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrpAuthority {
    /// Signed by itself.
    pub own: FrpCertificate,
    /// The same name and key signed by the authority before, PEM: with it a client that knows
    /// only that one accepts what this one has signed.
    pub crossed: Option<String>,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrpCertificate {
    /// PEM.
    pub pem: String,
    /// Its private key, sealed.
    pub key: Vec<u8>,
    /// When it begins.
    pub from: Millis,
    /// When it ends.
    pub until: Millis,
}

impl FrpPki {
    /// The authority that signs.
    pub fn newest(&self) -> Option<&FrpAuthority> {
        self.authorities.last()
    }

    /// Whether this may take the place of `known`: made from exactly that one, and whole.
    pub fn follows(&self, known: Option<&Self>) -> bool {
        let revision = known.map_or(0, |known| known.revision);
        revision.checked_add(1) == Some(self.revision)
            && (1..=MAX_AUTHORITIES).contains(&self.authorities.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pki(revision: u64, authorities: usize) -> FrpPki {
        let certificate = FrpCertificate { pem: "c".into(), key: vec![1], from: 0, until: 9 };
        let authority = FrpAuthority { own: certificate.clone(), crossed: None };
        FrpPki {
            revision,
            authorities: vec![authority; authorities],
            server: certificate.clone(),
            client: certificate,
        }
    }

    #[test]
    fn certificates_are_replaced_only_by_what_was_made_of_them() {
        let table = [
            ("the first", None, pki(1, 1), true),
            ("a first one that claims to be the second", None, pki(2, 1), false),
            ("the next", Some(pki(4, 1)), pki(5, 2), true),
            ("made by two nodes at once", Some(pki(5, 2)), pki(5, 2), false),
            ("without any authority", Some(pki(5, 2)), pki(6, 0), false),
            ("with too many", Some(pki(5, 2)), pki(6, MAX_AUTHORITIES + 1), false),
            ("at the end of time", Some(pki(u64::MAX, 1)), pki(0, 1), false),
        ];
        for (name, known, next, accepted) in table {
            assert_eq!(next.follows(known.as_ref()), accepted, "{name}");
        }
    }
}
