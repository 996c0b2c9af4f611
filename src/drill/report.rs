//! What a drill has shown: as JSON, in a few lines, and as a document to keep.
//! Sans-io.

use std::fmt;

use serde::Serialize;

/// A whole drill. Times are milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Layout of this object; raised when a field goes or changes its meaning.
    pub version: u8,
    /// When it began, seconds since the Unix epoch.
    pub began_at: u64,
    /// The virtual address.
    pub address: String,
    /// What was asked every few milliseconds.
    pub probe: String,
    /// Time between two probes.
    pub every_ms: u64,
    /// The longest time without an answer that passes.
    pub bound_ms: u64,
    /// Each way there and back.
    pub rounds: Vec<[Leg; 2]>,
    /// The longest time without an answer.
    pub longest_outage_ms: f64,
    /// Probes sent and those that failed, from the first failover to the last settling.
    pub probes: usize,
    /// See `probes`.
    pub failed: usize,
    /// Whether the address is where it was.
    pub restored: bool,
    /// Whether it is, and no outage was longer than `bound_ms`.
    pub passed: bool,
    /// What happened when.
    pub timeline: Vec<Moment>,
    /// What ended the drill early.
    pub error: Option<String>,
}

/// One planned failover.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Leg {
    /// Name of the node that held the address.
    pub from: String,
    /// Name of the node that took it.
    pub to: String,
    /// Until the one heard that the other is Active.
    pub took_ms: u64,
    /// The longest time without an answer.
    pub outage_ms: f64,
    /// Probes sent until it had settled.
    pub probes: usize,
    /// Those that failed.
    pub failed: usize,
    /// Tunnels registered at the node that held the address.
    pub tunnels_before: usize,
    /// The same at the node that took it, once settled.
    pub tunnels_after: usize,
    /// Until as many were there.
    pub tunnels_ms: Option<u64>,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Moment {
    /// Since the drill began.
    pub at_ms: u64,
    /// In a few words.
    pub what: String,
}

impl Report {
    /// The document.
    pub fn to_markdown(&self) -> String {
        let verdict = if self.passed { "passed" } else { "FAILED" };
        let mut text = format!(
            "# Failover drill of {}: {verdict}\n\n\
             Probe: `{}` every {} ms. Longest time without an answer: {:.1} ms (allowed: {} ms). \
             Probes: {}, failed: {}. {}\n\n\
             | from | to | Active after | outage | probes | failed | tunnels | tunnels back after |\n\
             |---|---|---|---|---|---|---|---|\n",
            self.address,
            self.probe,
            self.every_ms,
            self.longest_outage_ms,
            self.bound_ms,
            self.probes,
            self.failed,
            self.roles(),
        );
        for leg in self.rounds.iter().flatten().filter(|leg| !leg.to.is_empty()) {
            let back = leg.tunnels_ms.map_or("never".to_owned(), |time| format!("{time} ms"));
            text.push_str(&format!(
                "| {} | {} | {} ms | {:.1} ms | {} | {} | {} to {} | {back} |\n",
                leg.from,
                leg.to,
                leg.took_ms,
                leg.outage_ms,
                leg.probes,
                leg.failed,
                leg.tunnels_before,
                leg.tunnels_after,
            ));
        }
        text.push_str("\n## What happened when\n\n");
        for Moment { at_ms, what } in &self.timeline {
            text.push_str(&format!("- {:.3} s: {what}\n", seconds(*at_ms)));
        }
        if let Some(error) = &self.error {
            text.push_str(&format!("\nEnded early: {error}\n"));
        }
        text
    }

    fn roles(&self) -> &'static str {
        if self.restored {
            "The address is where it was before."
        } else {
            "The address is NOT where it was before."
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for leg in self.rounds.iter().flatten().filter(|leg| !leg.to.is_empty()) {
            writeln!(
                f,
                "{} -> {}: outage {:.1} ms, {} of {} probes failed, tunnels {} -> {}",
                leg.from,
                leg.to,
                leg.outage_ms,
                leg.failed,
                leg.probes,
                leg.tunnels_before,
                leg.tunnels_after
            )?;
        }
        let verdict = if self.passed { "passed" } else { "FAILED" };
        writeln!(
            f,
            "drill {verdict}: longest outage {:.1} ms (allowed {} ms), {} of {} probes failed. {}",
            self.longest_outage_ms,
            self.bound_ms,
            self.failed,
            self.probes,
            self.roles()
        )
    }
}

/// For people.
#[expect(clippy::cast_precision_loss, reason = "a drill is no longer than a few hours")]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_what_counts() {
        let leg = |from: &str, to: &str| Leg {
            from: from.into(),
            to: to.into(),
            took_ms: 12,
            outage_ms: 23.25,
            probes: 300,
            failed: 1,
            tunnels_before: 2,
            tunnels_after: 2,
            tunnels_ms: Some(180),
        };
        let report = Report {
            address: "192.0.2.10".into(),
            probe: "tcp://192.0.2.10:8780".into(),
            rounds: vec![[leg("a", "b"), leg("b", "a")]],
            longest_outage_ms: 23.25,
            restored: true,
            timeline: vec![Moment { at_ms: 1500, what: "b is Active".into() }],
            ..Report::default()
        };
        let (text, document) = (report.to_string(), report.to_markdown());
        assert!(text.contains("a -> b: outage 23.2 ms, 1 of 300") && text.contains("FAILED"));
        for part in ["FAILED", "| b | a | 12 ms |", "1.500 s: b is Active", "where it was before"] {
            assert!(document.contains(part), "{part}\n{document}");
        }
        assert!(!Report::default().to_markdown().contains("|  |"));
    }
}
