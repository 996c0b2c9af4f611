//! Certificates: those of the tunnel port, and that of the public names. Each is one record that
//! only what was made of it replaces.

use std::sync::Arc;

use super::{State, done_if};
use crate::command::Reply;
use crate::record::{Acme, FrpPki};

impl State {
    /// The FRP certificates, once some node has made them.
    pub fn pki(&self) -> Option<&Arc<FrpPki>> {
        self.pki.as_ref()
    }

    /// Account, certificate and order of the public names, once a node has begun with it.
    pub fn acme(&self) -> Option<&Arc<Acme>> {
        self.acme.as_ref()
    }

    pub(super) fn set_pki(&mut self, pki: &FrpPki) -> Reply {
        let follows = pki.follows(self.pki.as_deref());
        if follows {
            self.pki = Some(Arc::new(pki.clone()));
        }
        done_if(follows)
    }

    pub(super) fn set_acme(&mut self, acme: &Acme) -> Reply {
        let follows = acme.follows(self.acme.as_deref());
        if follows {
            self.acme = Some(Arc::new(acme.clone()));
        }
        done_if(follows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;

    #[test]
    fn of_two_nodes_that_begin_an_order_at_once_one_is_told_that_it_was_not_the_first() {
        let mut state = State::default();
        let begin = |node| {
            let order = crate::record::AcmeOrder { node, until: 9, answers: Vec::new() };
            Command::SetAcme(Box::new(Acme { revision: 1, order: Some(order), ..Acme::default() }))
        };
        assert_eq!(state.apply(&begin(1)), Reply::Done);
        assert_eq!(state.apply(&begin(2)), Reply::Nothing);
        assert_eq!(state.acme().unwrap().order.as_ref().unwrap().node, 1);
    }
}
