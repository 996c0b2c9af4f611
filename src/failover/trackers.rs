//! Looks at what the priorities of virtual routers depend on: other interfaces, scripts, files, and
//! this node's own health. The link of a router's own interface is watched by the VRRP thread.
//!
//! `config` says what there is, `tally` (sans-io) when a thing counts as up, `script` runs a
//! program once. Here is one task per thing that is looked at; what a change of it does to a
//! priority is decided by the virtual router.

mod config;
mod script;
mod tally;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

pub use config::{Health, Script, Source, Tracker, User};
use tally::{Start, Tally};

/// How often the link of an interface is looked at: one small read from the kernel.
const LINK_EVERY: Duration = Duration::from_millis(50);

/// How often a file is read.
const FILE_EVERY: Duration = Duration::from_secs(1);

/// Longest look at a file; one on a server that is gone would hang for ever.
const FILE_WITHIN: Duration = Duration::from_secs(5);

/// A number and its line end need no more.
const FILE_BYTES: usize = 64;

/// By then the VRRP thread has made of a change what there is to make, for the log.
const SETTLED: Duration = Duration::from_millis(20);

/// What a look has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is well.
    Up,
    /// It is not.
    Down,
    /// The number in a file.
    Value(i32),
}

/// Whether a part of this node is well, asked now.
pub type Check = Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// Tells a virtual router what one of its trackers shows: router, tracker, reading.
pub type Tell = Box<dyn Fn(&str, &str, Reading) + Send + Sync>;

/// The priority in force of a virtual router.
pub type Priority = Box<dyn Fn(&str) -> Option<u8> + Send + Sync>;

/// What the task is given by rooms it may not know.
pub struct Checks {
    /// Looks at parts of this node; those that are missing are never well.
    pub health: BTreeMap<Health, Check>,
    /// Where readings go.
    pub tell: Tell,
    /// For the log.
    pub priority: Priority,
}

/// How a part of this node is looked at.
struct Rhythm {
    every: Duration,
    /// Longest look.
    within: Duration,
    tally: Tally,
}

impl Rhythm {
    fn of(health: Health) -> Self {
        let second = Duration::from_secs(1);
        let (every, within, rise, fall) = match health {
            Health::Listeners => (second, second, 2, 3),
            Health::Nextcloud => (second * 2, second * 5, 2, 5),
            // A node that gave the address away for its tunnels must not want it back before the
            // other has had time to get them.
            Health::Tunnels => (second, second, 60, 15),
        };
        Self { every, within, tally: Tally::new(rise, fall, Start::Up) }
    }
}

/// Watches everything until `stop`.
pub async fn watch(trackers: Vec<Tracker>, checks: Checks, stop: CancellationToken) {
    let checks = Arc::new(checks);
    let mut tasks = JoinSet::new();
    for (source, places) in by_source(trackers) {
        let outlet = Outlet { name: source.name(), places, checks: Arc::clone(&checks) };
        tasks.spawn(async move {
            match source {
                Source::Interface(name) => watch_link(&name, &outlet).await,
                Source::Script(script) => watch_script(&script, &outlet).await,
                Source::File(path) => watch_file(&path, &outlet).await,
                Source::Health(health) => watch_health(health, Rhythm::of(health), &outlet).await,
            }
        });
    }
    // Dropping the tasks ends them, and whatever programs they run.
    stop.cancelled().await;
}

/// Every source once, with all places that depend on it.
fn by_source(trackers: Vec<Tracker>) -> Vec<(Source, Vec<Place>)> {
    let mut sources: Vec<(Source, Vec<Place>)> = Vec::new();
    for Tracker { router, name, source } in trackers {
        match sources.iter_mut().find(|(known, _)| *known == source) {
            Some((_, places)) => places.push(Place { router, name }),
            None => sources.push((source, vec![Place { router, name }])),
        }
    }
    sources
}

/// A tracker of a virtual router.
struct Place {
    router: Arc<str>,
    name: Arc<str>,
}

/// Where the readings of one source go.
struct Outlet {
    name: String,
    places: Vec<Place>,
    checks: Arc<Checks>,
}

impl Outlet {
    /// Tells what is assumed at the start; nothing has changed by that.
    fn begin(&self, reading: Reading) {
        for place in &self.places {
            (self.checks.tell)(&place.router, &place.name, reading);
        }
    }

