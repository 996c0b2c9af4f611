//! What a node knows about its place among the others, put together: the presence it keeps up,
//! the second opinion its VRRP thread asks for, the lookout that notices when it is cut off.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use cluster::Presence;
use cluster::presence::Word;
use tokio_util::sync::CancellationToken;

use super::privileges;
use super::status::Speaker;
use crate::failover::alarms::Alarm;
use crate::failover::config::{ClaimPolicy, Config};
use crate::failover::counsel::{self, Holds};
use crate::failover::lookout::{AlarmBoard, Lookout, Routers};
use crate::failover::word::{Seen, Teller};

/// How long a node that starts waits until it has heard every other member, before it may claim
/// an address nobody advertises: longer than the others' pause between two tries to reach it.
const LOOK_AROUND: Duration = Duration::from_millis(1500);

/// What a virtual router of a node that is cut off suffers from.
const ISOLATED: &str = "isolated";

/// See the front page. One per process.
pub(super) struct Vantage {
    config: Config,
    routers: Vec<vrrp::RouterConfig>,
    presence: Presence,
    holds: Holds,
    alarms: AlarmBoard,
    /// Those about the node's own state.
    conditions: AlarmBoard,
    yielding: AtomicBool,
    /// An admin has taken this node out of service.
    draining: AtomicBool,
    /// Whether it can serve what comes to its addresses.
    may_serve: AtomicBool,
    quorum: AtomicBool,
    control: AtomicBool,
    nextcloud: AtomicBool,
}

impl Vantage {
    /// A node with these virtual routers.
    pub(super) fn new(config: Config, routers: &[vrrp::RouterConfig]) -> Arc<Self> {
        let presence = Presence::new(config.pace(routers));
        // It reads what comes over the network.
        presence.on_thread_start(privileges::shed);
        Arc::new(Self {
            presence,
            holds: Holds::new(routers),
            routers: routers.to_vec(),
            alarms: AlarmBoard::default(),
            conditions: AlarmBoard::default(),
            yielding: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            may_serve: AtomicBool::new(false),
            quorum: AtomicBool::new(false),
            control: AtomicBool::new(false),
            nextcloud: AtomicBool::new(false),
            config,
        })
    }

    /// A witness: it tells that it is there, and whom it hears.
    pub(super) fn witness() -> Arc<Self> {
        let vantage = Self::new(Config::default(), &[]);
        vantage.presence.speak(|| Word { healthy: true, ..Word::default() });
        vantage
    }

    pub(super) fn presence(&self) -> &Presence {
        &self.presence
    }

    /// The alarms that are raised.
    pub(super) fn alarms(&self) -> Vec<Alarm> {
        [self.alarms.raised(), self.conditions.raised()].concat()
    }

    /// Replaces the alarms about the node's own state.
    pub(super) fn raise(&self, now: Instant, current: Vec<Alarm>) {
        self.conditions.update(now, current);
    }

    /// Whom the VRRP thread asks, if anybody.
    pub(super) fn counsel(&self) -> Option<vrrp::Counsel> {
        let ask = || counsel::counsel(self.presence.clone(), &self.routers, self.holds.clone());
        (self.config.claim == ClaimPolicy::Presence).then(ask)
    }

