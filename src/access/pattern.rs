//! One route pattern with the meaning Python's `re.match` gives it: anchored at the start only,
//! case sensitive, on the undecoded path.
//!
//! Patterns run on the linear engine where they can. Those that need look-around or
//! back-references run on a backtracking engine that gives up after [`STEP_LIMIT`] steps
//! (weakness W10: HaRP's engine has no limit and visitors choose the input).

use thiserror::Error;

/// Backtracking steps one match may take. A path at the header limit costs an honest pattern a
/// few per byte.
const STEP_LIMIT: usize = 100_000;

/// Most bytes a compiled pattern may take.
const SIZE_LIMIT: usize = 2 << 20;

/// A compiled route pattern.
#[derive(Debug)]
pub(super) enum Pattern {
    Linear(regex::Regex),
    Backtracking(fancy_regex::Regex),
    /// Valid, but larger than [`SIZE_LIMIT`]. Treated as one that always gives up, because
    /// leaving it out could let a later, more open route decide.
    TooLarge,
}

/// What matching found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    /// The step limit was reached; the answer is unknown.
    GaveUp,
}

/// The pattern compiles on neither engine.
#[derive(Debug, Error)]
#[error("pattern does not compile")]
pub(super) struct BadPattern(#[source] Box<fancy_regex::Error>);

impl Pattern {
    pub(super) fn new(pattern: &str) -> Result<Self, BadPattern> {
        match regex::RegexBuilder::new(pattern).size_limit(SIZE_LIMIT).build() {
            Ok(regex) => return Ok(Self::Linear(regex)),
            Err(regex::Error::CompiledTooBig(_)) => return Ok(Self::TooLarge),
            Err(_) => {}
        }
        fancy_regex::RegexBuilder::new(pattern)
            .backtrack_limit(STEP_LIMIT)
            .delegate_size_limit(SIZE_LIMIT)
            .build()
            .map(Self::Backtracking)
            .map_err(|error| BadPattern(Box::new(error)))
    }

    pub(super) fn matches(&self, path: &str) -> Match {
        match self {
            // The leftmost match starts at 0 exactly if there is a match at 0.
            Self::Linear(regex) => yes_if(regex.find(path).is_some_and(|found| found.start() == 0)),
            Self::Backtracking(regex) => match regex.find(path) {
                Ok(found) => yes_if(found.is_some_and(|found| found.start() == 0)),
                Err(_) => Match::GaveUp,
            },
            Self::TooLarge => Match::GaveUp,
        }
    }
}

fn yes_if(matched: bool) -> Match {
    if matched { Match::Yes } else { Match::No }
}
