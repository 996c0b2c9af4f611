//! Makes one picture of what the monitors tell, agrees on the writer, cuts sessions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::record::Writer;
use cluster::{Command, Handle, Reply};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::gates::Port;
use super::monitor::Told;
use super::report::{NodeReport, Report};
use crate::balance::Admin;
use crate::balance::galera::{Agreed, Board, Fit, Helm, Order, Reason, Verdict};
use crate::balance::roster::Condition;

/// How often the picture is looked at although nothing was told: patience runs out by time.
const LOOK: Duration = Duration::from_millis(250);

/// The same while a node has to be asked again before it gets sessions.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Longest wait for an agreement on the writer; without one a stand-in writes.
const AGREE: Duration = Duration::from_secs(1);

/// Pause before it is tried again.
const AGREE_AGAIN: Duration = Duration::from_secs(3);

/// How long ago a client must have asked for a writer for this load balancer to be one that is
/// asked.
const WANTED: Duration = Duration::from_secs(10);

/// What sessions go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) verdicts: Vec<Verdict>,
    pub(super) writer: Option<usize>,
}

impl Picture {
    /// Before anything was heard.
    pub(super) fn unheard(nodes: usize) -> Self {
        Self { verdicts: vec![Verdict::unfit(Reason::Unheard); nodes], writer: None }
    }

    /// The node that gets a session that writes.
    pub(super) fn writer_for_sessions(&self) -> Option<usize> {
        self.writer.filter(|writer| self.verdicts[*writer].takes_writes())
    }

    /// The node that gets a session that reads: the one with the fewest sessions of those that
    /// keep up, else the writer, else what is left. `avoid` is the one that did not take it.
    pub(super) fn reader_for_sessions(
        &self,
        avoid: Option<usize>,
        open: impl Fn(usize) -> usize,
    ) -> Option<usize> {
        let nodes = || (0..self.verdicts.len()).filter(|node| Some(*node) != avoid);
        let keeps_up =
            |node: &usize| Some(*node) != self.writer && self.verdicts[*node].takes_reads();
        let least = nodes().filter(keeps_up).min_by_key(|node| open(*node));
        let writer = self
            .writer
            .filter(|writer| Some(*writer) != avoid && self.verdicts[*writer].takes_reads());
        let is_left = |node: &usize| {
            let verdict = self.verdicts[*node];
            matches!(verdict.reads, Fit::Last(_)) && !verdict.hold
        };
        least.or(writer).or_else(|| nodes().find(is_left))
    }
}

/// One load balancer's hand at the helm.
pub(super) struct Pilot {
    inner: Arc<Inner>,
    cluster: Handle,
    board: Board,
    helm: Helm,
    wanted: Option<Instant>,
    /// A proposal that is on its way, and when the next may be made.
    proposal: Option<Proposal>,
    not_before: Instant,
    /// What was told in the log last.
    told: Picture,
    /// How each node is, and since when.
    conditions: Vec<(Condition, Instant)>,
    mismatches: Vec<&'static str>,
}

struct Proposal {
    agreed: Option<Agreed>,
    node: usize,
    outcome: JoinHandle<bool>,
}

impl Pilot {
    pub(super) fn new(inner: Arc<Inner>, cluster: Handle, now: Instant) -> Self {
        let nodes = inner.config.nodes.len();
        Self {
            board: Board::new(nodes, inner.config.most_queued, now),
            told: Picture::unheard(nodes),
            conditions: vec![(Condition::Checking, now); nodes],
            inner,
            cluster,
            helm: Helm::default(),
            wanted: None,
            proposal: None,
            not_before: now,
            mismatches: Vec::new(),
        }
    }

    /// Until `stop`.
    pub(super) async fn run(mut self, mut heard: mpsc::Receiver<Told>, stop: CancellationToken) {
        let mut changes = self.cluster.changes();
        let mut orders = self.inner.orders.subscribe();
        loop {
            let holds = self.told.verdicts.iter().any(|verdict| verdict.hold);
            let look = sleep(if holds { ASK_AGAIN } else { LOOK });
            tokio::select! {
                Some(told) = heard.recv() => {
                    self.board.hear(told.node, told.asked, Instant::now(), told.word);
                }
                Ok(()) = changes.changed() => {}
                Ok(()) = orders.changed() => self.obey(&orders.borrow_and_update()),
                agreed = outcome(&mut self.proposal) => self.proposed(agreed),
                () = look => {}
                () = stop.cancelled() => return,
            }
            self.look(Instant::now());
        }
    }

