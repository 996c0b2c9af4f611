//! Runs rows and compares what happened with what they expect. All rows run; what failed is told
//! at the end, row by row.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use trigon::lab::exapp::Seen;
use trigon::lab::nextcloud::Call;

use super::row::{self, Expect, Row, Step, Text};
use super::stage::{Stage, TOKEN, belongs};
use super::subject::{Kind, Settings, Subject};
use super::wire::{Answer, Outcome, exchange};

/// Longest wait for an answer that is to come.
const PATIENCE: Duration = Duration::from_secs(20);
/// After this much silence a subject that drops without closing has dropped.
const SILENCE: Duration = Duration::from_millis(1500);
/// Failures that make a ban, the default of HaRP and Trigon.
pub(crate) const BAN: usize = 10;
/// Rows under way at a time.
const AT_ONCE: usize = 12;

/// Starts a subject and holds it to the rows.
pub(crate) async fn hold(table: &str, rows: Vec<Row>) {
    hold_to(&Subject::start().await, table, rows).await;
}

/// Holds a running subject to the rows.
pub(crate) async fn hold_to(subject: &Subject, table: &str, rows: Vec<Row>) {
    let harp = subject.kind == Kind::Harp;
    let all = rows.len();
    let kept: Vec<_> = rows.into_iter().filter(|row| !harp || row.harp_skipped.is_none()).collect();
    let ran = kept.len();
    let results: Vec<_> = stream::iter(kept)
        .map(|row| async move { (row.name, run(subject, &row).await) })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let failed: Vec<_> = results.into_iter().filter(|(_, problems)| !problems.is_empty()).collect();
    eprintln!("{table}: {ran} of {all} rows ran, {} failed", failed.len());
    for (name, problems) in &failed {
        eprintln!("\n{table}: {name}");
        for problem in problems {
            eprintln!("    {problem}");
        }
    }
    assert!(failed.is_empty(), "{table}: {} of {ran} rows failed", failed.len());
}

/// Fills the placeholders of one row.
struct Filler {
    n: String,
    client: String,
    /// An address nobody has.
    decoy: String,
    /// An IPv6 /64.
    network: String,
}

impl Filler {
    fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // A foreign subject remembers bans and records from earlier runs: numbers start elsewhere.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let start = u32::try_from(now * 7 % 120_000).unwrap();
        let number = start + NEXT.fetch_add(1, Ordering::Relaxed);
        // The benchmarking network (RFC 2544) has 131,072 addresses.
        let client = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number);
        let decoy = Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 0)) + number);
        let network = format!("2001:db8:{:x}:{:x}", number >> 16, number & 0xffff);
        Self {
            n: number.to_string(),
            client: client.to_string(),
            decoy: decoy.to_string(),
            network,
        }
    }

    fn fill(&self, text: &str) -> String {
        if !text.contains('{') {
            return text.to_owned();
        }
        let (host, port) = &Stage::get().recorded;
        let mut text = text
            .replace("{n}", &self.n)
            .replace("{client}", &self.client)
            .replace("{decoy}", &self.decoy)
            .replace("{network}", &self.network)
            .replace("{key}", &Settings::get().key)
            .replace("{host}", host)
            .replace("{port}", &port.to_string());
        while let Some((before, rest)) = text.split_once("{basic:") {
            let (user, after) = rest.split_once('}').unwrap();
            // A bare user is an ExApp's; with a colon it is somebody's own password.
            let pair = if user.contains(':') { user.to_owned() } else { format!("{user}:{TOKEN}") };
            text = format!("{before}{}{after}", STANDARD.encode(pair));
        }
        text
    }
}

async fn run(subject: &Subject, row: &Row) -> Vec<String> {
    let stage = Stage::get();
    let filler = Filler::next();
    let harp = subject.kind == Kind::Harp;
    stage.open(&filler.n);
    let mut problems = Vec::new();
    for (number, step) in row.steps.iter().enumerate() {
        let (send, expect) = match step {
            Step::Change(change) => {
                change(stage, &filler.n);
                continue;
            }
            Step::Request { send, harp: Some(harps), .. } if harp => (send, harps),
            Step::Request { send, expect, .. } => (send, expect),
        };
        let silent = harp && expect.status.is_none();
        let patience = if silent { SILENCE } else { PATIENCE };
        let bytes = send.bytes(&|text| filler.fill(text));
        let outcome = exchange(subject.address, &bytes, send.is_head(), patience).await;
        let judge = Judge { filler: &filler, expect, may_be_silent: silent };
        let mut found = judge.outcome(&outcome);
        found.extend(judge.exapp(&stage.seen.take(|seen| of_row(seen, &filler.n))));
        found.extend(judge.nextcloud(&stage.asked.take(|call| belongs(&call.app_id, &filler.n))));
        if !found.is_empty() {
            let told =
                String::from_utf8_lossy(&bytes[..bytes.len().min(600)]).escape_debug().to_string();
            problems.push(format!("step {}: sent {told}", number + 1));
            problems.append(&mut found);
        }
    }
    let strikes = row.harp_strikes.filter(|_| harp).unwrap_or(row.strikes);
    if let Some(expected) = strikes {
        let counted = count_strikes(subject, &filler).await;
        if counted != Ok(expected) {
            problems.push(format!("failures: expected {expected}, found {counted:?}"));
        }
    }
    stage.close(&filler.n);
    if let Some(why) = row.harp_differs.filter(|_| harp && !problems.is_empty()) {
        problems.push(format!("marked as differing: {why}"));
    }
    problems
}

