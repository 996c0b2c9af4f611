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

    /// What came and went here since this and `other` were one: what the other has not got of what
    /// was added after the newest authority both have, and what it still has of those before that
    /// one. None if they have none in common. An authority is only ever added at the end.
    pub fn since_fork(&self, other: &Self) -> Option<(Vec<FrpAuthority>, Vec<String>)> {
        let has = |pki: &Self, pem: &str| pki.authorities.iter().any(|one| one.own.pem == pem);
        let newest_common = |of: &Self, in_other: &Self| {
            of.authorities.iter().rposition(|one| has(in_other, &one.own.pem))
        };
        let (own, theirs) = (newest_common(self, other)?, newest_common(other, self)?);
        let added = self.authorities[own + 1..].to_vec();
        let gone = other.authorities[..theirs].iter().map(|one| &one.own.pem);
        Some((added, gone.filter(|pem| !has(self, pem)).cloned().collect()))
    }

    /// With authorities that came and went elsewhere; the one that signs stays. Those for which
    /// there is no room are left out, the older ones first.
    #[must_use]
    pub fn merged(&self, added: &[FrpAuthority], dropped: &[String]) -> Self {
        let Some((signer, older)) = self.authorities.split_last() else { return self.clone() };
        let kept = older.iter().filter(|one| !dropped.contains(&one.own.pem));
        let mut authorities: Vec<_> = kept.cloned().collect();
        let is_new =
            |one: &&FrpAuthority| self.authorities.iter().all(|it| it.own.pem != one.own.pem);
        let room = MAX_AUTHORITIES.saturating_sub(authorities.len() + 1);
        let new: Vec<_> = added.iter().filter(is_new).collect();
        authorities.extend(new[new.len().saturating_sub(room)..].iter().map(|one| (*one).clone()));
        authorities.push(signer.clone());
        if authorities == self.authorities {
            return self.clone();
        }
        Self { revision: self.revision.saturating_add(1), authorities, ..self.clone() }
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

    #[test]
    fn authorities_of_two_sides_come_together_and_the_signer_stays() {
        let of = |names: &str| {
            let authorities = names.chars().map(|name| {
                let mut one = pki(1, 1).authorities.remove(0);
                one.own.pem = name.to_string();
                one
            });
            FrpPki { authorities: authorities.collect(), ..pki(7, 0) }
        };
        let names =
            |pki: &FrpPki| pki.authorities.iter().map(|one| &*one.own.pem).collect::<String>();
        let table = [
            ("nothing happened", "ab", "ab", Some("ab")),
            ("one added there", "abx", "ab", Some("axb")),
            ("one added on each", "abx", "aby", Some("abxy")),
            ("dropped there", "b", "ab", Some("b")),
            ("dropped here, not there", "ab", "b", Some("b")),
            ("dropped and added there", "bx", "ab", Some("xb")),
            ("the signer was dropped there", "ax", "ab", Some("axb")),
            ("more than there is room for", "abxy", "abcd", Some("abcd")),
            ("the newest of those there is room for", "axy", "abc", Some("abyc")),
            ("nothing in common", "x", "y", None),
        ];
        for (name, ended, winner, expected) in table {
            let (ended, winner) = (of(ended), of(winner));
            let came = ended.since_fork(&winner);
            let merged = came.map(|(added, dropped)| winner.merged(&added, &dropped));
            assert_eq!(merged.as_ref().map(&names).as_deref(), expected, "{name}");
            let Some(merged) = merged else { continue };
            assert!(merged.follows(Some(&winner)) || merged == winner, "{name}");
            let (added, dropped) = ended.since_fork(&winner).unwrap();
            assert_eq!(merged.merged(&added, &dropped).authorities, merged.authorities, "{name}");
        }
    }
}
