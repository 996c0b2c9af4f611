//! Active health: a server is up or down only after several checks in a row said so. Sans-io.
//!
//! ```text
//! Checking --good--> Up --fall bad ones--> Down --rise good ones--> Up
//!     '-----bad-----------------------------^
//! ```
//!
//! The first check decides at once, so that nothing waits `rise` intervals after a start.

/// How many checks in a row change the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Good ones until a server that is down is up again; at least 1.
    pub rise: u32,
    /// Bad ones until a server that is up is down; at least 1.
    pub fall: u32,
}

impl Default for Terms {
    fn default() -> Self {
        Self { rise: 2, fall: 3 }
    }
}

/// What the checks say about a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No check has ended yet.
    #[default]
    Checking,
    /// It can work.
    Up,
    /// It cannot.
    Down,
}

/// The machine of one server.
#[derive(Clone, Debug)]
pub struct Health {
    terms: Terms,
    state: State,
    /// Checks in a row that speak against the state.
    against: u32,
}

impl Health {
    /// Nothing is known yet.
    pub fn new(terms: Terms) -> Self {
        Self { terms, state: State::Checking, against: 0 }
    }

    /// What the checks say so far.
    pub fn state(&self) -> State {
        self.state
    }

    /// A check has ended; returns the new state if that changed it.
    pub fn checked(&mut self, good: bool) -> Option<State> {
        let (other, needed) = match self.state {
            State::Checking => (if good { State::Up } else { State::Down }, 1),
            State::Up => (State::Down, self.terms.fall),
            State::Down => (State::Up, self.terms.rise),
        };
        let speaks_for_other = good == (other == State::Up);
        self.against = if speaks_for_other { self.against + 1 } else { 0 };
        if self.against < needed.max(1) {
            return None;
        }
        self.against = 0;
        self.state = other;
        Some(other)
    }

    /// What is known is not true any more, for example after maintenance.
    pub fn forget(&mut self) {
        *self = Self::new(self.terms);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_verdict_changes_after_as_many_checks_in_a_row_as_were_asked_for() {
        let terms = Terms { rise: 2, fall: 3 };
        // Checks as they come, and the state after each: c, U, D.
        for (checks, expected) in [
            ("+", "U"),
            ("-", "D"),
            ("+---", "UUUD"),
            ("+--+--+", "UUUUUUU"),
            ("+--+---", "UUUUUUD"),
            ("-++", "DDU"),
            ("-+-++", "DDDDU"),
            ("+---++---", "UUUDDUUUD"),
        ] {
            let mut health = Health::new(terms);
            let seen: String = checks
                .chars()
                .map(|check| {
                    health.checked(check == '+');
                    match health.state() {
                        State::Checking => 'c',
                        State::Up => 'U',
                        State::Down => 'D',
                    }
                })
                .collect();
            assert_eq!(seen, expected, "{checks}");
        }
    }

    proptest! {
        /// One check that differs never turns a verdict that needs several.
        #[test]
        fn a_single_bad_check_turns_nothing(rise in 2u32..5, fall in 2u32..5, good: bool, before in 1usize..9) {
            let mut health = Health::new(Terms { rise, fall });
            for _ in 0..before.max(5) {
                health.checked(good);
            }
            let state = health.state();
            prop_assert_eq!(health.checked(!good), None);
            prop_assert_eq!(health.checked(good), None);
            prop_assert_eq!(health.state(), state);
        }

        /// Changes are told exactly when there are some.
        #[test]
        fn every_change_is_told(checks in proptest::collection::vec(any::<bool>(), 0..64)) {
            let mut health = Health::new(Terms::default());
            for good in checks {
                let before = health.state();
                let told = health.checked(good);
                prop_assert_eq!(told.unwrap_or(before), health.state());
                prop_assert!(told != Some(before));
            }
        }
    }
}
