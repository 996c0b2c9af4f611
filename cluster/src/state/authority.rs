//! The certificate authorities of the peer port and the phases of their rotation. Sans-io.
//!
//! ```text
//! [1] ──add──► [1, 2], 1 signs ──all trust 2──► [1, 2], 2 signs ──all issued by 2──► [2]
//! ```
//! Each arrow is a command, and each is refused unless what must come before it has come: nobody
//! may meet a certificate of an authority it does not trust yet, and none is dropped that somebody
//! still needs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::members::Members;
use crate::command::AuthorityStep;
use crate::record::{ClusterAuthority, Papers};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Authorities {
    /// From the oldest to the newest; one, or two during a rotation.
    known: Vec<Arc<ClusterAuthority>>,
    /// Serial of the one that signs.
    signer: u32,
}

impl Authorities {
    pub(super) fn found(&mut self, authority: &ClusterAuthority) {
        self.signer = authority.serial;
        self.known = vec![Arc::new(authority.clone())];
    }

    pub(super) fn known(&self) -> &[Arc<ClusterAuthority>] {
        &self.known
    }

    pub(super) fn signer(&self) -> Option<&Arc<ClusterAuthority>> {
        self.known.iter().find(|authority| authority.serial == self.signer)
    }

    /// Carries out a step of a rotation, if it is the next one.
    pub(super) fn step(&mut self, step: &AuthorityStep, members: &Members) -> bool {
        match step {
            AuthorityStep::Add(authority) => {
                let next = self.known.last().map(|newest| newest.serial + 1);
                if self.known.len() != 1 || next != Some(authority.serial) {
                    return false;
                }
                self.known.push(Arc::new(authority.clone()));
                true
            }
            step => {
                if self.next_step(members).as_ref() != Some(step) {
                    return false;
                }
                match step {
                    AuthorityStep::Sign(serial) => self.signer = *serial,
                    AuthorityStep::Drop(serial) => {
                        self.known.retain(|authority| authority.serial != *serial);
                    }
                    AuthorityStep::Add(_) => {}
                }
                true
            }
        }
    }

    /// What the leader proposes next in a rotation under way.
    pub(super) fn next_step(&self, members: &Members) -> Option<AuthorityStep> {
        let [oldest, newest] = &self.known[..] else { return None };
        let newest = newest.serial;
        if self.signer != newest {
            let known = members.all_papers(|Papers { trusts, .. }| trusts >= newest);
            return known.then_some(AuthorityStep::Sign(newest));
        }
        let used = members.all_papers(|Papers { issued_by, .. }| issued_by >= newest);
        used.then_some(AuthorityStep::Drop(oldest.serial))
    }
}
