//! What admits new members. Sans-io.
//!
//! A token is checked and spent where commands are applied, so that no two machines are admitted
//! by one use however the nodes come and go.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::table;
use crate::mutation::mutated;
use crate::record::{
    Applicant, Attempt, MAX_TOKENS, Millis, NodeId, Refusal, TOKEN_MEMORY, Token, TokenId,
};

/// The number of a machine that is no member on this branch.
const NOBODY: NodeId = 0;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tokens {
    #[serde(deserialize_with = "table::read")]
    tokens: OrdMap<TokenId, Arc<Token>>,
}

/// What a token says to an applicant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may come in.
    Admit,
    /// It came in with this attempt before, under that number.
    Again(NodeId),
}

impl Tokens {
    pub(super) fn create(&mut self, token: &Token) -> Result<(), Refusal> {
        self.forget(token.since);
        if self.tokens.len() >= MAX_TOKENS || self.tokens.contains_key(&token.id) {
            return Err(Refusal::Full);
        }
        self.tokens.insert(token.id, Arc::new(token.clone()));
        Ok(())
    }

    pub(super) fn revoke(&mut self, id: TokenId) -> bool {
        self.tokens.remove(&id).is_some()
    }

    /// Judges without spending; `now` is the time of the cluster.
    pub(super) fn judge(&self, applicant: &Applicant, now: Millis) -> Result<Verdict, Refusal> {
        let token = self.tokens.get(&applicant.token).ok_or(Refusal::WrongToken)?;
        verify_slices_are_equal(&token.hash, &applicant.hash).map_err(|_| Refusal::WrongToken)?;
        let before = token.admitted.iter().find(|(attempt, _)| *attempt == applicant.attempt);
        if let Some((_, number)) = before {
            return Ok(Verdict::Again(*number));
        }
        if token.uses_left == 0 {
            return Err(Refusal::SpentToken);
        }
        if now >= token.expires_at {
            return Err(Refusal::ExpiredToken);
        }
        if applicant.role != token.role {
            return Err(Refusal::WrongRole);
        }
        Ok(Verdict::Admit)
    }

    /// Notes whom a token has admitted.
    pub(super) fn spend(&mut self, applicant: &Applicant, number: NodeId) {
        let Some(known) = self.tokens.get(&applicant.token) else { return };
        let mut token = Token::clone(known);
        if !mutated!(TokenNotSpent) {
            token.uses_left = token.uses_left.saturating_sub(1);
        }
        token.admitted.push((applicant.attempt, number));
        self.tokens.insert(token.id, Arc::new(token));
    }

    /// Machines were admitted on another branch: their use of the token counts, but they are
    /// nobody here. Member 0 has never been.
    pub(super) fn spent_elsewhere(&mut self, id: TokenId, attempts: &[Attempt]) -> bool {
        let Some(known) = self.tokens.get(&id) else { return false };
        let mut token = Token::clone(known);
        for attempt in attempts {
            if token.admitted.iter().all(|(known, _)| known != attempt) {
                token.uses_left = token.uses_left.saturating_sub(1);
                token.admitted.push((*attempt, NOBODY));
            }
        }
        let changed = token != **known;
        self.tokens.insert(id, Arc::new(token));
        changed
    }

    pub(super) fn get(&self, id: TokenId) -> Option<&Arc<Token>> {
        self.tokens.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.tokens.values()
    }

    fn forget(&mut self, now: Millis) {
        let is_over = |token: &Token| token.expires_at.saturating_add(TOKEN_MEMORY) < now;
        let over = self.tokens.values().filter(|token| is_over(token));
        let over: Vec<_> = over.map(|token| token.id).collect();
        for id in over {
            self.tokens.remove(&id);
        }
    }
}
