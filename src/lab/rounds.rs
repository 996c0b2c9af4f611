//! The experiment: settle, load, fault, measure until service is back and stable, repair.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::console::Console;
use super::gauges::{Gauges, Reading, Readings, Yield};
use super::moment::{Adverts, Place};
use super::report::{Database, Round, Web};
use super::tally::{Excuse, Tally, failures};
use super::topology::{Lab, NodeIndex};
use super::trials::Sightings;
use super::{Error, Fault, Options, faults, trials};

/// Load before the fault.
const WARM_UP: Duration = Duration::from_millis(1500);
/// Without return by then, service did not come back.
const LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(25);
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Runs all rounds.
pub(super) async fn run(
    lab: &mut Lab,
    options: &Options,
    console: &Console,
) -> Result<Vec<Round>, Error> {
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        lab.settle(console).await?;
        if number > 1 {
            // Only now: the repair moved the address once more.
            lab.refresh_tunnel_client()?;
            lab.settle(console).await?;
        }
        console.progress(&format!(
            "round {number} of {}: stable, one node is Active; load starts",
            options.rounds
        ));
        let place =
            Place { round: number - 1, of: options.rounds, interval: options.advert_every() };
        let round = run_one(lab, options.fault, place, console).await?;
        let came_back = round.recovered && round.checks.values().all(|held| *held);
        rounds.push(round);
        if !came_back {
            console.progress("not as it must be; no further round");
            break;
        }
    }
    if options.keep && rounds.iter().all(|round| round.recovered) {
        lab.settle(console).await?;
    }
    Ok(rounds)
}

async fn run_one(
    lab: &mut Lab,
    fault: Fault,
    place: Place,
    console: &Console,
) -> Result<Round, Error> {
    let adverts = Adverts::listen(&lab.client)
        .map_err(Error::network("VRRP advertisements cannot be heard"))?;
    let gauges = Gauges::start(lab)?;
    sleep(WARM_UP).await;
    let struck = lab.holder()?.ok_or_else(|| Error::NotHealthy {
        waited_for: "the virtual IP held by exactly one node during the warm-up".into(),
        seconds: WARM_UP.as_secs(),
        logs: String::new(),
    })?;
    let ws_open = gauges.sockets_open();
    let moment = adverts.moment(lab.nodes[struck].host().address(), place);
    let at = faults::strike(fault, &mut lab.nodes, lab.witness.as_mut(), struck, moment).await?;
    let on = match fault {
        Fault::WitnessLoss => "the witness".to_owned(),
        _ => format!("node {}", lab.nodes[struck].host().name()),
    };
    console.progress(&format!("fault {fault} on {on}"));
    let scene = Scene { gauges: &gauges, fault, at, struck };
    let Seen { recovered, moved, sightings } = scene.watch(lab, console).await?;
    let findings = trials::run(fault, lab, (struck, at), sightings, console).await?;

    let end = Instant::now();
    let readings = gauges.readings();
    let Yield { exapp, web, database } = gauges.finish().await;
    for (what, records) in [
        ("requests", Some(&exapp.records)),
        ("requests to web nodes", web.as_ref().map(|web| &web.records)),
        ("transactions", database.as_ref().map(|account| &account.records)),
    ] {
        for (failure, count) in records.into_iter().flat_map(|records| failures(records)) {
            console.progress(&format!("{count} {what} failed: {failure}"));
        }
    }
    let excuse = Excuse::of(fault, moved.unwrap_or(at), readings.vip.hole(at, end));
    let outage = |reading: &Option<Reading>| {
        reading.as_ref().map_or(0.0, |reading| reading.outage_ms(at, end))
    };
    let tally = Tally::of(&exapp.records, excuse);
    let web = web.map(|web| {
        let tally = Tally::of(&web.records, excuse);
        Web {
            web_outage_ms: outage(&readings.web),
            web_requests: web.records.len() as u64,
            web_failed: tally.failed,
            web_lost: tally.lost,
        }
    });
    let mut checks = findings.checks;
    let database = match (database, &lab.galera) {
        (Some(account), Some(galera)) => {
            let tally = Tally::of(&account.records, excuse);
            let commits = account.committed.len() as u64;
            let commits_missing = galera.missing(&lab.client, account.committed).await?;
            checks.insert("commits_kept", commits_missing == 0);
            Some(Database {
                database_outage_ms: outage(&readings.database),
                transactions: account.records.len() as u64,
                transactions_failed: tally.failed,
                transactions_lost: tally.lost,
                commits,
                commits_missing,
            })
        }
        _ => None,
    };
    let round = Round {
        fault: fault.to_string(),
        vip_outage_ms: readings.vip.outage_ms(at, end),
        tunnel_outage_ms: readings.tunnel.outage_ms(at, end),
        requests: exapp.records.len() as u64,
        failed: tally.failed,
        delayed: tally.delayed,
        ws_open,
        ws_reset: exapp.sockets_broken,
        lost: tally.lost,
        recovered,
        web,
        database,
        checks,
        released_ms: findings.released_ms,
    };
    console.progress(&format!(
        "round done: outages {}; {} requests, {} failed, {} lost",
        readings.story(at, end),
        round.requests,
        round.failed,
        round.lost
    ));
    faults::repair(fault, &mut lab.nodes[struck], lab.witness.as_mut(), console).await?;
    Ok(round)
}

