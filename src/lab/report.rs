//! Sans-io: from measurements to figures, the table for people and the JSON for tools.
//!
//! The shape of the JSON is stable; `docs/reference/lab.md` defines every key.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

/// The result of `trigon lab`.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// One entry a round, in order.
    pub rounds: Vec<Round>,
    /// Over all rounds.
    pub summary: Summary,
    /// What was measured with.
    pub versions: Versions,
}

/// One fault and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Round {
    /// The fault's name on the command line.
    pub fault: String,
    /// Largest hole between answers of the virtual IP, milliseconds.
    pub vip_outage_ms: f64,
    /// Largest hole between answers of the ExApp through its tunnel, milliseconds.
    pub tunnel_outage_ms: f64,
    /// HTTP requests sent in the round.
    pub requests: u64,
    /// Failed among those sent after the fault and after the virtual IP answered again.
    pub failed: u64,
    /// Succeeded, but took longer than a second.
    pub delayed: u64,
    /// WebSockets open when the fault struck.
    pub ws_open: u64,
    /// Of these, how many broke.
    pub ws_reset: u64,
    /// Failed among those sent before that.
    pub lost: u64,
    /// Whether service came back within the limit.
    pub recovered: bool,
    /// What else had to hold with this fault, and whether it did.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<&'static str, bool>,
    /// When an isolated node had let go of the address, milliseconds after the fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_ms: Option<f64>,
}

impl Round {
    /// Whether service came back and everything else held.
    fn is_good(&self) -> bool {
        self.recovered && self.checks.values().all(|held| *held)
    }

    /// What the table says at the end of the line.
    fn verdict(&self) -> String {
        let failed = self.checks.iter().filter(|(_, held)| !**held).map(|(name, _)| *name);
        let failed: Vec<_> = failed.collect();
        match (self.recovered, failed.is_empty()) {
            (false, _) => "  DID NOT COME BACK".to_owned(),
            (true, false) => format!("  FAILED: {}", failed.join(", ")),
            (true, true) => String::new(),
        }
    }
}

/// The result of `trigon lab --soak`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Soak {
    /// How long.
    pub seconds: u32,
    /// HTTP requests that ended.
    pub requests: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How often a virtual router changed its state.
    pub transitions: u64,
    /// Largest hole between answers of the virtual IP, milliseconds.
    pub vip_outage_ms: f64,
}

impl Soak {
    /// The result for people.
    pub fn line(&self) -> String {
        let Self { seconds, requests, failed, transitions, vip_outage_ms } = self;
        format!(
            "{seconds} s with every processor busy: {transitions} changes of state, VIP outage \
             {vip_outage_ms} ms, {requests} requests ({} a second), {failed} failed",
            requests / u64::from((*seconds).max(1))
        )
    }
}

/// Figures over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Of the rounds' `vip_outage_ms`.
    pub vip_outage_ms: Spread,
    /// Of the rounds' `tunnel_outage_ms`.
    pub tunnel_outage_ms: Spread,
    /// Sum.
    pub failed: u64,
    /// Sum.
    pub ws_reset: u64,
    /// Sum.
    pub lost: u64,
}

/// Smallest, middle and largest of some values, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// Middle one; for an even count the mean of the two in the middle.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

/// What took part.
#[derive(Clone, Debug, Serialize)]
pub struct Versions {
    /// This program.
    pub trigon: String,
    /// What `frpc --version` says, or `built-in`.
    pub frpc: String,
}

impl Outcome {
    /// Sums up.
    pub fn new(rounds: Vec<Round>, versions: Versions) -> Self {
        let summary = Summary {
            vip_outage_ms: Spread::of(rounds.iter().map(|round| round.vip_outage_ms)),
            tunnel_outage_ms: Spread::of(rounds.iter().map(|round| round.tunnel_outage_ms)),
            failed: rounds.iter().map(|round| round.failed).sum(),
            ws_reset: rounds.iter().map(|round| round.ws_reset).sum(),
            lost: rounds.iter().map(|round| round.lost).sum(),
        };
        Self { rounds, summary, versions }
    }

    /// Whether service came back and all checks held in every round: decides the exit code.
    pub fn service_came_back(&self) -> bool {
        self.rounds.iter().all(Round::is_good)
    }

