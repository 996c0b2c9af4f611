//! Which server of a pool gets the next request: the least busy one that is fit for it. Sans-io.
//!
//! Fit is who is ready, not down, not ejected and below its limit. If everybody who is up was
//! ejected, ejections do not count: a bad answer is better than none. A server that is back sits
//! out most choices at first and takes part in more and more of them (slow start); ties go round.
//!
//! Whoever chooses says later how it went ([`Pool::ended`]), once for each choice.

use std::time::{Duration, Instant};

use super::ejection::{self, Ejection};
use super::health::{self, Health, State};
use super::roster::{Admin, Condition};

/// The rules of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When checks change the verdict.
    pub health: health::Terms,
    /// When failures do.
    pub ejection: ejection::Terms,
    /// How long a server that is back takes until it gets its full part.
    pub slow_start: Duration,
    /// Most requests a server gets at a time; none: any number.
    pub most: Option<u64>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            health: health::Terms::default(),
            ejection: ejection::Terms::default(),
            slow_start: Duration::from_secs(30),
            most: None,
        }
    }
}

/// How a request ended, seen from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered as a server that works does.
    Good,
    /// It failed through its own fault.
    Failed,
    /// Nothing can be said: the client went away, or spoilt it.
    Neither,
}

/// Why nobody was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nobody {
    /// No server is fit.
    Fit,
    /// Those that are fit have as much to do as they may.
    Idle,
}

/// What an operator would narrate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its checks are fine now.
    Up,
    /// They fail now.
    Down,
    /// Its answers failed; it gets nothing for that long.
    Ejected(Duration),
}

/// How one server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the operator wants of it.
    pub admin: Admin,
    /// How it is.
    pub condition: Condition,
    /// Since when.
    pub since: Instant,
    /// Requests it has.
    pub in_flight: u64,
    /// Requests it was given.
    pub total: u64,
    /// Those that failed through its fault.
    pub failed: u64,
    /// What the last check told.
    pub note: String,
}

/// Servers by number, in the order of the configuration.
#[derive(Clone, Debug)]
pub struct Pool {
    terms: Terms,
    servers: Vec<Server>,
    turn: usize,
}

#[derive(Clone, Debug)]
struct Server {
    admin: Admin,
    health: Health,
    ejection: Ejection,
    /// Since when it is warming up.
    back: Option<Instant>,
    changed: Instant,
    in_flight: u64,
    total: u64,
    failed: u64,
    note: String,
}

impl Pool {
    /// As many servers as told, of which nothing is known.
    pub fn new(terms: Terms, servers: usize, now: Instant) -> Self {
        let server = Server {
            admin: Admin::Ready,
            health: Health::new(terms.health),
            ejection: Ejection::new(terms.ejection),
            back: None,
            changed: now,
            in_flight: 0,
            total: 0,
            failed: 0,
            note: String::new(),
        };
        Self { terms, servers: vec![server; servers], turn: 0 }
    }

    /// Chooses the server of a request that has not been at those `tried`, and counts it there.
    ///
    /// # Errors
    /// Why there is none.
    pub fn choose(&mut self, now: Instant, tried: &[usize]) -> Result<usize, Nobody> {
        let fit = |with_ejected: bool| -> Vec<usize> {
            let fit = |server: &Server| with_ejected || !server.ejection.is_out(now);
            let all = self.servers.iter().enumerate().filter(|(at, _)| !tried.contains(at));
            all.filter(|(_, s)| s.can_work() && fit(s)).map(|(at, _)| at).collect()
        };
        let mut fit = match fit(false) {
            none if none.is_empty() => fit(true),
            some => some,
        };
        if fit.is_empty() {
            return Err(Nobody::Fit);
        }
        fit.retain(|at| self.terms.most.is_none_or(|most| self.servers[*at].in_flight < most));
        self.turn = self.turn.wrapping_add(1);
        // 61 has no factor in common with 100: every hundred turns have each number once, spread.
        let number = (self.turn.wrapping_mul(61) % 100) as u128;
        let takes_part =
            |at: &usize| number < self.servers[*at].percent(now, self.terms.slow_start);
        let warm: Vec<usize> = fit.iter().copied().filter(takes_part).collect();
        let among = if warm.is_empty() { fit } else { warm };
        let count = self.servers.len();
        let order = |at: &usize| (self.servers[*at].in_flight, (at + self.turn) % count);
        let chosen = among.into_iter().min_by_key(order).ok_or(Nobody::Idle)?;
        self.servers[chosen].in_flight += 1;
        self.servers[chosen].total += 1;
        Ok(chosen)
    }

