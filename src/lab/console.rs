//! Where the lab's words go: progress beside the result, so that `--json` leaves standard output
//! to the one object.

use std::io::Write;
use std::time::Instant;

/// Prints progress lines with the time since the start.
pub(super) struct Console {
    json: bool,
    start: Instant,
}

impl Console {
    pub(super) fn new(json: bool) -> Self {
        Self { json, start: Instant::now() }
    }

    /// One line of progress. A closed pipe must not end the experiment, so errors are dropped.
    pub(super) fn progress(&self, text: &str) {
        let line = format!("{:>7.1} s  {text}", self.start.elapsed().as_secs_f64());
        let _ = if self.json {
            writeln!(std::io::stderr(), "{line}")
        } else {
            writeln!(std::io::stdout(), "{line}")
        };
    }

    /// The result itself.
    pub(super) fn result(&self, text: &str) {
        let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    }
}
