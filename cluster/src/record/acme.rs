//! What the load balancers share of a certificate authority that speaks ACME: the account, the
//! certificate, and the order under way with what the authority will ask for. Sans-io.
//!
//! It is one record that is replaced as a whole, each time by what was made of exactly the one
//! before. So of two nodes that begin an order at once one finds that the other was first, and the
//! authority may ask either node. Secrets are sealed by whoever uses them; a witness reads none.

use serde::{Deserialize, Serialize};

use super::{Millis, NodeId};

/// Most names of a certificate, and with it challenges of an order.
pub const MAX_ACME_NAMES: usize = 100;

/// Longest reason of a failure in bytes.
pub const MAX_ACME_REASON: usize = 512;

/// The account, the certificate and the order under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acme {
    /// One more with every change, from 1 on.
    pub revision: u64,
    /// Who the cluster is to the authority.
    pub account: Option<AcmeAccount>,
    /// What was issued last.
    pub certificate: Option<AcmeCertificate>,
    /// Who orders the next one now.
    pub order: Option<AcmeOrder>,
    /// Why the last order came to nothing; none after one that did not.
    pub failure: Option<AcmeFailure>,
}

/// An account with an authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeAccount {
    /// URL of the authority's directory: an account is good for one authority.
    pub directory: String,
    /// Its key and address, sealed.
    pub credentials: Vec<u8>,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeCertificate {
    /// Directory of the authority that issued it.
    pub directory: String,
    /// The names it was ordered for, in the order of the configuration.
    pub names: Vec<String>,
    /// The certificate and its chain, PEM.
    pub pem: String,
    /// Its private key, sealed.
    pub key: Vec<u8>,
    /// When it begins.
    pub from: Millis,
    /// When it ends.
    pub until: Millis,
}

/// An order under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeOrder {
    /// The node that sees to it.
    pub node: NodeId,
    /// When another node may take it that this one is gone.
    pub until: Millis,
    /// What the authority will ask for: the token of each challenge and the answer to it.
    pub answers: Vec<(String, String)>,
}

/// An order that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeFailure {
    /// The names that were ordered.
    pub names: Vec<String>,
    /// When it failed.
    pub at: Millis,
    /// How often in a row.
    pub times: u32,
    /// Why.
    pub reason: String,
}

impl Acme {
    /// The answer to a challenge of the authority.
    pub fn answer(&self, token: &str) -> Option<&str> {
        let answers = &self.order.as_ref()?.answers;
        answers.iter().find(|(known, _)| known == token).map(|(_, answer)| answer.as_str())
    }

    /// The same as the next revision, to be changed.
    #[must_use]
    pub fn next(&self) -> Self {
        Self { revision: self.revision.saturating_add(1), ..self.clone() }
    }

    /// Whether this may take the place of `known`: made from exactly that one, and within bounds.
    pub fn follows(&self, known: Option<&Self>) -> bool {
        let revision = known.map_or(0, |known| known.revision);
        let names = self.certificate.as_ref().map_or(0, |certificate| certificate.names.len());
        let answers = self.order.as_ref().map_or(0, |order| order.answers.len());
        let failed = self.failure.as_ref();
        revision.checked_add(1) == Some(self.revision)
            && names.max(answers) <= MAX_ACME_NAMES
            && failed.is_none_or(|failed| failed.reason.len() <= MAX_ACME_REASON)
            && failed.is_none_or(|failed| failed.names.len() <= MAX_ACME_NAMES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordering(answers: usize) -> Acme {
        let answers = (0..answers).map(|one| (format!("t{one}"), format!("a{one}"))).collect();
        let order = Some(AcmeOrder { node: 1, until: 9, answers });
        Acme { revision: 4, order, ..Acme::default() }
    }

    #[test]
    fn only_what_was_made_of_the_record_there_is_takes_its_place() {
        let failure = |reason: &str| AcmeFailure {
            names: Vec::new(),
            at: 5,
            times: 1,
            reason: reason.to_owned(),
        };
        let (known, many) = (ordering(1), "x".repeat(MAX_ACME_REASON + 1));
        for (name, known, next, accepted) in [
            ("the first", None, Acme::default().next(), true),
            ("a first that claims to be later", None, known.clone(), false),
            ("the next", Some(&known), known.next(), true),
            ("made by two nodes at once", Some(&known.next()), known.next(), false),
            ("too many challenges", Some(&known), ordering(MAX_ACME_NAMES + 1).next(), false),
            (
                "too long a reason",
                Some(&known),
                { Acme { failure: Some(failure(&many)), ..known.next() } },
                false,
            ),
        ] {
            assert_eq!(next.follows(known), accepted, "{name}");
        }
    }

    #[test]
    fn a_challenge_is_answered_while_its_order_is_under_way() {
        assert_eq!(ordering(3).answer("t1"), Some("a1"));
        assert_eq!(ordering(3).answer("t"), None);
        assert_eq!(Acme::default().answer("t1"), None);
    }
}
