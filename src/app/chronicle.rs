//! Keeps the timeline: takes what is told from anywhere in the process, looks for the rest twice a
//! second, and brings it to the cluster. Whoever tells never waits.
//!
//! The outage of a failover is measured by the node that takes over: from the last advertisement it
//! heard of the Active before to the moment at which its own addresses were announced. In that
//! time nobody is sure to have answered; a host that died right after it advertised was away as long,
//! one that died later up to one interval less.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use cluster::record::{Event, MAX_EVENT_TEXT};
use cluster::{Command, Handle, ProposeError, RaftState};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use vrrp::{Reason, Report, State};

use super::notable::{Look, News, Notable};
use super::status::Speaker;
use crate::frp;

/// Between two looks, and how many of them lie between two looks at certificates.
const EVERY: Duration = Duration::from_millis(500);
const CERTIFICATES_EVERY: u32 = 60;

/// Lines that may wait for the cluster. Without a quorum the first ones are kept: they tell how it
/// was lost.
const WAITING: usize = 128;

/// Lines that go together, and how long they are collected.
const TOGETHER: usize = 32;
const COLLECT: Duration = Duration::from_millis(50);

/// Longest wait for the cluster, and the pause before it is asked again.
const WITHIN: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(500);

/// Where anything can be told. Cheap to clone.
#[derive(Clone)]
pub(super) struct Chronicle(mpsc::Sender<Told>);

enum Told {
    Router(Report),
    News(News),
}

/// What was told and nobody has taken yet.
pub(super) struct Waiting(mpsc::Receiver<Told>);

/// What is looked at.
pub(super) struct Sources {
    pub(super) name: String,
    pub(super) cluster: Handle,
    pub(super) speaker: Speaker,
    /// None on a witness.
    pub(super) tunnels: Option<frp::Tunnels>,
    /// Certificates in use and when each ends, seconds since the Unix epoch.
    pub(super) certificates: Box<dyn Fn() -> Vec<(&'static str, u64)> + Send>,
}

impl Chronicle {
    /// The door, and what waits behind it until somebody keeps it.
    pub(super) fn new() -> (Self, Waiting) {
        let (sender, told) = mpsc::channel(WAITING);
        (Self(sender), Waiting(told))
    }

    /// Tells one thing. Under pressure it is lost.
    pub(super) fn note(&self, kind: &'static str, text: String) {
        let _ = self.0.try_send(Told::News(News::new(kind, text)));
    }

