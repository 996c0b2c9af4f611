//! When the certificates of the FRP port want renewing, and which of them. Sans-io; `keeper.rs`
//! reads the clock and does it.
//!
//! The server's own certificate is short-lived and renewed at a third of its life left, which no
//! client notices. A client in a container keeps what it was given, so client certificates live
//! as long as their authority, and a new authority comes early: at a third of the old one's life
//! left. Both are trusted until the old one ends; every client installed meanwhile has the new.

use cluster::record::{FrpCertificate, FrpPki, MAX_AUTHORITIES, Millis};

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// An authority has ended: nothing it has signed is of use any more.
    DropEnded,
    /// A new authority signs from now on; the ones before stay trusted.
    AddAuthority,
    /// A new server certificate, of the authority that signs now.
    RenewServer,
}

/// What is due at `now`, the most urgent first.
pub(super) fn due(pki: &FrpPki, now: Millis) -> Option<Step> {
    let newest = pki.newest()?;
    let older = &pki.authorities[..pki.authorities.len() - 1];
    if older.iter().any(|authority| authority.own.until <= now) {
        return Some(Step::DropEnded);
    }
    if is_due(&newest.own, now) && pki.authorities.len() < MAX_AUTHORITIES {
        return Some(Step::AddAuthority);
    }
    // Signed by an authority of no more life either, there is nothing to be won.
    let renewable = pki.server.until < newest.own.until;
    (renewable && is_due(&pki.server, now)).then_some(Step::RenewServer)
}

/// Less than a third of its life is left.
fn is_due(certificate: &FrpCertificate, now: Millis) -> bool {
    let life = certificate.until.saturating_sub(certificate.from);
    now >= certificate.until.saturating_sub(life / 3)
}

#[cfg(test)]
mod tests {
    use cluster::record::FrpAuthority;

    use super::*;

    fn certificate(from: Millis, until: Millis) -> FrpCertificate {
        FrpCertificate { pem: String::new(), key: Vec::new(), from, until }
    }

    fn pki(authorities: &[(Millis, Millis)], server: (Millis, Millis)) -> FrpPki {
        let authority = |&(from, until): &(Millis, Millis)| FrpAuthority {
            own: certificate(from, until),
            crossed: None,
        };
        FrpPki {
            revision: 1,
            authorities: authorities.iter().map(authority).collect(),
            server: certificate(server.0, server.1),
            client: certificate(0, 0),
        }
    }

    #[test]
    fn each_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        type Row<'a> = (&'a str, &'a [(Millis, Millis)], (Millis, Millis), Millis, Option<Step>);
        let table: [Row<'_>; 9] = [
            ("all new", &[(0, 3000)], (0, 300), 100, None),
            ("the server's, a moment before", &[(0, 3000)], (0, 300), 199, None),
            ("the server's", &[(0, 3000)], (0, 300), 200, Some(Step::RenewServer)),
            ("the server's, ended", &[(0, 3000)], (0, 300), 900, Some(Step::RenewServer)),
            ("the authority", &[(0, 3000)], (1900, 2200), 2000, Some(Step::AddAuthority)),
            ("the authority before the server's", &[(0, 300)], (0, 300), 250, {
                Some(Step::AddAuthority)
            }),
            ("both trusted", &[(0, 3000), (2000, 5000)], (2000, 2300), 2100, None),
            ("the old one ends", &[(0, 3000), (2000, 5000)], (2900, 3200), 3000, {
                Some(Step::DropEnded)
            }),
            ("the last one has ended", &[(0, 3000)], (0, 300), 4000, Some(Step::AddAuthority)),
        ];
        for (name, authorities, server, now, expected) in table {
            assert_eq!(due(&pki(authorities, server), now), expected, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_improved_is_left_alone() {
        let four = [(0, 3000); MAX_AUTHORITIES];
        assert_eq!(due(&pki(&four, (0, 3000)), 2500), None);
        assert_eq!(due(&pki(&[], (0, 1)), 5), None);
    }
}