    /// The server has failed or answered, as far as can be told by now; it keeps the request in
    /// its count until [`Self::ended`].
    pub fn judged(&mut self, at: usize, outcome: Outcome, now: Instant) -> Option<Event> {
        let server = self.servers.get_mut(at)?;
        match outcome {
            Outcome::Good => server.ejection.succeeded(),
            Outcome::Neither => {}
            Outcome::Failed => {
                server.failed += 1;
                if server.ejection.failed(now) && self.can_do_without(at, now) {
                    let server = &mut self.servers[at];
                    server.changed = now;
                    return Some(Event::Ejected(server.ejection.eject(now)));
                }
            }
        }
        None
    }

    /// A request that was chosen for is over.
    pub fn ended(&mut self, at: usize) {
        if let Some(server) = self.servers.get_mut(at) {
            server.in_flight = server.in_flight.saturating_sub(1);
        }
    }

    /// A check has ended, with what it found or why it failed.
    pub fn checked(
        &mut self,
        at: usize,
        found: Result<String, String>,
        now: Instant,
    ) -> Option<Event> {
        let server = self.servers.get_mut(at).filter(|server| server.admin != Admin::Maint)?;
        let good = found.is_ok();
        server.note = found.unwrap_or_else(|why| why);
        let before = server.health.state();
        let changed = server.health.checked(good)?;
        server.changed = now;
        match changed {
            State::Down => Some(Event::Down),
            State::Checking | State::Up => {
                server.ejection.pardon();
                server.back = (before == State::Down).then_some(now);
                Some(Event::Up)
            }
        }
    }

    /// The operator wants something else of a server.
    pub fn set(&mut self, at: usize, admin: Admin, now: Instant) {
        let slow = !self.terms.slow_start.is_zero();
        let Some(server) = self.servers.get_mut(at).filter(|server| server.admin != admin) else {
            return;
        };
        if server.admin == Admin::Maint {
            server.health.forget();
            server.note.clear();
        }
        if admin == Admin::Ready {
            server.ejection.pardon();
            server.back = slow.then_some(now);
        }
        server.admin = admin;
        server.changed = now;
    }

    /// Whether the server is to be checked.
    pub fn wants_check(&self, at: usize) -> bool {
        self.servers.get(at).is_some_and(|server| server.admin != Admin::Maint)
    }

    /// How the servers are, in order.
    pub fn reports(&self, now: Instant) -> impl Iterator<Item = Report> {
        self.servers.iter().map(move |server| Report {
            admin: server.admin,
            condition: server.condition(now),
            since: server.changed,
            in_flight: server.in_flight,
            total: server.total,
            failed: server.failed,
            note: server.note.clone(),
        })
    }

    /// At most half of those that could work are ejected, and never the last.
    fn can_do_without(&self, at: usize, now: Instant) -> bool {
        let able = self.servers.iter().filter(|server| server.can_work()).count();
        let out = |(other, server): &(usize, &Server)| {
            *other != at && server.can_work() && server.ejection.is_out(now)
        };
        let out = self.servers.iter().enumerate().filter(out).count();
        (out + 1) * 2 <= able
    }
}

impl Server {
    fn can_work(&self) -> bool {
        self.admin == Admin::Ready && self.health.state() != State::Down
    }

    /// In how many of a hundred choices it takes part.
    fn percent(&self, now: Instant, slow_start: Duration) -> u128 {
        let Some(back) = self.back else { return 100 };
        let passed = now.saturating_duration_since(back).as_millis();
        (passed * 100).checked_div(slow_start.as_millis()).unwrap_or(100).clamp(10, 100)
    }

    fn condition(&self, now: Instant) -> Condition {
        match self.health.state() {
            State::Checking => Condition::Checking,
            State::Down => Condition::Down,
            State::Up if self.ejection.is_out(now) => Condition::Ejected,
            State::Up => Condition::Up,
        }
    }
}

#[cfg(test)]
mod tests;
