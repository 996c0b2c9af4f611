//! Sans-io: from measurements to figures, the table for people and the JSON for tools.
//!
//! The shape of the JSON is stable; `docs/reference/lab.md` defines every key.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

/// Width of the columns with outages.
const OUTAGE: usize = 11;

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
    /// The web nodes, if they take part.
    #[serde(flatten)]
    pub web: Option<Web>,
    /// The database, if it takes part.
    #[serde(flatten)]
    pub database: Option<Database>,
    /// What else had to hold with this fault, and whether it did.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<&'static str, bool>,
    /// When an isolated node had let go of the address, milliseconds after the fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_ms: Option<f64>,
}

/// What a fault cost those who use Nextcloud itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Web {
    /// Largest hole between answers of the web nodes, milliseconds.
    pub web_outage_ms: f64,
    /// HTTP requests sent to them in the round.
    pub web_requests: u64,
    /// Failed among those sent after the fault and after the virtual IP answered again.
    pub web_failed: u64,
    /// Failed among those sent before that.
    pub web_lost: u64,
}

/// What a fault cost those who use the database.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Database {
    /// Largest hole between confirmed transactions, milliseconds.
    pub database_outage_ms: f64,
    /// Transactions begun in the round.
    pub transactions: u64,
    /// Not confirmed among those begun after the fault and after the virtual IP answered again.
    pub transactions_failed: u64,
    /// Not confirmed among those begun before that.
    pub transactions_lost: u64,
    /// Confirmed.
    pub commits: u64,
    /// Confirmed, but not on every node of the database at the end of the round.
    pub commits_missing: u64,
}

impl Round {
    /// Whether service came back and everything else held.
    fn is_good(&self) -> bool {
        self.recovered && self.checks.values().all(|held| *held)
    }

    /// In the order of [`Summary::outages`].
    fn outages(&self) -> Vec<f64> {
        let mut outages = vec![self.vip_outage_ms, self.tunnel_outage_ms];
        outages.extend(self.web.as_ref().map(|web| web.web_outage_ms));
        outages.extend(self.database.as_ref().map(|db| db.database_outage_ms));
        outages
    }

    /// Everything that was counted, by the name of its column.
    fn counts(&self) -> Vec<(&'static str, u64)> {
        let mut counts = vec![
            ("requests", self.requests),
            ("failed", self.failed),
            ("lost", self.lost),
            ("delayed", self.delayed),
            ("ws open", self.ws_open),
            ("ws reset", self.ws_reset),
        ];
        if let Some(web) = &self.web {
            counts.extend([
                ("web requests", web.web_requests),
                ("failed", web.web_failed),
                ("lost", web.web_lost),
            ]);
        }
        if let Some(database) = &self.database {
            counts.extend([
                ("transactions", database.transactions),
                ("failed", database.transactions_failed),
                ("lost", database.transactions_lost),
                ("commits", database.commits),
                ("missing", database.commits_missing),
            ]);
        }
        counts
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
    /// The web nodes, if they took part.
    #[serde(flatten)]
    pub web: Option<WebSummary>,
    /// The database, if it took part.
    #[serde(flatten)]
    pub database: Option<DatabaseSummary>,
}

/// The web nodes over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WebSummary {
    /// Of the rounds' `web_outage_ms`.
    pub web_outage_ms: Spread,
    /// Sum.
    pub web_failed: u64,
    /// Sum.
    pub web_lost: u64,
}

/// The database over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatabaseSummary {
    /// Of the rounds' `database_outage_ms`.
    pub database_outage_ms: Spread,
    /// Sum.
    pub transactions_failed: u64,
    /// Sum.
    pub transactions_lost: u64,
    /// Sum.
    pub commits: u64,
    /// Sum.
    pub commits_missing: u64,
}

impl Summary {
    fn of(rounds: &[Round]) -> Self {
        let web: Vec<&Web> = rounds.iter().filter_map(|round| round.web.as_ref()).collect();
        let database: Vec<&Database> =
            rounds.iter().filter_map(|round| round.database.as_ref()).collect();
        Self {
            vip_outage_ms: Spread::of(rounds.iter().map(|round| round.vip_outage_ms)),
            tunnel_outage_ms: Spread::of(rounds.iter().map(|round| round.tunnel_outage_ms)),
            failed: rounds.iter().map(|round| round.failed).sum(),
            ws_reset: rounds.iter().map(|round| round.ws_reset).sum(),
            lost: rounds.iter().map(|round| round.lost).sum(),
            web: (!web.is_empty()).then(|| WebSummary {
                web_outage_ms: Spread::of(web.iter().map(|web| web.web_outage_ms)),
                web_failed: web.iter().map(|web| web.web_failed).sum(),
                web_lost: web.iter().map(|web| web.web_lost).sum(),
            }),
            database: (!database.is_empty()).then(|| DatabaseSummary {
                database_outage_ms: Spread::of(database.iter().map(|db| db.database_outage_ms)),
                transactions_failed: database.iter().map(|db| db.transactions_failed).sum(),
                transactions_lost: database.iter().map(|db| db.transactions_lost).sum(),
                commits: database.iter().map(|db| db.commits).sum(),
                commits_missing: database.iter().map(|db| db.commits_missing).sum(),
            }),
        }
    }