    /// A virtual router changed its state; called on the VRRP thread.
    pub(super) fn report(&self, report: &Report) {
        let _ = self.0.try_send(Told::Router(report.clone()));
    }
}

impl Waiting {
    /// Keeps the timeline until `stop`.
    pub(super) async fn keep(self, sources: Sources, stop: CancellationToken) {
        let (sender, events) = mpsc::channel(WAITING);
        let writing = write(sources.cluster.clone(), events);
        let keeper = Keeper { sources, events: sender, last_id: 0 };
        tokio::select! {
            () = writing => {}
            () = keeper.run(self.0) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Makes events of what is told and of what it sees.
struct Keeper {
    sources: Sources,
    events: mpsc::Sender<Event>,
    last_id: u64,
}

impl Keeper {
    async fn run(mut self, mut told: mpsc::Receiver<Told>) {
        let (mut notable, mut certificates, mut looks) = (Notable::default(), Vec::new(), 0_u32);
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                told = told.recv() => match told {
                    Some(Told::News(news)) => self.tell(news, Duration::ZERO),
                    Some(Told::Router(report)) => {
                        let news = self.moved(&report);
                        self.tell(news, report.at.elapsed());
                    }
                    None => return,
                },
                _ = ticks.tick() => {
                    if looks.is_multiple_of(CERTIFICATES_EVERY) {
                        certificates = (self.sources.certificates)();
                    }
                    looks = looks.wrapping_add(1);
                    for news in notable.look(self.sources.look(&certificates)) {
                        self.tell(news, Duration::ZERO);
                    }
                }
            }
        }
    }

    /// What happened `ago`.
    fn tell(&mut self, news: News, ago: Duration) {
        let now = cluster::clock::now();
        // Microseconds, so that no restart gives a number twice.
        self.last_id = now.saturating_mul(1000).max(self.last_id.saturating_add(1));
        let millis = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        let event = Event {
            node: self.sources.cluster.node_id(),
            id: self.last_id,
            at: now.saturating_sub(millis),
            kind: news.kind.to_owned(),
            text: line(&news.text),
            outage_ms: news.outage_ms,
        };
        if self.events.try_send(event).is_err() {
            tracing::debug!(kind = news.kind, "a line of the timeline was lost");
        }
    }

    fn moved(&self, report: &Report) -> News {
        let Report { name: router, from, to, reason, addresses, .. } = report;
        let node = &self.sources.name;
        let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let list = list.join(" ");
        match (from, to) {
            (_, State::Active) => News {
                outage_ms: self.outage(report),
                ..News::new("vrrp_active", format!("{node} holds {list} ({router}): {reason}"))
            },
            (State::Active, _) => News::new(
                "vrrp_released",
                format!("{node} has given {list} away ({router}): {reason}"),
            ),
            (_, State::Backup) => News::new(
                "vrrp_backup",
                format!("{node} stands by for {list} ({router}): {reason}"),
            ),
            (_, State::Initialize) => {
                News::new("vrrp_out", format!("{node} is out for {list} ({router}): {reason}"))
            }
        }
    }

    /// How long nobody is sure to have answered, if an Active went away.
    fn outage(&self, report: &Report) -> Option<u32> {
        if !matches!(report.reason, Reason::ActiveSilent | Reason::ActiveLeft) {
            return None;
        }
        let speaker = self.sources.speaker.lock().unwrap_or_else(PoisonError::into_inner);
        let states = speaker.as_ref()?.states();
        let router = states.into_iter().find(|router| router.name == report.name)?;
        let last = router.peers.iter().map(|peer| peer.last_heard).max()?;
        // Heard since: it lives, and nothing is known about an outage.
        let outage = report.at.checked_duration_since(last)?;
        u32::try_from(outage.as_millis()).ok()
    }
}

impl Sources {
    fn look<'l>(&'l self, certificates: &'l [(&'static str, u64)]) -> Look<'l> {
        let (node, status) = (self.cluster.node_id(), self.cluster.status());
        let leads = (status.state == RaftState::Leader).then_some(status.term);
        let tunnels = self.tunnels.iter().flat_map(frp::Tunnels::status);
        let own = tunnels.filter(|tunnel| tunnel.node == node);
        let bans = self.cluster.read(|state| {
            let own = state.bans().filter(|ban| ban.node == node);
            own.map(|ban| ban.subnet.to_string()).collect()
        });
        Look {
            now: Instant::now(),
            name: &self.name,
            leads,
            tunnels: own.map(|it| ((it.port, it.tenant.label(&it.proxy)), it.live_here)).collect(),
            bans,
            certificates,
        }
    }
}

/// One line that fits.
fn line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    while line.len() > MAX_EVENT_TEXT {
        line.pop();
    }
    line
}

/// Brings events to the cluster until each is there. One that arrives twice is kept once.
async fn write(cluster: Handle, mut events: mpsc::Receiver<Event>) {
    while let Some(first) = events.recv().await {
        sleep(COLLECT).await;
        let mut batch = vec![first];
        while batch.len() < TOGETHER
            && let Ok(next) = events.try_recv()
        {
            batch.push(next);
        }
        let command = Command::Happened(batch);
        loop {
            match cluster.propose(command.clone(), WITHIN).await {
                Ok(_) => break,
                Err(ProposeError::Stopped) => return,
                Err(ProposeError::TooLarge { .. } | ProposeError::TooEarly { .. }) => break,
                Err(ProposeError::NoQuorum | ProposeError::Busy | ProposeError::DiskFull) => {
                    sleep(AGAIN).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_told_becomes_one_line_that_fits() {
        assert_eq!(line("a\nb\u{1b}"), "a?b?");
        assert_eq!(line(&"\u{e4}".repeat(300)).len(), MAX_EVENT_TEXT);
    }

    #[tokio::test]
    async fn what_is_told_is_in_the_timeline_of_the_whole_cluster() {
        let [one, other] = Handle::in_memory_pair([1, 2]);
        let (chronicle, waiting) = Chronicle::new();
        let sources = Sources {
            name: "lb1".into(),
            cluster: one,
            speaker: Speaker::default(),
            tunnels: None,
            certificates: Box::new(Vec::new),
        };
        let stop = CancellationToken::new();
        let keeping = tokio::spawn(waiting.keep(sources, stop.clone()));
        chronicle.note("reload", "lb1 has read its configuration again".into());
        let mut changes = other.changes();
        let seen = loop {
            let seen = other.read(|state| {
                let mut events = state.events(0).map(|(_, event)| event.clone());
                events.find(|event| event.kind == "reload")
            });
            match seen {
                Some(seen) => break seen,
                None => changes.changed().await.unwrap(),
            }
        };
        assert_eq!((seen.node, &*seen.text), (1, "lb1 has read its configuration again"));
        stop.cancel();
        keeping.await.unwrap();
    }
}