    /// Begins to tell the others about this node, and to look out.
    pub(super) fn begin(
        self: &Arc<Self>,
        speaker: &Speaker,
        ready: CancellationToken,
    ) -> anyhow::Result<Option<Lookout>> {
        let teller = Mutex::new(Teller::new(&self.routers));
        let (me, routers) = (Arc::clone(self), Arc::clone(speaker));
        self.presence.speak(move || {
            let seen = states(&routers).into_iter().map(Seen::from);
            let draining = me.draining.load(Ordering::Relaxed);
            let yielding = draining || me.yielding.load(Ordering::Relaxed);
            let own = Word { healthy: ready.is_cancelled() && !draining, ..me.condition() };
            let mut teller = teller.lock().unwrap_or_else(PoisonError::into_inner);
            teller.word(Instant::now(), own, yielding, seen)
        });
        if self.routers.is_empty() {
            return Ok(None);
        }
        let own = Arc::clone(speaker);
        let isolate = move |isolated| {
            // Fails only when the thread has ended, and with it every address.
            let _ = on_all(&own, |handle, name| handle.set_fault(name, ISOLATED, isolated));
        };
        let own = Arc::clone(speaker);
        let seen = Routers { states: Box::new(move || states(&own)), isolate: Box::new(isolate) };
        let (presence, holds) = (self.presence.clone(), self.holds.clone());
        let lookout = Lookout::start(&self.config, presence, holds, seen, self.alarms.clone());
        lookout.map(Some).context("the lookout thread did not start")
    }

    /// Lets every virtual router become Active, once it is known what the others do.
    pub(super) async fn permit(&self, speaker: &Speaker) -> anyhow::Result<()> {
        if self.config.claim == ClaimPolicy::Presence && !self.routers.is_empty() {
            self.presence.look_around(LOOK_AROUND).await;
        }
        self.may_serve.store(true, Ordering::Relaxed);
        if !self.draining.load(Ordering::Relaxed) {
            permit_all(speaker, true)?;
        }
        Ok(())
    }

    /// Tells the others that this node is out of service: it gives its addresses away, or has done
    /// so, and none of them should count on it.
    pub(super) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether it is out of service.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Gives every address away, and takes none until [`Self::end_drain`].
    pub(super) fn withdraw(&self, speaker: &Speaker) {
        // Fails only when the thread has ended, and with it every address.
        let _ = permit_all(speaker, false);
    }

    /// The node is back in service.
    pub(super) fn end_drain(&self, speaker: &Speaker) {
        self.draining.store(false, Ordering::Relaxed);
        if self.may_serve.load(Ordering::Relaxed) {
            let _ = permit_all(speaker, true);
        }
    }

    /// The virtual routers of this node.
    pub(super) fn routers(&self) -> &[vrrp::RouterConfig] {
        &self.routers
    }

    /// Notes how this node takes part in the cluster, for the others to know.
    pub(super) fn note_cluster(&self, quorum: bool, control: bool) {
        self.quorum.store(quorum, Ordering::Relaxed);
        self.control.store(control, Ordering::Relaxed);
    }

    /// Notes whether this node reaches a Nextcloud.
    pub(super) fn note_nextcloud(&self, reached: bool) {
        self.nextcloud.store(reached, Ordering::Relaxed);
    }

    /// What was noted last.
    pub(super) fn condition(&self) -> Word {
        Word {
            quorum: self.quorum.load(Ordering::Relaxed),
            control: self.control.load(Ordering::Relaxed),
            nextcloud: self.nextcloud.load(Ordering::Relaxed),
            ..Word::default()
        }
    }

    /// Tells the others that this node is about to give its addresses away.
    pub(super) fn yield_addresses(&self) {
        self.yielding.store(true, Ordering::Relaxed);
    }
}

fn permit_all(speaker: &Speaker, permission: bool) -> Result<(), vrrp::Error> {
    on_all(speaker, |handle, name| handle.set_permission(name, permission))
}

/// Tells something to every virtual router.
fn on_all(
    speaker: &Speaker,
    tell: impl Fn(&vrrp::SpeakerHandle, &str) -> Result<(), vrrp::Error>,
) -> Result<(), vrrp::Error> {
    let speaker = speaker.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(handle) = &*speaker else { return Ok(()) };
    handle.names().iter().try_for_each(|name| tell(handle, name))
}

pub(super) fn states(speaker: &Speaker) -> Vec<vrrp::RouterStatus> {
    let speaker = speaker.lock().unwrap_or_else(PoisonError::into_inner);
    speaker.iter().flat_map(vrrp::SpeakerHandle::states).collect()
}