    fn obey(&mut self, orders: &[Admin]) {
        for (node, order) in orders.iter().enumerate() {
            self.board.order(node, *order);
        }
    }

    fn look(&mut self, now: Instant) {
        if self.inner.gates.clients() > 0 {
            self.wanted = Some(now);
        }
        let picture = self.steer(now);
        self.tell(&picture);
        // Who still shows the view before has to be asked again, and at once.
        for (node, verdict) in picture.verdicts.iter().enumerate() {
            if verdict.hold {
                self.inner.kicks[node].notify_one();
            }
        }
        let report = Arc::new(self.report(&picture, now));
        self.inner.report.send_replace(report);
        self.inner.picture.send_if_modified(|shown| {
            let is_new = **shown != picture;
            if is_new {
                *shown = Arc::new(picture.clone());
            }
            is_new
        });
        // After the picture, so that nobody who is cut comes back to the same node.
        for (node, verdict) in picture.verdicts.iter().enumerate() {
            // Sessions end by themselves where an admin drained the writer, beside the new one.
            let is_left = picture.writer != Some(node) && verdict.writes.is_usable();
            if is_left || !verdict.writes.keeps_sessions() {
                self.inner.gates.cut(node, Port::Writer);
            }
            if !verdict.reads.keeps_sessions() {
                self.inner.gates.cut(node, Port::Reader);
            }
        }
        self.told = picture;
    }

    /// Decides who writes; a change is proposed in the background.
    fn steer(&mut self, now: Instant) -> Picture {
        let verdicts = self.board.verdicts(now);
        let agreed = self.agreed();
        let is_wanted = self.wanted.is_some_and(|at| now.duration_since(at) < WANTED);
        if self.board.is_settled(now)
            && self.proposal.is_none()
            && now >= self.not_before
            && let Order::Propose { epoch, node, because } =
                self.helm.steer(agreed, &verdicts, is_wanted)
        {
            let name = self.inner.config.nodes[node].name.clone();
            if let Some(because) = because {
                tracing::warn!(%because, database = name, "another database node is to write");
            }
            let writer =
                Writer { epoch, name, by: self.cluster.node_id(), at: cluster::clock::now() };
            let cluster = self.cluster.clone();
            let outcome = tokio::spawn(async move {
                let proposed = cluster.propose(Command::SetWriter(writer), AGREE).await;
                // Whoever was faster has changed the record, which is agreement too.
                matches!(proposed, Ok(Reply::Done | Reply::Nothing))
            });
            self.proposal = Some(Proposal { agreed, node, outcome });
        }
        Picture { writer: self.helm.writer(agreed), verdicts }
    }

    fn proposed(&mut self, is_agreed: bool) {
        let Some(Proposal { agreed, node, .. }) = self.proposal.take() else { return };
        if is_agreed || self.agreed() != agreed {
            return;
        }
        self.not_before = Instant::now() + AGREE_AGAIN;
        if self.helm.writer(agreed) != Some(node) {
            let database = &self.inner.config.nodes[node].name;
            tracing::warn!(database, "no agreement on the writer: this node stands in");
        }
        self.helm.stand_in(agreed, node);
    }

    fn agreed(&self) -> Option<Agreed> {
        let writer = self.cluster.read(|state| state.writer().cloned())?;
        let mut nodes = self.inner.config.nodes.iter();
        let node = nodes.position(|node| node.name == writer.name);
        Some(Agreed { epoch: writer.epoch, node })
    }