    /// The table for people, with a line that says what the columns mean.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "round  fault   VIP ms  tunnel ms  requests  failed  lost  delayed  ws open  ws reset\n",
        );
        // Writing to a String cannot fail.
        for (n, round) in self.rounds.iter().enumerate() {
            let _ = writeln!(
                text,
                "{:>5}  {:<6} {:>7.1}  {:>9.1}  {:>8}  {:>6}  {:>4}  {:>7}  {:>7}  {:>8}{}",
                n + 1,
                round.fault,
                round.vip_outage_ms,
                round.tunnel_outage_ms,
                round.requests,
                round.failed,
                round.lost,
                round.delayed,
                round.ws_open,
                round.ws_reset,
                round.verdict(),
            );
        }
        let (vip, tunnel) = (self.summary.vip_outage_ms, self.summary.tunnel_outage_ms);
        for (name, vip, tunnel) in [
            ("min", vip.min, tunnel.min),
            ("median", vip.median, tunnel.median),
            ("max", vip.max, tunnel.max),
        ] {
            let _ = writeln!(text, "{name:>12}  {vip:>7.1}  {tunnel:>9.1}");
        }
        let _ = writeln!(
            text,
            "trigon {}, frpc {}; lost = failed, but sent before the fault or the address answered again",
            self.versions.trigon, self.versions.frpc
        );
        text
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else {
            return Self::default();
        };
        let middle = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
        Self { min: *min, median: tenth(middle), max: *max }
    }
}

/// Milliseconds to the tenth: probes run each millisecond, more digits would pretend.
pub fn milliseconds(length: Duration) -> f64 {
    tenth(length.as_secs_f64() * 1000.0)
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(vip_outage_ms: f64, recovered: bool) -> Round {
        Round {
            fault: "kill".into(),
            vip_outage_ms,
            tunnel_outage_ms: vip_outage_ms + 40.0,
            requests: 400,
            failed: 1,
            delayed: 2,
            ws_open: 4,
            ws_reset: 3,
            lost: 5,
            recovered,
            checks: BTreeMap::new(),
            released_ms: None,
        }
    }

    fn outcome(rounds: Vec<Round>) -> Outcome {
        Outcome::new(rounds, Versions { trigon: "0.1.0".into(), frpc: "0.61.1".into() })
    }

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        let table: [(&[f64], f64, f64, f64); 5] = [
            (&[], 0.0, 0.0, 0.0),
            (&[7.0], 7.0, 7.0, 7.0),
            (&[9.0, 1.0, 5.0], 1.0, 5.0, 9.0),
            (&[4.0, 1.0, 2.0, 9.0], 1.0, 3.0, 9.0),
            (&[1.0, 1.3], 1.0, 1.2, 1.3),
        ];
        for (values, min, median, max) in table {
            assert_eq!(Spread::of(values.iter().copied()), Spread { min, median, max });
        }
    }

    #[test]
    fn the_json_has_the_documented_keys() {
        let value = serde_json::to_value(outcome(vec![round(250.0, true)])).unwrap();
        let expected = serde_json::json!({
            "rounds": [{
                "fault": "kill", "vip_outage_ms": 250.0, "tunnel_outage_ms": 290.0,
                "requests": 400, "failed": 1, "delayed": 2, "ws_open": 4, "ws_reset": 3,
                "lost": 5, "recovered": true,
            }],
            "summary": {
                "vip_outage_ms": {"min": 250.0, "median": 250.0, "max": 250.0},
                "tunnel_outage_ms": {"min": 290.0, "median": 290.0, "max": 290.0},
                "failed": 1, "ws_reset": 3, "lost": 5,
            },
            "versions": {"trigon": "0.1.0", "frpc": "0.61.1"},
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn one_round_without_return_fails_the_whole() {
        assert!(outcome(vec![round(1.0, true), round(2.0, true)]).service_came_back());
        let bad = outcome(vec![round(1.0, true), round(30_000.0, false)]);
        assert!(!bad.service_came_back());
        assert!(bad.table().contains("DID NOT COME BACK"));
    }

    #[test]
    fn a_check_that_did_not_hold_fails_the_whole_and_is_named() {
        let checks = BTreeMap::from([("no_flap", false), ("alarm_raised", true)]);
        let report = outcome(vec![Round { checks, ..round(1.0, true) }]);
        assert!(!report.service_came_back());
        assert!(report.table().contains("FAILED: no_flap\n"));
        let value = serde_json::to_value(report).unwrap();
        assert_eq!(value["rounds"][0]["checks"]["alarm_raised"], true);
    }

    #[test]
    fn the_table_shows_every_round_and_the_spread() {
        let text = outcome(vec![round(200.0, true), round(300.0, true)]).table();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + 2 + 3 + 1);
        assert!(lines[1].contains("200.0") && lines[2].contains("300.0"));
        assert!(lines[4].contains("median") && lines[4].contains("250.0"));
    }

    #[test]
    fn milliseconds_are_rounded_to_a_tenth() {
        assert_eq!(milliseconds(Duration::from_micros(1_249)).to_string(), "1.2");
        assert_eq!(milliseconds(Duration::ZERO).to_string(), "0");
    }
}
