//! How a server behind Trigon is shown and ordered about, whatever it serves: the words of
//! `trigon backend`, status and metrics. Sans-io.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the operator wants of a server. Kept per node and until its next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admin {
    /// It works as its health allows.
    #[default]
    Ready,
    /// It ends what it has and gets nothing new; its health is still watched.
    Drain,
    /// It gets nothing new and is left alone: a web node is not checked either, a database node
    /// loses the sessions it has.
    Maint,
}

impl Admin {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Admin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Ready, Self::Drain, Self::Maint];
        let known = all.into_iter().find(|admin| admin.as_str() == text);
        known.ok_or_else(|| format!("found {text:?}, expected ready, drain or maint"))
    }
}

/// How a server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Not known yet.
    #[default]
    Checking,
    /// It can work.
    Up,
    /// Its checks are fine, but its answers were not: it gets nothing for a while.
    Ejected,
    /// Its checks fail.
    Down,
}

impl Condition {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checking => "checking",
            Self::Up => "up",
            Self::Ejected => "ejected",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One server of one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The pool it belongs to, such as `web`.
    pub pool: String,
    /// Its name in that pool.
    pub name: String,
    /// Where it is, with its port.
    pub address: String,
    /// What the operator wants of it.
    pub admin: Admin,
    /// How it is.
    pub health: Condition,
    /// Seconds since that changed.
    pub since_seconds: u64,
    /// What it has to do right now: requests, connections or sessions.
    pub in_flight: u64,
    /// What it was given since the start.
    pub total: u64,
    /// How much of that failed through its fault.
    pub failed: u64,
    /// Why it is not up, or what else is worth knowing; empty when nothing is.
    pub note: String,
}

impl Member {
    /// The name that is unique among all pools.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.pool, self.name)
    }

    /// Whether it is meant by `name`, which may leave the pool out.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.full_name() == name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_are_written() {
        for admin in [Admin::Ready, Admin::Drain, Admin::Maint] {
            assert_eq!(admin.to_string().parse(), Ok(admin));
        }
        assert!("up".parse::<Admin>().unwrap_err().contains("ready, drain or maint"));
    }
}
