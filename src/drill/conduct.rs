//! The way there and back, and that the address ends where it was.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::probe::{PATIENCE, Probe, Target};
use super::report::{Leg, Moment, Report};
use super::timeline::{Outage, is_steady, outage};
use crate::admin::client;
use crate::admin::failover::Order;
use crate::admin::status::{Status, Tunnel};

/// The port that is probed when nobody says which.
const PORT: u16 = 8780;

/// For so long every probe has to be answered before a drill begins, and after each failover.
const CALM: Duration = Duration::from_millis(1500);

/// How long that may take, and how long tunnels may take to be back.
const SETTLE: Duration = Duration::from_secs(30);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// How often it is tried to bring the address back, and the pause between.
const TRIES: usize = 5;
const AGAIN: Duration = Duration::from_secs(2);

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Admin socket of a node.
    pub socket: PathBuf,
    /// The virtual address; the first one when missing.
    pub address: Option<IpAddr>,
    /// What is asked all the while.
    pub probe: Option<Target>,
    /// How often there and back.
    pub count: u32,
    /// Time between two probes.
    pub every: Duration,
    /// The longest time without an answer that passes.
    pub bound: Duration,
}

/// Why a drill did not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node was not reached or refused.
    #[error("{0}")]
    Node(#[from] client::Error),
    /// It would prove nothing, or do harm.
    #[error("no drill: {0}")]
    Unsafe(String),
}

/// Whether it is time to go on.
enum Calm {
    Yes,
    ProbesFail,
    TunnelsMove,
}

/// A drill under way.
struct Drill<'o> {
    options: &'o Options,
    address: IpAddr,
    probe: Probe,
    began: Instant,
    report: Report,
}

/// Goes there and back until it was done often enough, something failed, or `stop` resolves; then
/// brings the address back if it is not where it was.
///
/// # Errors
/// Nothing was moved.
pub async fn run(options: &Options, stop: impl Future<Output = ()>) -> Result<Report, Error> {
    let status = client::status(&options.socket).await?;
    let address = chosen(&status, options.address)?;
    let target = options.probe.clone().unwrap_or_else(|| Target::Tcp((address, PORT).into()));
    let mut drill = Drill {
        report: Report {
            version: 1,
            began_at: cluster::clock::now() / 1000,
            address: address.to_string(),
            probe: target.to_string(),
            every_ms: millis(options.every),
            bound_ms: millis(options.bound),
            ..Report::default()
        },
        probe: Probe::start(target.clone(), options.every),
        began: Instant::now(),
        options,
        address,
    };
    match drill.calm().await {
        Calm::Yes => {}
        Calm::ProbesFail => {
            return Err(Error::Unsafe(format!(
                "{target} does not answer every time before anything was moved; name what does \
                 with --probe"
            )));
        }
        Calm::TunnelsMove => {
            let text = "tunnels come and go before anything was moved (`trigon status`)";
            return Err(Error::Unsafe(text.to_owned()));
        }
    }
    drill.tell("the address answers; the drill begins");
    // A first order that is refused has moved nothing.
    let first = Instant::now();
    let home = drill.leg(None).await?;
    let from = home.from.clone();
    let gone = async {
        let mut rounds = vec![[home, Leg::default()]];
        let mut failed = None;
        for round in 1..=options.count {
            if round > 1 {
                match drill.leg(None).await {
                    Ok(leg) => rounds.push([leg, Leg::default()]),
                    Err(error) => {
                        failed = Some(error.to_string());
                        break;
                    }
                }
            }
            match drill.leg(Some(from.clone())).await {
                Ok(leg) => {
                    if let Some([_, back]) = rounds.last_mut() {
                        *back = leg;
                    }
                }
                Err(error) => {
                    failed = Some(error.to_string());
                    break;
                }
            }
        }
        (rounds, failed)
    };
    let (rounds, failed) = tokio::select! {
        gone = gone => gone,
        () = stop => (Vec::new(), Some("interrupted".to_owned())),
    };
    drill.report.rounds = rounds;
    drill.report.error = failed;
    drill.restore(&from).await;
    Ok(drill.finish(first))
}

