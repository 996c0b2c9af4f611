//! `trigon reload`: what a new configuration has changed, and what waits for a restart.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The answer of `POST /reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Keys whose new values are in force now.
    pub changed: Vec<String>,
    /// Keys whose new values take effect with the next start.
    pub needs_restart: Vec<String>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.changed.as_slice() {
            [] if self.needs_restart.is_empty() => writeln!(f, "nothing has changed")?,
            [] => writeln!(f, "nothing of what has changed takes effect now")?,
            keys => writeln!(f, "in force now: {}", keys.join(", "))?,
        }
        if !self.needs_restart.is_empty() {
            writeln!(f, "needs a restart: {}", self.needs_restart.join(", "))?;
        }
        Ok(())
    }
}