/// A round after the fault.
struct Scene<'a> {
    gauges: &'a Gauges,
    fault: Fault,
    at: Instant,
    struck: NodeIndex,
}

/// What was seen after the fault.
struct Seen {
    /// Whether service came back.
    recovered: bool,
    /// When the address was first seen on the other node.
    moved: Option<Instant>,
    /// Who held the address whenever somebody looked; with a fault that leaves it where it is.
    sightings: Sightings,
}

impl Scene<'_> {
    /// Watches until service is back and stable, or the limit; tells about it once a second.
    async fn watch(&self, lab: &Lab, console: &Console) -> Result<Seen, Error> {
        let (mut told, mut moved) = (self.at, None);
        let mut ended = self.gauges.ended();
        let mut sightings = Sightings::default();
        loop {
            sleep(LOOK_EVERY).await;
            let now = Instant::now();
            let holders = lab.holders()?;
            sightings.note(&holders, self.struck);
            let holder = holders.first().copied().filter(|_| holders.len() == 1);
            if moved.is_none() && holder.is_some_and(|node| node != self.struck) {
                moved = Some(now);
            }
            let readings = self.gauges.readings();
            if now.duration_since(told) >= TELL_EVERY {
                let rate =
                    (self.gauges.ended() - ended) as f64 / now.duration_since(told).as_secs_f64();
                (told, ended) = (now, self.gauges.ended());
                console.progress(&self.story(lab, holder, rate, &readings, now));
            }
            if self.is_back(holder, &readings, now) {
                return Ok(Seen { recovered: true, moved, sightings });
            }
            if now.duration_since(self.at) >= LIMIT {
                return Ok(Seen { recovered: false, moved, sightings });
            }
        }
    }

    /// Service counts as back when the address is where the fault must have sent it and every
    /// kind of probes has been answered without exception for a while.
    fn is_back(&self, holder: Option<NodeIndex>, readings: &Readings, now: Instant) -> bool {
        let moved = !self.fault.moves_address() || holder.is_some_and(|node| node != self.struck);
        moved && readings.are_steady(self.at, now)
    }

    fn story(
        &self,
        lab: &Lab,
        holder: Option<NodeIndex>,
        rate: f64,
        readings: &Readings,
        now: Instant,
    ) -> String {
        let active = holder.map_or("nobody", |node| lab.nodes[node].host().name());
        format!(
            "Active {active}, {rate:.0} requests/s, {} WebSockets, outage so far: {}",
            self.gauges.sockets_open(),
            readings.story(self.at, now),
        )
    }
}