impl Drill<'_> {
    /// One failover, and that everything has settled after it.
    async fn leg(&mut self, to: Option<String>) -> Result<Leg, Error> {
        let before = client::status(&self.options.socket).await?;
        let order = Order { to, address: Some(self.address), force: false };
        let start = Instant::now();
        let moved = client::failover(&self.options.socket, &order).await?;
        let Some(moved) = moved.moves.into_iter().next() else {
            return Err(Error::Unsafe("the address was where it was to go already".to_owned()));
        };
        self.tell(&format!("{} is Active, {} is not any more", moved.to, moved.from));
        let wanted = tunnels_at(&before, &moved.from);
        let (mut after, mut back) = (0, None);
        let patient_until = start + SETTLE;
        while back.is_none() && Instant::now() < patient_until {
            let status = client::status(&self.options.socket).await?;
            after = tunnels_at(&status, &moved.to);
            // Those that end at the other node's own address stay there.
            if after >= wanted {
                back = Some(millis(start.elapsed()));
            } else {
                sleep(LOOK).await;
            }
        }
        if back.is_some() && wanted > 0 {
            self.tell(&format!("{after} tunnels end at {}", moved.to));
        }
        self.tell(match self.calm().await {
            Calm::Yes => "every probe is answered",
            Calm::ProbesFail => "probes still fail",
            Calm::TunnelsMove => "tunnels still come and go",
        });
        let Outage { longest, probes, failed } =
            outage(&self.probe.samples(), start, Instant::now() - PATIENCE.min(CALM));
        Ok(Leg {
            from: moved.from,
            to: moved.to,
            took_ms: moved.took_ms,
            outage_ms: precise(longest),
            probes,
            failed,
            tunnels_before: wanted,
            tunnels_after: after,
            tunnels_ms: back,
        })
    }

    /// Waits until every probe was answered for a while, and every tunnel stayed where it is.
    async fn calm(&self) -> Calm {
        let (start, until) = (Instant::now(), Instant::now() + SETTLE);
        let (mut places, mut since) = (None, start);
        let mut found = Calm::ProbesFail;
        while Instant::now() < until {
            sleep(LOOK).await;
            // Right after a move the cluster may still learn of it.
            let now = client::status(&self.options.socket).await.ok().map(|it| places_of(&it));
            if now != places {
                (places, since) = (now, Instant::now());
            }
            if start.elapsed() < CALM {
                continue;
            }
            found = match is_steady(&self.probe.samples(), Instant::now(), CALM) {
                false => Calm::ProbesFail,
                true if since.elapsed() < CALM => Calm::TunnelsMove,
                true => return Calm::Yes,
            };
        }
        found
    }

    /// The address goes back to whom it was taken from, unless it is there.
    async fn restore(&mut self, home: &str) {
        for _ in 0..TRIES {
            let order =
                Order { to: Some(home.to_owned()), address: Some(self.address), force: false };
            match client::failover(&self.options.socket, &order).await {
                Ok(moved) => {
                    if !moved.moves.is_empty() {
                        self.tell(&format!("brought back to {home}"));
                    }
                    self.report.restored = true;
                    return;
                }
                Err(error) => self.tell(&format!("it does not come back to {home}: {error}")),
            }
            sleep(AGAIN).await;
        }
    }

    fn finish(mut self, first: Instant) -> Report {
        let whole = outage(&self.probe.samples(), first, Instant::now() - PATIENCE);
        let report = &mut self.report;
        let legs = || report.rounds.iter().flatten();
        let longest = legs().map(|leg| leg.outage_ms).fold(0.0, f64::max);
        let done = legs().filter(|leg| !leg.to.is_empty()).count();
        report.longest_outage_ms =
            if report.error.is_some() { precise(whole.longest).max(longest) } else { longest };
        (report.probes, report.failed) =
            legs().fold((0, 0), |(probes, failed), leg| (probes + leg.probes, failed + leg.failed));
        let complete = report.error.is_none() && done == report.rounds.len() * 2;
        let bound = precise(self.options.bound);
        report.passed = complete && report.restored && report.longest_outage_ms <= bound;
        self.report
    }

    fn tell(&mut self, what: &str) {
        let at_ms = millis(self.began.elapsed());
        self.report.timeline.push(Moment { at_ms, what: what.to_owned() });
    }
}

/// The address to drill with.
fn chosen(status: &Status, wanted: Option<IpAddr>) -> Result<IpAddr, Error> {
    let all = status.vrrp.iter().flat_map(|router| &router.addresses);
    let mut all = all.filter_map(|address| address.parse::<IpAddr>().ok());
    let found = match wanted {
        Some(wanted) => all.find(|address| *address == wanted),
        None => all.next(),
    };
    found.ok_or_else(|| {
        Error::Unsafe("this node has no such virtual address (`trigon vrrp`)".to_owned())
    })
}

/// Which tunnel ends at which node.
fn places_of(status: &Status) -> BTreeSet<(String, u16, u64)> {
    let place = |tunnel: &Tunnel| (tunnel.proxy.clone(), tunnel.port, tunnel.node);
    status.tunnels.iter().map(place).collect()
}

/// How many tunnels are registered at a node.
fn tunnels_at(status: &Status, name: &str) -> usize {
    let members = &status.cluster.members.0;
    let node = members.iter().find(|member| member.name == name).map(|member| member.id);
    status.tunnels.iter().filter(|tunnel| Some(tunnel.node) == node).count()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds to a tenth.
fn precise(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}
