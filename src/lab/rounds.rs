//! The experiment: settle, load, fault, measure until service is back and stable, repair.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::configs::VIP;
use super::console::Console;
use super::load::{Harvest, Load};
use super::moment::{Adverts, Place};
use super::probe::Probe;
use super::report::{Round, milliseconds};
use super::topology::{Lab, NodeIndex};
use super::trace::{Hole, Sample, largest_hole, steady};
use super::trials::Sightings;
use super::{Error, Fault, Options, faults, trials};

const VIP_PROBE_EVERY: Duration = Duration::from_millis(1);
/// An echo reply later than this counts as missed.
const VIP_LATE: Duration = Duration::from_millis(10);
/// A page of the ExApp later than this counts as missed.
const TUNNEL_LATE: Duration = Duration::from_millis(50);
/// How long the youngest tunnel probes may still be under way.
const TUNNEL_SETTLE: Duration = Duration::from_millis(550);
/// Load before the fault.
const WARM_UP: Duration = Duration::from_millis(1500);
/// Unbroken service after the fault that counts as "back".
const STABLE: Duration = Duration::from_millis(1500);
/// Without return by then, service did not come back.
const LIMIT: Duration = Duration::from_secs(30);
/// A success slower than this is "delayed".
const DELAYED: Duration = Duration::from_secs(1);
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
    let probe = Probe::start(&lab.client, VIP, VIP_PROBE_EVERY)
        .map_err(Error::network("the probe of the virtual IP could not be started"))?;
    let load = Load::start(&lab.client, Lab::target())?;
    sleep(WARM_UP).await;
    let struck = lab.holder()?.ok_or_else(|| Error::NotHealthy {
        waited_for: "the virtual IP held by exactly one node during the warm-up".into(),
        seconds: WARM_UP.as_secs(),
        logs: String::new(),
    })?;
    let sockets = load.sockets_open();
    let moment = adverts.moment(lab.nodes[struck].host().address(), place);
    let at = faults::strike(fault, &mut lab.nodes, lab.witness.as_mut(), struck, moment).await?;
    let on = match fault {
        Fault::WitnessLoss => "the witness".to_owned(),
        _ => format!("node {}", lab.nodes[struck].host().name()),
    };
    console.progress(&format!("fault {fault} on {on}"));
    let scene = Scene { probe: &probe, load: &load, fault, at, struck };
    let Seen { recovered, moved, sightings } = scene.watch(lab, console).await?;
    let findings = trials::run(fault, lab, (struck, at), sightings, console).await?;

    let end = Instant::now();
    let (vip, tunnel) = (probe.samples(), load.probes());
    drop(probe);
    let harvest = load.finish().await;
    for (failure, count) in harvest.failures() {
        console.progress(&format!("{count} requests failed: {failure}"));
    }
    let vip_hole = largest_hole(&vip, VIP_LATE, at, end);
    let tunnel_hole = largest_hole(&tunnel, TUNNEL_LATE, at, end);
    let tally = Tally::of(&harvest, Excuse::of(fault, moved.unwrap_or(at), vip_hole));
    let length =
        |hole: Option<Hole>| milliseconds(hole.map_or(Duration::ZERO, |hole| hole.length(end)));
    let round = Round {
        fault: fault.to_string(),
        vip_outage_ms: length(vip_hole),
        tunnel_outage_ms: length(tunnel_hole),
        requests: harvest.records.len() as u64,
        failed: tally.failed,
        delayed: tally.delayed,
        ws_open: sockets,
        ws_reset: harvest.sockets_broken,
        lost: tally.lost,
        recovered,
        checks: findings.checks,
        released_ms: findings.released_ms,
    };
    console.progress(&format!(
        "round done: VIP outage {} ms, tunnel outage {} ms, {} requests, {} failed, {} lost",
        round.vip_outage_ms, round.tunnel_outage_ms, round.requests, round.failed, round.lost
    ));
    faults::repair(fault, &mut lab.nodes[struck], lab.witness.as_mut(), console).await?;
    Ok(round)
}

