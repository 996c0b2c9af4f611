//! Everything that measures in a round: the probe of the address, and a load for each service
//! behind it.

use std::time::{Duration, Instant};

use super::Error;
use super::configs::VIP;
use super::load::{Harvest, Load};
use super::probe::Probe;
use super::report::milliseconds;
use super::topology::Lab;
use super::trace::{Hole, Sample, largest_hole, steady};
use super::transactions::{Account, PATIENCE, Transactions};

const VIP_PROBE_EVERY: Duration = Duration::from_millis(1);
/// An echo reply later than this counts as missed.
const VIP_LATE: Duration = Duration::from_millis(10);
/// A page of the ExApp or of a web node later than this counts as missed.
const PAGE_LATE: Duration = Duration::from_millis(50);
/// How long the youngest probes of a page may still be under way.
const PAGE_SETTLE: Duration = Duration::from_millis(550);
/// A transaction later than this counts as missed: three nodes have to agree on it.
const COMMIT_LATE: Duration = Duration::from_millis(100);
/// How long the youngest transactions may still be under way.
const COMMIT_SETTLE: Duration = PATIENCE.saturating_add(Duration::from_millis(50));
/// Unbroken service after the fault that counts as "back".
const STABLE: Duration = Duration::from_millis(1500);

/// What runs.
pub(super) struct Gauges {
    probe: Probe,
    exapp: Load,
    web: Option<Load>,
    database: Option<Transactions>,
}

/// What it had seen when it was asked.
pub(super) struct Readings {
    pub(super) vip: Reading,
    pub(super) tunnel: Reading,
    pub(super) web: Option<Reading>,
    pub(super) database: Option<Reading>,
}

/// What it had seen when it ended.
pub(super) struct Yield {
    pub(super) exapp: Harvest,
    pub(super) web: Option<Harvest>,
    pub(super) database: Option<Account>,
}

/// The probes of one way through the address.
pub(super) struct Reading {
    name: &'static str,
    samples: Vec<Sample>,
    late: Duration,
    settle: Duration,
}

impl Gauges {
    /// Starts all of it on the client's host.
    pub(super) fn start(lab: &Lab) -> Result<Self, Error> {
        let client = &lab.client;
        let probe = Probe::start(client, VIP, VIP_PROBE_EVERY)
            .map_err(Error::network("the probe of the virtual IP could not be started"))?;
        let web = lab.web().map(|target| Load::start(client, target)).transpose()?;
        let database =
            lab.access().map(|access| Transactions::start(client, access)).transpose()?;
        Ok(Self { probe, exapp: Load::start(client, Lab::exapp())?, web, database })
    }

    /// Requests that have ended so far.
    pub(super) fn ended(&self) -> usize {
        self.exapp.ended() + self.web.as_ref().map_or(0, Load::ended)
    }

    /// WebSockets that are open.
    pub(super) fn sockets_open(&self) -> u64 {
        self.exapp.sockets_open()
    }

    /// The probes so far.
    pub(super) fn readings(&self) -> Readings {
        let page = |name, load: &Load| Reading {
            name,
            samples: load.probes(),
            late: PAGE_LATE,
            settle: PAGE_SETTLE,
        };
        Readings {
            vip: Reading {
                name: "VIP",
                samples: self.probe.samples(),
                late: VIP_LATE,
                settle: VIP_LATE * 2,
            },
            tunnel: page("tunnel", &self.exapp),
            web: self.web.as_ref().map(|load| page("web", load)),
            database: self.database.as_ref().map(|transactions| Reading {
                name: "database",
                samples: transactions.samples(),
                late: COMMIT_LATE,
                settle: COMMIT_SETTLE,
            }),
        }
    }

    /// Ends all of it.
    pub(super) async fn finish(self) -> Yield {
        drop(self.probe);
        let exapp = self.exapp.finish().await;
        let web = match self.web {
            Some(load) => Some(load.finish().await),
            None => None,
        };
        let database = match self.database {
            Some(transactions) => Some(transactions.finish().await),
            None => None,
        };
        Yield { exapp, web, database }
    }
}

impl Readings {
    fn all(&self) -> impl Iterator<Item = &Reading> {
        [&self.vip, &self.tunnel].into_iter().chain(&self.web).chain(&self.database)
    }

    /// Whether all probes have been answered without exception for a while, since a fault at `at`.
    pub(super) fn are_steady(&self, at: Instant, now: Instant) -> bool {
        self.all().all(|reading| {
            now.saturating_duration_since(at) >= STABLE + reading.settle
                && steady(&reading.samples, now, STABLE, reading.settle)
        })
    }

    /// The outages so far in one line, for the progress log.
    pub(super) fn story(&self, at: Instant, now: Instant) -> String {
        let told = self.all().map(|way| format!("{} {} ms", way.name, way.outage_ms(at, now)));
        told.collect::<Vec<_>>().join(", ")
    }
}

impl Reading {
    /// The largest hole that ended after a fault at `at`.
    pub(super) fn hole(&self, at: Instant, end: Instant) -> Option<Hole> {
        largest_hole(&self.samples, self.late, at, end)
    }

    /// Its length, in milliseconds.
    pub(super) fn outage_ms(&self, at: Instant, end: Instant) -> f64 {
        let hole = self.hole(at, end);
        milliseconds(hole.map_or(Duration::ZERO, |hole| hole.length(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// A probe each 10 ms for six seconds, those between `from` and `to` unanswered.
    fn reading(start: Instant, from: u64, to: u64, settle: Duration) -> Reading {
        let sample = |n: u64| {
            let sent = start + ms(n);
            Sample { sent, answered: (!(from..to).contains(&n)).then_some(sent) }
        };
        let samples = (0..6000).step_by(10).map(sample).collect();
        Reading { name: "way", samples, late: ms(10), settle }
    }

    #[test]
    fn service_is_back_once_every_way_has_been_steady_since_the_fault() {
        let start = Instant::now();
        let (at, now) = (start + ms(1000), start + ms(6000));
        let readings = |database_back| Readings {
            vip: reading(start, 1000, 1250, VIP_LATE * 2),
            tunnel: reading(start, 1000, 1300, PAGE_SETTLE),
            web: Some(reading(start, 1000, 1280, PAGE_SETTLE)),
            database: Some(reading(start, 1000, database_back, COMMIT_SETTLE)),
        };
        assert!(readings(1350).are_steady(at, now));
        assert!(!readings(3000).are_steady(at, now), "the database has not been for long enough");
        assert!(!readings(1350).are_steady(at, start + ms(3000)), "its window began too early");
        let pair = Readings { database: None, ..readings(3000) };
        assert!(pair.are_steady(at, now));
        let told = readings(1350).story(at, now);
        assert_eq!(told, "way 260 ms, way 310 ms, way 290 ms, way 360 ms");
    }
}
