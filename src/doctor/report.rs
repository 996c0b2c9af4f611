//! What the doctor found: legs with a verdict each, as one page or as JSON. Sans-io.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// How one leg came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Works, and somebody should look at it.
    Warn,
    /// Does not work.
    Fail,
    /// Not tried, because of what another leg found.
    Skip,
}

/// An outcome with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it came out.
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
    /// What to do about it; empty when there is nothing to do.
    pub advice: String,
}

impl Verdict {
    /// As it should be.
    pub fn ok(found: impl Into<String>) -> Self {
        Self { outcome: Outcome::Ok, found: found.into(), advice: String::new() }
    }

    /// Works, but.
    pub fn warn(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warn, found: found.into(), advice: advice.into() }
    }

    /// Does not work.
    pub fn fail(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail, found: found.into(), advice: advice.into() }
    }

    /// Not tried.
    pub fn skip(why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Skip, found: why.into(), advice: String::new() }
    }
}

/// One leg of the way from a visitor to an ExApp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leg {
    /// Its name, such as `frp login`. Stable.
    pub leg: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What was tried.
    pub tried: String,
    /// What was found.
    pub found: String,
    /// What to do; empty when there is nothing to do.
    pub advice: String,
    /// How long it took, milliseconds.
    pub elapsed_ms: u64,
}

/// All legs, in the order in which they were tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The legs.
    pub legs: Vec<Leg>,
}

impl Report {
    /// Adds a leg.
    pub fn add(&mut self, leg: &str, tried: String, verdict: Verdict, took: Duration) {
        let Verdict { outcome, found, advice } = verdict;
        let elapsed_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.legs.push(Leg { leg: leg.to_owned(), outcome, tried, found, advice, elapsed_ms });
    }

    /// How many legs came out like this.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.legs.iter().filter(|leg| leg.outcome == outcome).count()
    }

    /// Whether no leg failed.
    pub fn is_well(&self) -> bool {
        self.count(Outcome::Fail) == 0
    }

    /// One JSON object: `ok`, `failed`, `warned` and `legs`. Stable.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "ok": self.is_well(),
            "failed": self.count(Outcome::Fail),
            "warned": self.count(Outcome::Warn),
            "legs": self.legs,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for leg in &self.legs {
            let word = match leg.outcome {
                Outcome::Ok => "ok",
                Outcome::Warn => "warn",
                Outcome::Fail => "FAIL",
                Outcome::Skip => "-",
            };
            let Leg { leg: name, tried, found, elapsed_ms, .. } = leg;
            writeln!(f, "{word:<5} {name:<18} {tried}: {found} ({elapsed_ms} ms)")?;
            if !leg.advice.is_empty() {
                writeln!(f, "      -> {}", leg.advice)?;
            }
        }
        match (self.count(Outcome::Fail), self.count(Outcome::Warn)) {
            (0, 0) => writeln!(f, "all well"),
            (0, warned) => writeln!(f, "no leg failed, {warned} to look at"),
            (failed, _) => writeln!(f, "{failed} of {} legs failed", self.legs.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        let took = Duration::from_millis(3);
        report.add("http", "GET /x".into(), Verdict::ok("200"), took);
        report.add("frp login", "log in".into(), Verdict::fail("refused", "open it"), took);
        report.add("engine 24000", "_ping".into(), Verdict::skip("no node"), Duration::ZERO);
        report
    }

    #[test]
    fn each_leg_is_a_line_and_advice_stands_below() {
        let expected = "ok    http               GET /x: 200 (3 ms)\n\
                        FAIL  frp login          log in: refused (3 ms)\n      -> open it\n\
                        -     engine 24000       _ping: no node (0 ms)\n\
                        1 of 3 legs failed\n";
        assert_eq!(report().to_string(), expected);
        assert!(!report().is_well());
        let mut warned = Report::default();
        warned.add("a", "b".into(), Verdict::warn("c", "d"), Duration::ZERO);
        assert!(warned.is_well());
        assert!(warned.to_string().ends_with("no leg failed, 1 to look at\n"));
    }

    #[test]
    fn the_json_has_a_fixed_shape() {
        let json = report().json();
        assert_eq!((json["ok"].as_bool(), json["failed"].as_u64()), (Some(false), Some(1)));
        let expected = serde_json::json!({
            "leg": "frp login", "outcome": "fail", "tried": "log in", "found": "refused",
            "advice": "open it", "elapsed_ms": 3,
        });
        assert_eq!(json["legs"][1], expected);
        assert_eq!(json["legs"][2]["outcome"], "skip");
    }
}
