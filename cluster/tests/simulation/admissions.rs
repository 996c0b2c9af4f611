//! Machines that ask to become members under load, and members that are removed. None of them ever
//! starts, which is the worst a new member can do. No token admits two of them, and no number is
//! anybody else's, ever.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cluster::Command;
use cluster::record::{Applicant, Attempt, FEATURE, Millis, NodeId, Role, Token, TokenId};

use crate::network::PORT;

/// A token lives longer than any clock jumps.
const LIFE: Millis = 86_400_000;

/// What every token hides.
const HASH: [u8; 32] = [7; 32];

/// A token for one machine.
pub(crate) fn token(id: TokenId, by: NodeId, role: Role, now: Millis) -> Token {
    Token {
        id,
        hash: HASH,
        role,
        by,
        since: now,
        expires_at: now + LIFE,
        uses_left: 1,
        admitted: Vec::new(),
    }
}

/// A machine that shows a token; `attempt` tells it from all others.
pub(crate) fn applicant(
    token: TokenId,
    attempt: u128,
    role: Role,
    (name, ip): (String, IpAddr),
    now: Millis,
) -> Applicant {
    let attempt = Attempt(attempt.to_be_bytes());
    let address = SocketAddr::new(ip, PORT);
    Applicant { token, hash: HASH, attempt, name, role, address, feature: FEATURE, at: now }
}

/// All that happened in a run.
#[derive(Default)]
pub(crate) struct Admissions {
    tokens: Vec<Offer>,
    attempts: u64,
    /// Whose each number is.
    numbers: BTreeMap<NodeId, u64>,
}

/// A token, and the machine it admitted.
#[derive(Default)]
struct Offer {
    is_known: bool,
    admitted: Option<u64>,
}

/// A machine that shows a token.
#[derive(Clone, Copy)]
pub(crate) struct Attempted {
    token: usize,
    attempt: u64,
}

impl Admissions {
    /// A token for one machine, to propose.
    pub(crate) fn offer(&mut self, by: NodeId, role: Role, now: Millis) -> (usize, Command) {
        let at = self.tokens.len();
        self.tokens.push(Offer::default());
        (at, Command::CreateToken(token(id(at), by, role, now)))
    }

    /// The token was taken.
    pub(crate) fn offered(&mut self, at: usize) {
        self.tokens[at].is_known = true;
    }

    /// A new machine with one of the tokens there are, spent or not.
    pub(crate) fn attempt(
        &mut self,
        which: u64,
        role: Role,
        now: Millis,
    ) -> Option<(Attempted, Command)> {
        let known: Vec<_> = (0..self.tokens.len()).filter(|at| self.tokens[*at].is_known).collect();
        let token = *known.get(usize::try_from(which).unwrap() % known.len().max(1))?;
        self.attempts += 1;
        let attempt = self.attempts;
        let [.., high, low] = u32::try_from(attempt).unwrap().to_be_bytes();
        let machine = (format!("machine-{attempt}"), Ipv4Addr::new(10, 9, high, low).into());
        let applicant = applicant(id(token), attempt.into(), role, machine, now);
        Some((Attempted { token, attempt }, Command::Admit(applicant)))
    }

    /// A machine was admitted.
    pub(crate) fn admitted(&mut self, whom: Attempted, number: NodeId) -> Result<(), String> {
        let Attempted { token, attempt } = whom;
        let first = *self.tokens[token].admitted.get_or_insert(attempt);
        if first != attempt {
            return Err(format!("token {token} admitted machines {first} and {attempt}"));
        }
        let owner = *self.numbers.entry(number).or_insert(attempt);
        if owner != attempt {
            return Err(format!("machines {owner} and {attempt} both got number {number}"));
        }
        Ok(())
    }

    /// Somebody who was admitted.
    pub(crate) fn any(&self, which: u64) -> Option<NodeId> {
        let at = usize::try_from(which).unwrap() % self.numbers.len().max(1);
        self.numbers.keys().nth(at).copied()
    }
}

fn id(at: usize) -> TokenId {
    let [.., a, b, c, d, e] = (at as u64).to_be_bytes();
    TokenId([a, b, c, d, e])
}
