//! What one run consists of and what happened in it so far: hosts with their disks and clocks,
//! the story, and the history of the clients.

use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cluster::Role;
use cluster::disk::MemoryDisk;
use cluster::pair::Consent;
use cluster::record::{Millis, NodeId, SessionKey};
use cluster::sim::Inspection;

use crate::admissions::Admissions;
use crate::air::Air;
use crate::history::History;
use crate::network::{self, Connections};
use crate::pledges::Pledges;
use crate::renewal::Renewal;

/// Wall-clock time at the start of every run: that of this process, because the certificates of
/// the nodes are of now. Nothing a run does depends on it.
pub(crate) fn epoch() -> Millis {
    static EPOCH: OnceLock<Millis> = OnceLock::new();
    *EPOCH.get_or_init(cluster::clock::now)
}

/// One turn of every host.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// One run.
pub(crate) struct Site {
    pub(crate) seed: u64,
    pub(crate) hosts: Vec<Host>,
    pub(crate) snapshot_every: u64,
    pub(crate) connections: Connections,
    pub(crate) history: RefCell<History>,
    pub(crate) pledges: RefCell<Pledges>,
    /// Members come and go.
    pub(crate) admits: bool,
    pub(crate) admissions: RefCell<Admissions>,
    /// How far the newcomer is, if there is one.
    pub(crate) renewal: Cell<Renewal>,
    /// The world around a pair.
    pub(crate) air: RefCell<Air>,
    /// How long the voter of a pair has to be gone.
    pub(crate) promote_after: Duration,
    pub(crate) story: RefCell<Story>,
    /// Sessions that were validated, and when each ends.
    pub(crate) sessions: RefCell<Vec<(SessionKey, Duration)>>,
    /// Virtual time since the start, set before every step.
    pub(crate) now: Cell<Duration>,
    /// How far any clock has been off so far.
    pub(crate) skew: Cell<Duration>,
    /// Whether clients go on.
    pub(crate) load: Cell<bool>,
}

/// One machine.
pub(crate) struct Host {
    pub(crate) id: NodeId,
    pub(crate) role: Role,
    pub(crate) is_newcomer: bool,
    pub(crate) disk: RefCell<MemoryDisk>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) state: RefCell<HostState>,
}

/// What a machine is known to do.
#[derive(Default)]
pub(crate) struct HostState {
    /// The cluster does not know it yet.
    pub(crate) absent: bool,
    /// Its log was lost.
    pub(crate) lost: bool,
    /// How often its software was started.
    pub(crate) starts: u64,
    /// When that was last.
    pub(crate) started_at: Duration,
    /// How the node looked when it had just started, until somebody has looked at it.
    pub(crate) started: Option<Inspection>,
    /// How the node looked in its last turn, until somebody has looked at it.
    pub(crate) seen: Option<Inspection>,
    /// How it looked when it was looked at last.
    pub(crate) last: Option<Inspection>,
    /// Why it stopped by itself or did not start.
    pub(crate) failed: Option<String>,
    /// When it last knew a leader with a quorum.
    pub(crate) quorum_at: Duration,
    /// It has been asked to stop in order.
    pub(crate) stopping: bool,
    /// It has stopped in order.
    pub(crate) stopped: bool,
    /// What an operator wants of it.
    pub(crate) order: Option<Order>,
    /// Its disk shall stall for so long.
    pub(crate) stall: Option<Duration>,
}

/// What an operator may want of a node of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    HandOver,
    Promote(Consent),
}

impl Site {
    /// Two load balancers alone.
    pub(crate) fn is_pair(&self) -> bool {
        self.hosts.len() == 2 && self.hosts.iter().all(|host| host.role == Role::Node)
    }

    /// The machine that joins while everything goes on.
    pub(crate) fn newcomer(&self) -> Option<&Host> {
        self.hosts.iter().find(|host| host.is_newcomer)
    }

    /// Everybody the cluster has heard of.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| !host.state.borrow().absent)
    }

    /// Whether some node knows that the member is none any more.
    pub(crate) fn is_removed(&self, id: NodeId) -> bool {
        self.hosts.iter().any(|host| {
            let state = host.state.borrow();
            state.last.as_ref().is_some_and(|seen| seen.view.0.is_removed(id))
        })
    }

    pub(crate) fn host(&self, id: NodeId) -> &Host {
        self.hosts.iter().find(|host| host.id == id).expect("a host of this run")
    }

    /// Tells the story on.
    pub(crate) fn tell(&self, what: impl std::fmt::Display) {
        self.story.borrow_mut().tell(self.now.get(), &what.to_string());
    }
}

impl Host {
    pub(crate) fn new(id: NodeId, role: Role, disk: MemoryDisk) -> Self {
        Self {
            id,
            role,
            is_newcomer: false,
            disk: RefCell::new(disk),
            clock: Arc::default(),
            state: RefCell::default(),
        }
    }

    /// A machine that may join later.
    pub(crate) fn newcomer(id: NodeId, disk: MemoryDisk) -> Self {
        let host = Self { is_newcomer: true, ..Self::new(id, Role::Node, disk) };
        host.state.borrow_mut().absent = true;
        host
    }

    pub(crate) fn ip(&self) -> IpAddr {
        network::ip(0, self.id)
    }
}

/// The wall clock of one machine, which need not be right.
#[derive(Default)]
pub(crate) struct Clock {
    skew_ms: AtomicI64,
    /// How many milliseconds a day's worth of it is fast; thousandths of a percent would do.
    parts_per_million: AtomicI64,
}

impl Clock {
    pub(crate) fn jump(&self, by_ms: i64) {
        self.skew_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    pub(crate) fn set_rate(&self, parts_per_million: i64) {
        self.parts_per_million.store(parts_per_million, Ordering::Relaxed);
    }

    /// How wrong it is at a moment of virtual time.
    pub(crate) fn off_by(&self, at: Duration) -> Duration {
        let right = epoch() + u64::try_from(at.as_millis()).unwrap();
        Duration::from_millis(self.shows(at).abs_diff(right))
    }

    /// What it shows at a moment of virtual time.
    pub(crate) fn shows(&self, at: Duration) -> Millis {
        let elapsed = i64::try_from(at.as_millis()).unwrap();
        let fast = elapsed * self.parts_per_million.load(Ordering::Relaxed) / 1_000_000;
        let shift = elapsed + fast + self.skew_ms.load(Ordering::Relaxed);
        epoch().saturating_add_signed(shift)
    }
}

/// What happened, in words and as one number.
#[derive(Default)]
pub(crate) struct Story {
    lines: Vec<String>,
    hasher: DefaultHasher,
}

impl Story {
    fn tell(&mut self, at: Duration, what: &str) {
        self.hasher.write(what.as_bytes());
        self.count(u64::try_from(at.as_micros()).unwrap());
        self.lines.push(format!("{:>9.3} s  {what}", at.as_secs_f64()));
    }

    /// Something that is not worth a line but has to be the same each time.
    pub(crate) fn count(&mut self, what: u64) {
        self.hasher.write_u64(what);
    }

    pub(crate) fn trace(&self) -> u64 {
        self.hasher.finish()
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }
}
