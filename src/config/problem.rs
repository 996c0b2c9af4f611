//! What is wrong with a configuration, in words an admin can act on. Sans-io.

use std::fmt;

/// One thing to fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File the problem is in.
    pub file: String,
    /// Line in that file, counted from 1; 0 when the problem has no place (a missing section).
    pub line: usize,
    /// Dotted key, such as `frp.listen`.
    pub key: String,
    /// What stands there, as the admin wrote it, or a whole sentence about it.
    pub found: String,
    /// What would be right; empty when `found` is a sentence that says so itself.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        let Self { key, found, expected, .. } = self;
        if expected.is_empty() {
            write!(f, ": {key}: {found}")
        } else {
            write!(f, ": {key}: found {found}, expected {expected}")
        }
    }
}

/// Every problem of a configuration at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