/// Requests of a row reach its ExApps, whose ids end in its number.
fn of_row(seen: &Seen, n: &str) -> bool {
    joined(&seen.headers, "ex-app-id").is_some_and(|id| belongs(&id.to_lowercase(), n))
}

/// How many failures the row's address has: ten less than it takes to be banned.
async fn count_strikes(subject: &Subject, filler: &Filler) -> Result<usize, String> {
    let probe = row::get("/exapps/probe/nothing-here").bytes(&|text| filler.fill(text));
    for missing in 0..=BAN {
        match exchange(subject.address, &probe, false, SILENCE * 2).await {
            Outcome::Answer(answer) if answer.status == 404 => {}
            Outcome::Closed => return Ok(BAN - missing),
            Outcome::Silence if subject.kind == Kind::Harp => return Ok(BAN - missing),
            other => return Err(other.to_string()),
        }
    }
    Err("never banned".into())
}

struct Judge<'a> {
    filler: &'a Filler,
    expect: &'a Expect,
    may_be_silent: bool,
}

impl Judge<'_> {
    fn outcome(&self, outcome: &Outcome) -> Vec<String> {
        match (outcome, self.expect.status) {
            (Outcome::Answer(answer), Some(status)) => self.answer(answer, status),
            (Outcome::Closed, None) => Vec::new(),
            (Outcome::Silence, None) if self.may_be_silent => Vec::new(),
            (Outcome::Answer(answer), None) => {
                vec![format!("answer: expected none, found {answer}")]
            }
            (other, Some(status)) => vec![format!("answer: expected {status}, found {other}")],
            (other, None) => vec![format!("answer: expected none, found {other}")],
        }
    }

    fn answer(&self, answer: &Answer, status: u16) -> Vec<String> {
        let mut problems = Vec::new();
        if answer.status != status && self.expect.or != Some(answer.status) {
            problems.push(format!("status: expected {status}, found {answer}"));
        }
        let text = answer.text();
        match &self.expect.body {
            Some(Text::Is(body)) if text != self.filler.fill(body) => {
                problems.push(format!("body: expected {body:?}, found {text:?}"));
            }
            Some(Text::Contains(part)) if !text.contains(&self.filler.fill(part)) => {
                problems.push(format!("body: expected {part:?} in it, found {text:?}"));
            }
            _ => {}
        }
        for (name, value) in &self.expect.has {
            let value = self.filler.fill(value);
            if answer.header(name) != Some(&value) {
                problems
                    .push(format!("{name}: expected {value:?}, found {:?}", answer.header(name)));
            }
        }
        for name in &self.expect.lacks {
            if let Some(value) = answer.header(name) {
                problems.push(format!("{name}: expected none, found {value:?}"));
            }
        }
        problems
    }

    fn exapp(&self, seen: &[Seen]) -> Vec<String> {
        let (expected, seen) = match (&self.expect.reached, seen) {
            (None, []) => return Vec::new(),
            (None, seen) => {
                let targets: Vec<_> = seen.iter().map(|seen| &seen.target).collect();
                return vec![format!("ExApp: expected nothing, saw {targets:?}")];
            }
            (Some(expected), [seen]) => (expected, seen),
            (Some(expected), seen) => {
                let targets: Vec<_> = seen.iter().map(|seen| &seen.target).collect();
                return vec![format!("ExApp: expected {:?}, saw {targets:?}", expected.target)];
            }
        };
        let mut problems = Vec::new();
        let target = self.filler.fill(&expected.target);
        if seen.target != target {
            problems.push(format!("ExApp's target: expected {target:?}, saw {:?}", seen.target));
        }
        if expected.method.is_some_and(|method| method != seen.method.as_str()) {
            problems.push(format!(
                "ExApp's method: expected {:?}, saw {}",
                expected.method, seen.method
            ));
        }
        problems.extend(self.headers("ExApp's", &seen.headers, &expected.has, &expected.lacks));
        problems
    }

    fn nextcloud(&self, calls: &[Call]) -> Vec<String> {
        let mut problems = Vec::new();
        let meta = calls.iter().filter(|call| call.meta).count();
        let found = (meta, calls.len() - meta);
        if let Some(expected) = self.expect.asked.filter(|expected| *expected != found) {
            problems.push(format!(
                "Nextcloud (exapp-meta, user-info): expected {expected:?}, found {found:?}"
            ));
        }
        let asks_with =
            !(self.expect.asked_with.is_empty() && self.expect.asked_without.is_empty());
        let users = || calls.iter().filter(|call| !call.meta);
        if asks_with && users().next().is_none() {
            problems.push("Nextcloud: expected a user-info call, found none".into());
        }
        for call in users() {
            let Expect { asked_with, asked_without, .. } = self.expect;
            problems.extend(self.headers("Nextcloud's", &call.headers, asked_with, asked_without));
        }
        problems
    }

    fn headers(
        &self,
        whose: &str,
        found: &HeaderMap,
        has: &[(&'static str, String)],
        lacks: &[&'static str],
    ) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, value) in has {
            let value = self.filler.fill(value);
            let saw = joined(found, name);
            if saw.as_deref() != Some(&*value) {
                problems.push(format!("{whose} {name}: expected {value:?}, saw {saw:?}"));
            }
        }
        for name in lacks {
            if let Some(saw) = joined(found, name) {
                problems.push(format!("{whose} {name}: expected none, saw {saw:?}"));
            }
        }
        problems
    }
}

/// All lines of a header, joined by `|`.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    (!lines.is_empty()).then(|| lines.join("|"))
}