    /// Every outage by the name of its column.
    fn outages(&self) -> Vec<(&'static str, Spread)> {
        let mut outages =
            vec![("VIP ms", self.vip_outage_ms), ("tunnel ms", self.tunnel_outage_ms)];
        outages.extend(self.web.as_ref().map(|web| ("web ms", web.web_outage_ms)));
        outages.extend(self.database.as_ref().map(|db| ("database ms", db.database_outage_ms)));
        outages
    }
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
        let summary = Summary::of(&rounds);
        Self { rounds, summary, versions }
    }

    /// Whether service came back and all checks held in every round: decides the exit code.
    pub fn service_came_back(&self) -> bool {
        self.rounds.iter().all(Round::is_good)
    }

    /// The table for people, with a line that says what the columns mean.
    pub fn table(&self) -> String {
        let outages = self.summary.outages();
        let mut text = String::from("round  fault ");
        // Writing to a String cannot fail.
        for (title, _) in &outages {
            let _ = write!(text, "  {title:>OUTAGE$}");
        }
        for (title, _) in self.rounds.first().map(Round::counts).unwrap_or_default() {
            let _ = write!(text, "  {title}");
        }
        text.push('\n');
        for (n, round) in self.rounds.iter().enumerate() {
            let _ = write!(text, "{:>5}  {:<6}", n + 1, round.fault);
            for outage in round.outages() {
                let _ = write!(text, "  {outage:>OUTAGE$.1}");
            }
            for (title, count) in round.counts() {
                let _ = write!(text, "  {count:>width$}", width = title.len());
            }
            let _ = writeln!(text, "{}", round.verdict());
        }
        let spread = |name: &str, value: fn(&Spread) -> f64| {
            let values =
                outages.iter().map(|(_, spread)| format!("  {:>OUTAGE$.1}", value(spread)));
            format!("{name:>13}{}\n", values.collect::<String>())
        };
        text += &spread("min", |spread| spread.min);
        text += &spread("median", |spread| spread.median);
        text += &spread("max", |spread| spread.max);
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
            web: None,
            database: None,
            checks: BTreeMap::new(),
            released_ms: None,
        }
    }

    /// With everything behind the address.
    fn whole(vip_outage_ms: f64) -> Round {
        let web = Web {
            web_outage_ms: vip_outage_ms + 10.0,
            web_requests: 300,
            web_failed: 0,
            web_lost: 7,
        };
        let database = Database {
            database_outage_ms: vip_outage_ms + 20.0,
            transactions: 500,
            transactions_failed: 0,
            transactions_lost: 9,
            commits: 491,
            commits_missing: 0,
        };
        Round { web: Some(web), database: Some(database), ..round(vip_outage_ms, true) }
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
    fn web_nodes_and_database_have_keys_and_columns_of_their_own() {
        let outcome = outcome(vec![whole(250.0), whole(210.0)]);
        let value = serde_json::to_value(&outcome).unwrap();
        for (key, expected) in [
            ("web_outage_ms", 260.0.into()),
            ("web_requests", 300.into()),
            ("web_lost", 7.into()),
            ("database_outage_ms", 270.0.into()),
            ("transactions", 500.into()),
            ("commits", 491.into()),
            ("commits_missing", serde_json::Value::from(0)),
        ] {
            assert_eq!(value["rounds"][0][key], expected, "{key}");
        }
        let summary = &value["summary"];
        assert_eq!(summary["web_outage_ms"]["min"], 220.0);
        assert_eq!(summary["database_outage_ms"]["median"], 250.0);
        assert_eq!((&summary["web_lost"], &summary["commits"]), (&14.into(), &982.into()));
        let table = outcome.table();
        let lines: Vec<&str> = table.lines().collect();
        for (line, words) in [
            (0, &["VIP ms", "tunnel ms", "web ms", "database ms", "web requests", "commits"][..]),
            (1, &["250.0", "290.0", "260.0", "270.0", "300", "491"]),
            (4, &["median", "230.0", "270.0", "240.0", "250.0"]),
        ] {
            let mut rest = lines[line];
            for word in words {
                let (_, after) = rest.split_once(word).unwrap_or_else(|| panic!("{word}: {table}"));
                rest = after;
            }
        }
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
