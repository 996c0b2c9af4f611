//! When a thing that is looked at again and again counts as up or down: keepalived's rule of rise
//! and fall. Sans-io.

/// The rule for one tracker, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    rise: u64,
    /// The top of the score: `fall` bad looks away from being down.
    top: u64,
    /// From 0 to `top`; up from `rise` on.
    score: u64,
    /// What the world was told last.
    told: bool,
}

/// What is assumed before the first look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Nothing: it counts as down until it was looked at, and the first look decides.
    Unknown,
    /// It is down, and has to rise.
    Down,
    /// It is up, and has to fall.
    Up,
}

impl Tally {
    /// `rise` good looks in a row make it up, `fall` bad ones down; 0 is taken for 1.
    pub(super) fn new(rise: u32, fall: u32, start: Start) -> Self {
        let (rise, fall) = (u64::from(rise.max(1)), u64::from(fall.max(1)));
        let top = rise + fall - 1;
        let score = match start {
            // One failure is enough, and one success.
            Start::Unknown => rise,
            Start::Down => 0,
            Start::Up => top,
        };
        Self { rise, top, score, told: start == Start::Up }
    }

    /// What it counts as now.
    pub(super) fn is_up(&self) -> bool {
        self.told
    }

    /// Takes in a look; the new state if it has changed.
    pub(super) fn take(&mut self, good: bool) -> Option<bool> {
        self.score = match good {
            true if self.score + 1 < self.rise => self.score + 1,
            true => self.top,
            false if self.score > self.rise => self.score - 1,
            false => 0,
        };
        let up = self.score >= self.rise;
        (std::mem::replace(&mut self.told, up) != up).then_some(up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told after each look: `+` up, `-` down, `.` nothing.
    fn story(rise: u32, fall: u32, start: Start, looks: &str) -> String {
        let mut tally = Tally::new(rise, fall, start);
        let told = looks.chars().map(|look| match tally.take(look == 'g') {
            Some(true) => '+',
            Some(false) => '-',
            None => '.',
        });
        told.collect()
    }

    #[test]
    fn rise_and_fall_count_looks_in_a_row() {
        for (rise, fall, start, looks, told) in [
            (1, 1, Start::Unknown, "gbg", "+-+"),
            (1, 1, Start::Unknown, "bbg", "..+"),
            (3, 2, Start::Unknown, "gbgbb", "+...-"),
            (3, 2, Start::Unknown, "bgggbb", "...+.-"),
            (3, 2, Start::Down, "ggbgggg", ".....+."),
            (2, 3, Start::Up, "bbgbbbgg", ".....-.+"),
            (2, 1, Start::Up, "bgbgg", "-...+"),
            (0, 0, Start::Up, "bg", "-+"),
            (u32::MAX, u32::MAX, Start::Up, "bgb", "..."),
            (u32::MAX, u32::MAX, Start::Down, "ggg", "..."),
        ] {
            assert_eq!(story(rise, fall, start, looks), told, "{rise}/{fall} {start:?} {looks}");
        }
    }

    #[test]
    fn nothing_is_up_before_it_was_looked_at_unless_it_is_assumed() {
        for (start, up) in [(Start::Unknown, false), (Start::Down, false), (Start::Up, true)] {
            assert_eq!(Tally::new(2, 2, start).is_up(), up, "{start:?}");
        }
    }
}