    /// What has changed, in the log: once, however often it is looked at.
    fn tell(&mut self, picture: &Picture) {
        let name = |node: usize| self.inner.config.nodes[node].name.as_str();
        if picture.writer != self.told.writer
            && let Some(writer) = picture.writer
        {
            let before = self.told.writer.map(name);
            tracing::info!(
                name: "database_writer",
                database = name(writer),
                before,
                "another database node writes"
            );
        }
        for (node, (verdict, before)) in
            picture.verdicts.iter().zip(&self.told.verdicts).enumerate()
        {
            if (verdict.writes, verdict.reads) == (before.writes, before.reads) {
                continue;
            }
            let (database, why) = (name(node), self.board.trouble(node));
            match (verdict.writes.reason(), verdict.writes.is_usable()) {
                // That was told when it was ordered.
                (Some(reason), _) if reason.is_order() => {}
                (None, _) => tracing::info!(database, "database node is fit"),
                (Some(reason), true) => {
                    tracing::info!(database, %reason, "database node is less fit")
                }
                (Some(reason), false) => {
                    tracing::warn!(database, %reason, why, "database node takes no writes");
                }
            }
        }
        let mismatches = self.board.mismatches();
        if mismatches != self.mismatches {
            if !mismatches.is_empty() {
                let timers = mismatches.join(", ");
                tracing::warn!(timers, "timers differ among the database nodes: make them alike");
            }
            self.mismatches = mismatches;
        }
    }

    fn report(&mut self, picture: &Picture, now: Instant) -> Report {
        let agreed = self.agreed();
        let health = self.board.health(now);
        for (known, alone) in self.conditions.iter_mut().zip(&health) {
            if known.0 != alone.condition() {
                *known = (alone.condition(), now);
            }
        }
        let nodes = self.inner.config.nodes.iter().zip(&picture.verdicts).enumerate();
        let shown = nodes.map(|(index, (node, verdict))| {
            let (said, alone) = (self.board.reading(index), health[index]);
            let (health, since) = self.conditions[index];
            NodeReport {
                name: node.name.clone(),
                address: node.address.to_string(),
                is_writer: picture.writer == Some(index),
                writes: verdict.writes.is_usable(),
                reads: verdict.reads.is_usable(),
                health,
                since_seconds: now.saturating_duration_since(since).as_secs(),
                reason: alone.reads.reason().or(alone.writes.reason()).map(|reason| {
                    let why = self.board.trouble(index).map(|why| format!(": {why}"));
                    (reason.word().to_owned(), format!("{reason}{}", why.unwrap_or_default()))
                }),
                view: said.and_then(|said| said.view),
                size: said.map(|said| said.size),
                ..NodeReport::default()
            }
        });
        Report {
            nodes: shown.collect(),
            epoch: agreed.map_or(0, |agreed| agreed.epoch),
            stand_in: self.helm.is_stand_in(agreed),
            mismatches: self.mismatches.iter().map(ToString::to_string).collect(),
            ..Report::default()
        }
    }
}

/// Whether the proposal was agreed on, once that is known.
async fn outcome(proposal: &mut Option<Proposal>) -> bool {
    match proposal {
        Some(proposal) => (&mut proposal.outcome).await.unwrap_or(false),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_spread_over_those_that_keep_up_and_the_writer_is_their_last_but_one_choice() {
        let yes = Verdict { writes: Fit::Yes, reads: Fit::Yes, hold: false };
        let held = Verdict { hold: true, ..yes };
        let late = Verdict { reads: Fit::Last(Reason::Queue), ..yes };
        let dead = Verdict::unfit(Reason::Unreachable);
        for (name, verdicts, writer, avoid, expect) in [
            ("the one with fewer sessions", [yes, yes, yes], Some(0), None, Some(2)),
            ("not the one that failed", [yes, yes, yes], Some(0), Some(2), Some(1)),
            ("not one that has to be asked again", [yes, yes, held], Some(0), None, Some(1)),
            ("the writer", [yes, late, dead], Some(0), None, Some(0)),
            ("what is left", [dead, late, dead], Some(0), None, Some(1)),
            ("none", [dead, dead, held], Some(2), None, None),
            ("without a writer", [yes, dead, dead], None, None, Some(0)),
        ] {
            let picture = Picture { verdicts: verdicts.to_vec(), writer };
            let chosen = picture.reader_for_sessions(avoid, |node| 10 - node);
            assert_eq!(chosen, expect, "{name}");
        }
        let picture = Picture { verdicts: vec![held, yes], writer: Some(0) };
        assert_eq!(picture.writer_for_sessions(), None, "it waits rather than goes elsewhere");
    }
}
