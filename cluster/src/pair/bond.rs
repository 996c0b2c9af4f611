//! What this node knows of the other one of its pair, and whether it may write: shared by the
//! engine, the peer port and the keeper.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::healed::Healed;
use super::mirror::Silence;
use super::promotion::Refusal;
use super::semi_sync::{Change, SemiSync, Sync};
use super::standing::Standing;
use super::surroundings::Surroundings;
use super::word::Word;
use crate::record::NodeId;

/// A claim counts as settled once the node has been silent for so long: what was on its way to
/// the log when it fell silent has arrived or never will.
const SETTLED: Duration = Duration::from_secs(1);

/// How a pair stands, for status and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairStatus {
    /// How this node stands.
    pub standing: Standing,
    /// The other node.
    pub peer: NodeId,
    /// Seconds since it was heard; none: never since this node started.
    pub peer_silent_s: Option<u64>,
    /// Whether this node is the voter.
    pub votes: bool,
    /// Whether what is acknowledged is on both nodes.
    pub sync: Sync,
    /// Why this node, a voter, takes no durable changes.
    pub silence: Option<Silence>,
    /// What stands against the promotion of this node, a learner.
    pub waits_for: Vec<Refusal>,
    /// How this node came back to the pair last; none: it never gave a history up.
    #[serde(default)]
    pub healed: Option<Healed>,
}

/// See the front page.
pub(crate) struct Bond {
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    heard: Option<(Instant, Word)>,
    surroundings: Option<(Instant, Surroundings)>,
    semi_sync: SemiSync,
    silence: Option<(Instant, Silence)>,
    status: Option<PairStatus>,
    healed: Option<Healed>,
}

impl Bond {
    /// Nothing is known yet. `silence`: why the node takes no durable changes until it is.
    pub(crate) fn new(silence: Option<Silence>) -> Self {
        let started = Instant::now();
        let silence = silence.map(|silence| (started, silence));
        Self { started, inner: Mutex::new(Inner { silence, ..Inner::default() }) }
    }

    pub(crate) fn up_for(&self) -> Duration {
        self.started.elapsed()
    }

    /// The other node said something.
    pub(crate) fn hear(&self, word: Word) {
        self.inner().heard = Some((Instant::now(), word));
    }

    /// What it said last, and how long ago.
    pub(crate) fn heard(&self) -> Option<(Duration, Word)> {
        self.inner().heard.map(|(at, word)| (at.elapsed(), word))
    }

    pub(crate) fn tell_surroundings(&self, seen: Surroundings) {
        self.inner().surroundings = Some((Instant::now(), seen));
    }

    pub(crate) fn surroundings(&self) -> Surroundings {
        let told = self.inner().surroundings;
        told.map(|(at, seen)| seen.after(at.elapsed())).unwrap_or_default()
    }

    /// Why this node takes no durable changes; none: it does.
    pub(crate) fn silence(&self) -> Option<Silence> {
        self.inner().silence.map(|(_, silence)| silence)
    }

    /// Whether it has taken none for long enough that its claim does not change any more.
    pub(crate) fn is_settled(&self) -> bool {
        self.inner().silence.is_some_and(|(since, _)| since.elapsed() >= SETTLED)
    }

    pub(crate) fn set_silence(&self, silence: Option<Silence>) {
        let mut inner = self.inner();
        match (inner.silence, silence) {
            (Some((since, known)), Some(silence)) if known != silence => {
                tracing::warn!(reason = %silence, "no durable changes");
                inner.silence = Some((since, silence));
            }
            (None, Some(silence)) => {
                tracing::warn!(reason = %silence, "no durable changes");
                inner.silence = Some((Instant::now(), silence));
            }
            (Some(_), None) => {
                tracing::info!("durable changes are taken again");
                inner.silence = None;
            }
            _ => {}
        }
    }

    /// The voter's log has `written` entries, the learner's `stored`.
    pub(crate) fn observe(&self, written: u64, stored: u64) {
        if self.inner().semi_sync.observe(written, stored) == Some(Change::CaughtUp) {
            tracing::info!("the pair is sync: what is acknowledged is on both nodes");
        }
    }

    /// The learner did not follow in time, or there is none.
    pub(crate) fn give_up(&self) {
        let mut inner = self.inner();
        if inner.semi_sync.give_up() == Some(Change::Lost) {
            tracing::warn!(
                "the pair is async: changes are acknowledged that are on this node only"
            );
        }
    }

    pub(crate) fn waits_for(&self, index: u64) -> bool {
        self.inner().semi_sync.waits_for(index)
    }

    pub(crate) fn sync(&self) -> Sync {
        self.inner().semi_sync.report()
    }

    pub(crate) fn set_status(&self, status: Option<PairStatus>) {
        self.inner().status = status;
    }

    /// How the pair stands; none: there is no pair.
    pub(crate) fn status(&self) -> Option<PairStatus> {
        self.inner().status.clone()
    }

    pub(crate) fn set_healed(&self, healed: Healed) {
        self.inner().healed = Some(healed);
    }

    /// How this node came back to the pair last.
    pub(crate) fn healed(&self) -> Option<Healed> {
        self.inner().healed.clone()
    }

    /// The engine was exchanged: what was known of the learner's log is of another one.
    pub(crate) fn begin_again(&self) {
        self.inner().semi_sync = SemiSync::default();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