    /// Tells a change, and what it did to each priority.
    async fn change(&self, reading: Reading, why: &str) {
        let priorities = || self.places.iter().map(|place| (self.checks.priority)(&place.router));
        let before: Vec<_> = priorities().collect();
        self.begin(reading);
        sleep(SETTLED).await;
        for ((place, before), after) in self.places.iter().zip(before).zip(priorities()) {
            tracing::info!(
                router = &*place.router, tracker = self.name, reading = ?reading, why,
                priority.from = before, priority.to = after,
                "a tracker of a virtual router changed"
            );
        }
    }
}

fn up_or_down(up: bool) -> Reading {
    if up { Reading::Up } else { Reading::Down }
}

async fn watch_script(script: &Script, outlet: &Outlet) {
    let start = if script.init_fail { Start::Down } else { Start::Unknown };
    let mut tally = Tally::new(script.rise, script.fall, start);
    outlet.begin(up_or_down(tally.is_up()));
    let mut told = String::new();
    loop {
        let next = Instant::now() + script.interval;
        let outcome = script::run(script).await;
        let good = outcome.is_ok();
        let why = outcome.err().map_or_else(|| "it succeeded".into(), |error| error.to_string());
        if let Some(up) = tally.take(good) {
            outlet.change(up_or_down(up), &why).await;
        } else if !good && why != told {
            // A first failure that changes nothing, or another reason than before.
            tracing::debug!(tracker = outlet.name, why, "a tracker's program failed");
        }
        told = why;
        sleep_until(next).await;
    }
}

async fn watch_link(name: &str, outlet: &Outlet) {
    let carrier = Path::new("/sys/class/net").join(name).join("carrier");
    // The file of an interface that is switched off cannot be read; that of one that is gone is
    // not there.
    let has_link = || std::fs::read(&carrier).is_ok_and(|text| text.starts_with(b"1"));
    let mut told = has_link();
    outlet.begin(up_or_down(told));
    let mut ticks = interval(LINK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let up = has_link();
        if up != told {
            told = up;
            let why = if up { "it has a link" } else { "its link is down, or it is gone" };
            outlet.change(up_or_down(up), why).await;
        }
    }
}

async fn watch_file(path: &Path, outlet: &Outlet) {
    let mut told = None;
    let mut complaint = String::new();
    loop {
        let (value, problem) = read_number(path.to_owned()).await;
        if problem != complaint {
            if !problem.is_empty() {
                tracing::warn!(file = %path.display(), problem, "a tracked file counts as 0");
            }
            complaint = problem;
        }
        match told {
            None => outlet.begin(Reading::Value(value)),
            Some(before) if before != value => {
                outlet.change(Reading::Value(value), "the file says so").await;
            }
            Some(_) => {}
        }
        told = Some(value);
        sleep(FILE_EVERY).await;
    }
}

/// The number in a file, and what is wrong with the file, if something is.
async fn read_number(path: PathBuf) -> (i32, String) {
    let read = tokio::task::spawn_blocking(move || {
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.to_string()),
        };
        // A pipe would be waited for.
        if !metadata.is_file() {
            return Err("no regular file".to_owned());
        }
        if metadata.len() > u64::try_from(FILE_BYTES).unwrap_or(u64::MAX) {
            return Err("more than a number".to_owned());
        }
        std::fs::read(&path).map_err(|error| error.to_string())
    });
    let text = match timeout(FILE_WITHIN, read).await {
        Ok(Ok(Ok(text))) => text,
        Ok(Ok(Err(problem))) => return (0, problem),
        Ok(Err(_panic)) => return (0, "reading it failed".to_owned()),
        Err(_elapsed) => return (0, "reading it takes too long".to_owned()),
    };
    match config::number(&text) {
        Some(value) => (value, String::new()),
        None => (0, "no whole number".to_owned()),
    }
}

async fn watch_health(health: Health, mut rhythm: Rhythm, outlet: &Outlet) {
    outlet.begin(up_or_down(rhythm.tally.is_up()));
    let mut ticks = interval(rhythm.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let good = match outlet.checks.health.get(&health) {
            Some(check) => timeout(rhythm.within, check()).await.unwrap_or(false),
            None => false,
        };
        if let Some(up) = rhythm.tally.take(good) {
            outlet.change(up_or_down(up), if up { "it is well" } else { "it is not well" }).await;
        }
    }
}

#[cfg(test)]
mod tests;