/// A round after the fault.
struct Scene<'a> {
    probe: &'a Probe,
    load: &'a Load,
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
        let mut ended = self.load.ended();
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
            let (vip, tunnel) = (self.probe.samples(), self.load.probes());
            if now.duration_since(told) >= TELL_EVERY {
                let rate =
                    (self.load.ended() - ended) as f64 / now.duration_since(told).as_secs_f64();
                (told, ended) = (now, self.load.ended());
                console.progress(&self.story(lab, holder, rate, &vip, &tunnel, now));
            }
            if self.is_back(holder, &vip, &tunnel, now) {
                return Ok(Seen { recovered: true, moved, sightings });
            }
            if now.duration_since(self.at) >= LIMIT {
                return Ok(Seen { recovered: false, moved, sightings });
            }
        }
    }

    /// Service counts as back when the address is where the fault must have sent it and both
    /// kinds of probes have been answered without exception for a while.
    fn is_back(
        &self,
        holder: Option<NodeIndex>,
        vip: &[Sample],
        tunnel: &[Sample],
        now: Instant,
    ) -> bool {
        let moved = !self.fault.moves_address() || holder.is_some_and(|node| node != self.struck);
        moved
            && now.duration_since(self.at) >= STABLE + TUNNEL_SETTLE
            && steady(vip, now, STABLE, VIP_LATE * 2)
            && steady(tunnel, now, STABLE, TUNNEL_SETTLE)
    }

    fn story(
        &self,
        lab: &Lab,
        holder: Option<NodeIndex>,
        rate: f64,
        vip: &[Sample],
        tunnel: &[Sample],
        now: Instant,
    ) -> String {
        let active = holder.map_or("nobody", |node| lab.nodes[node].host().name());
        let outage = |samples, late| {
            let hole = largest_hole(samples, late, self.at, now);
            milliseconds(hole.map_or(Duration::ZERO, |hole| hole.length(now)))
        };
        format!(
            "Active {active}, {rate:.0} requests/s, {} WebSockets, outage so far: VIP {} ms, tunnel {} ms",
            self.load.sockets_open(),
            outage(vip, VIP_LATE),
            outage(tunnel, TUNNEL_LATE),
        )
    }
}

/// Which failed requests the fault excuses: those count as lost, the others as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Excuse {
    /// There was no fault.
    None,
    /// Those sent before this moment.
    Before(Instant),
    /// Service never came back.
    All,
}

impl Excuse {
    /// A fault excuses what was sent before the virtual IP answered again. A planned hand-over may
    /// leave no hole at all: then it excuses what was sent before the address had `moved`.
    fn of(fault: Fault, moved: Instant, vip_hole: Option<Hole>) -> Self {
        match (fault, vip_hole) {
            (Fault::None, _) => Self::None,
            (_, None) => Self::Before(moved),
            (_, Some(hole)) => hole.until.map_or(Self::All, Self::Before),
        }
    }
}

/// Requests by what became of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    failed: u64,
    lost: u64,
    delayed: u64,
}

impl Tally {
    fn of(harvest: &Harvest, excuse: Excuse) -> Self {
        let mut tally = Self::default();
        for record in &harvest.records {
            let excused = match excuse {
                Excuse::None => false,
                Excuse::Before(moment) => record.sent < moment,
                Excuse::All => true,
            };
            match (&record.failure, excused) {
                (Some(_), true) => tally.lost += 1,
                (Some(_), false) => tally.failed += 1,
                (None, _) if record.took > DELAYED => tally.delayed += 1,
                (None, _) => {}
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::Record;
    use super::super::request::Failure;
    use super::*;

    #[test]
    fn a_failure_counts_by_when_its_request_was_sent() {
        let start = Instant::now();
        let record = |sent, took, failed: bool| Record {
            sent: start + Duration::from_millis(sent),
            took: Duration::from_millis(took),
            failure: failed.then_some(Failure::Timeout),
        };
        let harvest = Harvest {
            records: vec![
                record(0, 5, false),
                record(10, 400, true),
                record(20, 1500, false),
                record(300, 5, true),
                record(310, 1000, false),
            ],
            sockets_broken: 0,
        };
        let back = start + Duration::from_millis(250);
        let table = [
            (Excuse::Before(back), Tally { failed: 1, lost: 1, delayed: 1 }),
            (Excuse::None, Tally { failed: 2, lost: 0, delayed: 1 }),
            (Excuse::All, Tally { failed: 0, lost: 2, delayed: 1 }),
        ];
        for (excuse, tally) in table {
            assert_eq!(Tally::of(&harvest, excuse), tally, "{excuse:?}");
        }
    }

    #[test]
    fn a_fault_excuses_what_was_sent_before_it_or_into_its_hole() {
        let at = Instant::now();
        let back = at + Duration::from_millis(250);
        let closed = Hole { from: at, until: Some(back) };
        let open = Hole { from: at, until: None };
        let table = [
            (Fault::None, None, Excuse::None),
            (Fault::None, Some(closed), Excuse::None),
            (Fault::Drain, None, Excuse::Before(at)),
            (Fault::Drain, Some(closed), Excuse::Before(back)),
            (Fault::Kill, Some(closed), Excuse::Before(back)),
            (Fault::Kill, Some(open), Excuse::All),
        ];
        for (fault, hole, excuse) in table {
            assert_eq!(Excuse::of(fault, at, hole), excuse, "{fault} {hole:?}");
        }
    }
}
