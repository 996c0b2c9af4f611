//! Trigon beside keepalived: how long a virtual address is away after a power cut and after a
//! clean stop, with equal timers and priorities, in the same namespaces, seen by the same probe.
//! `tests/run --bench-failover`, or `cargo bench --bench failover -- --help`. What came out:
//! `docs/performance.md`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table and its progress")]

mod contender;
mod place;
mod table;

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use trigon::lab::moment::{Adverts, Place as Moment};
use trigon::lab::probe::Probe;
use trigon::lab::trace::{largest_hole, steady};

use self::contender::{Contender, Kind};
use self::place::{Place, VIP};
use self::table::{Cell, table};

/// A reply later than this counts as missed, as in the lab.
const LATE: Duration = Duration::from_millis(10);

/// Unbroken answers that count as settled.
const STABLE: Duration = Duration::from_millis(400);

/// Longest wait for that.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
struct Options {
    /// Faults of each kind
    #[arg(long, value_name = "N", default_value_t = 10)]
    rounds: u32,
    /// Milliseconds between advertisements
    #[arg(long, value_name = "MS", value_delimiter = ',', default_values_t = [100_u64, 10])]
    intervals: Vec<u64>,
    /// Only this contender
    #[arg(long)]
    only: Option<Kind>,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// How the Active goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Fault {
    /// Its link goes down and all its processes are killed in that instant.
    Kill,
    /// It is told to stop.
    Stop,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut cells = Vec::new();
    for interval in options.intervals.iter().copied().map(Duration::from_millis) {
        for kind in [Kind::Keepalived, Kind::Trigon] {
            if options.only.is_some_and(|only| only != kind) {
                continue;
            }
            let place = Place::build().context("the network")?;
            let mut contender = Contender::start(kind, &place, interval)?;
            for fault in [Fault::Kill, Fault::Stop] {
                let mut outages = Vec::new();
                for round in 0..options.rounds {
                    let moment = Moment { round, of: options.rounds, interval };
                    let outage = run(&place, &mut contender, fault, moment)
                        .await
                        .with_context(|| format!("{kind:?}, {fault:?}, {interval:?}"))?;
                    eprintln!(
                        "{kind:?} {fault:?} {} ms, round {}: {:.1} ms",
                        interval.as_millis(),
                        round + 1,
                        outage.as_secs_f64() * 1000.0
                    );
                    outages.push(outage);
                }
                cells.push(Cell { kind, fault, interval, outages });
            }
        }
    }
    println!("{}", table(&cells));
    Ok(())
}

/// One fault of machine a, from a settled pair to a settled pair.
async fn run(
    place: &Place,
    contender: &mut Contender,
    fault: Fault,
    moment: Moment,
) -> anyhow::Result<Duration> {
    settle(place, contender, "a").await?;
    let adverts = Adverts::listen(&place.client)?;
    let probe = Probe::start(&place.client, VIP, Duration::from_millis(1))?;
    wait(contender, "a probe that is answered", || {
        Ok(steady(&probe.samples(), Instant::now(), STABLE, LATE))
    })
    .await?;
    // Looking them up takes milliseconds, which must not lie after the moment.
    let processes = place.a.processes()?;
    adverts.moment(place.a.address(), moment).await;
    let at = Instant::now();
    match fault {
        Fault::Kill => {
            place.a.link(false)?;
            contender.kill(&place.a, processes)?;
        }
        Fault::Stop => contender.stop()?,
    }
    wait(contender, "the address on b, answering", || {
        let moved = place.b.holds(VIP)? && at.elapsed() > STABLE + LATE;
        Ok(moved && steady(&probe.samples(), Instant::now(), STABLE, LATE))
    })
    .await?;
    let end = Instant::now();
    let hole = largest_hole(&probe.samples(), LATE, at, end);
    drop(probe);
    match fault {
        Fault::Kill => place.a.reboot()?,
        Fault::Stop => contender.wait_for_end(&place.a).await?,
    }
    contender.start_a(place)?;
    Ok(hole.map_or(Duration::ZERO, |hole| hole.length(end)))
}

/// Waits until `a` alone holds the address.
async fn settle(place: &Place, contender: &mut Contender, name: &str) -> anyhow::Result<()> {
    wait(contender, &format!("the address on {name} alone"), || {
        Ok(place.a.holds(VIP)? && !place.b.holds(VIP)?)
    })
    .await
}

async fn wait(
    contender: &mut Contender,
    what: &str,
    mut condition: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let end = Instant::now() + LIMIT;
    while !condition()? {
        anyhow::ensure!(Instant::now() < end, "waited for {what}; {}", contender.logs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
