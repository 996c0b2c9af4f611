//! Takes this node out of service and back: carries out what [`failover::drain`] and
//! [`failover::last_resort`] decide.
//!
//! [`failover::drain`]: crate::failover::drain
//! [`failover::last_resort`]: crate::failover::last_resort

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cluster::presence::Heard;
use cluster::{Handle, NodeId, RaftState};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use vrrp::State;

use super::status::Speaker;
use super::vantage::{self, Vantage};
use crate::admin::Refusal;
use crate::admin::drain::{self, MAX_WITHIN_SECONDS, Undrained, WITHIN_SECONDS};
use crate::failover::drain::{Drain, Phase, Seen};
use crate::failover::heir::{self, Survey, Wanted};
use crate::failover::last_resort::LastResort;
use crate::frontend::Frontend;
use crate::frp;

/// Between two looks while something is under way, and afterwards.
const LOOK: Duration = Duration::from_millis(10);
const WATCH: Duration = Duration::from_millis(250);

/// How often the voter of a pair tries to hand its vote over, and the pause between.
const TRIES: u32 = 10;
const AGAIN: Duration = Duration::from_millis(500);

/// Drains one node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Drainer(Arc<Inner>);

struct Inner {
    cluster: Handle,
    speaker: Speaker,
    vantage: Arc<Vantage>,
    frontend: Arc<Frontend>,
    tunnels: frp::Tunnels,
    running: Mutex<Option<Running>>,
}

/// One drain, until it is undone.
struct Running {
    machine: Drain,
    undone: CancellationToken,
}

impl Drainer {
    pub(super) fn new(
        cluster: Handle,
        speaker: Speaker,
        vantage: Arc<Vantage>,
        frontend: Arc<Frontend>,
        tunnels: frp::Tunnels,
    ) -> Self {
        let running = Mutex::default();
        Self(Arc::new(Inner { cluster, speaker, vantage, frontend, tunnels, running }))
    }

    /// Begins, or tells how far it is. Call it within a runtime.
    pub(super) fn drain(&self, order: drain::Order) -> Result<drain::Drain, Refusal> {
        let seconds = order.within_seconds.unwrap_or(WITHIN_SECONDS);
        if seconds > MAX_WITHIN_SECONDS {
            let text = format!("wait: found {seconds} s, expected at most {MAX_WITHIN_SECONDS} s");
            return Err(Refusal::Wrong(text));
        }
        let inner = &self.0;
        let mut running = inner.running();
        if running.is_none() {
            if let (Some(why), false) = (inner.nobody_else(), order.force) {
                return Err(Refusal::Unsafe(format!("not drained: {why}")));
            }
            tracing::info!(within_seconds = seconds, force = order.force, "drain ordered");
            inner.vantage.begin_drain();
            inner.frontend.set_leaving(true);
            inner.cluster.rest(true);
            let machine = Drain::new(Instant::now(), Duration::from_secs(seconds));
            let undone = CancellationToken::new();
            tokio::spawn({
                let (me, undone) = (self.clone(), undone.clone());
                async move {
                    tokio::select! {
                        () = me.run() => {}
                        () = undone.cancelled() => {}
                    }
                }
            });
            *running = Some(Running { machine, undone });
        }
        drop(running);
        self.progress().ok_or_else(|| Refusal::Failed("undone meanwhile".to_owned()))
    }

    /// How far it is; none: the node is in service.
    pub(super) fn progress(&self) -> Option<drain::Drain> {
        let inner = &self.0;
        let machine = inner.running().as_ref().map(|running| running.machine.clone())?;
        let seen = inner.look();
        let states = vantage::states(&inner.speaker).into_iter();
        let held = states.filter(|router| router.state == State::Active);
        Some(drain::Drain {
            phase: machine.phase().name().to_owned(),
            since_seconds: machine.began().elapsed().as_secs(),
            requests: seen.lasting,
            upgraded: inner.frontend.upgraded(),
            tunnel_connections: inner.tunnels.connections(),
            cut: machine.cut(),
            interrupted: machine.interrupted(),
            addresses: held.flat_map(|router| router.addresses).map(|it| it.to_string()).collect(),
        })
    }

    /// Back into service.
    pub(super) fn undrain(&self) -> Undrained {
        let inner = &self.0;
        let Some(running) = inner.running().take() else {
            return Undrained { was_draining: false };
        };
        running.undone.cancel();
        inner.cluster.rest(false);
        inner.frontend.set_leaving(false);
        inner.vantage.end_drain(&inner.speaker);
        tracing::info!("undrained: this node is back in service");
        Undrained { was_draining: true }
    }

    async fn run(&self) {
        let inner = &self.0;
        tokio::join!(self.move_vote(), async {
            while let Some(phase) = inner.step() {
                if phase == Phase::Drained {
                    break;
                }
                sleep(LOOK).await;
            }
            inner.stand_by().await;
        });
    }

    /// Of a pair the voter is changed by hand; elsewhere the cluster sees to it by itself.
    async fn move_vote(&self) {
        for _ in 0..TRIES {
            let status = self.0.cluster.status();
            if status.pair.is_none() || status.state != RaftState::Leader {
                return;
            }
            match self.0.cluster.hand_over().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(%error, "drained, but still the voter of the pair");
                }
            }
            sleep(AGAIN).await;
        }
    }
}

impl Inner {
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> Seen {
        let states = vantage::states(&self.speaker);
        let status = self.cluster.status();
        let could = status.voters.len() > 1 || status.pair.is_some();
        Seen {
            lasting: self.frontend.lasting(),
            open: self.frontend.open(),
            active: states.iter().any(|router| router.state == State::Active),
            leads: could && status.state == RaftState::Leader,
        }
    }

    /// One look; the phase after it, none if there is no drain any more.
    fn step(&self) -> Option<Phase> {
        let seen = self.look();
        let mut running = self.running();
        let machine = &mut running.as_mut()?.machine;
        let before = machine.phase();
        if machine.look(Instant::now(), seen) {
            self.vantage.withdraw(&self.speaker);
        }
        let (phase, cut, interrupted) = (machine.phase(), machine.cut(), machine.interrupted());
        if phase != before {
            tracing::info!(phase = phase.name(), cut, interrupted, "draining");
        }
        Some(phase)
    }

    /// What stands against each other node, if none could take over everything this one has.
    fn nobody_else(&self) -> Option<String> {
        let heard = self.vantage.presence().heard();
        let routers = self.vantage.routers();
        let surveyed = |wanted: Option<&Wanted>| {
            let found = survey(wanted, &self.vantage, &heard);
            found.heirs.is_empty().then(|| why(&self.cluster, &found))
        };
        if routers.is_empty() {
            return surveyed(None);
        }
        routers.iter().map(Wanted::new).find_map(|wanted| surveyed(Some(&wanted)))
    }

    /// Until the drain is undone: takes an address when nobody else can.
    async fn stand_by(&self) {
        let mut rules: BTreeMap<Arc<str>, LastResort> = BTreeMap::new();
        loop {
            sleep(WATCH).await;
            let (heard, now) = (self.vantage.presence().heard(), Instant::now());
            let states = vantage::states(&self.speaker);
            for config in self.vantage.routers() {
                let Some(state) = states.iter().find(|it| it.name == *config.name()) else {
                    continue;
                };
                let heir = survey(Some(&Wanted::new(config)), &self.vantage, &heard);
                let rule = rules.entry(Arc::clone(config.name())).or_default();
                let Some(permitted) = rule.look(now, state.held, !heir.heirs.is_empty()) else {
                    continue;
                };
                let router = &**config.name();
                if permitted {
                    tracing::warn!(router, "drained, but no other node can hold the address");
                } else {
                    tracing::info!(router, "another node can hold the address again");
                }
                let speaker = self.speaker.lock().unwrap_or_else(PoisonError::into_inner);
                // Under this lock, so that an undrain is not overruled.
                if let (Some(handle), true) = (&*speaker, self.running().is_some()) {
                    // Fails only when the thread has ended, which ends this process too.
                    let _ = handle.set_permission(router, permitted);
                }
            }
        }
    }
}

/// The other nodes, as heirs of a virtual router of this one.
pub(super) fn survey(wanted: Option<&Wanted>, vantage: &Vantage, heard: &Heard) -> Survey {
    heir::survey(wanted, &vantage.condition(), heard, Instant::now())
}

/// What stands against each node, in words.
pub(super) fn why(cluster: &Handle, survey: &Survey) -> String {
    if survey.unfit.is_empty() && survey.heirs.is_empty() {
        return "there is no other load balancer in this cluster".to_owned();
    }
    let each = survey.unfit.iter();
    let each: Vec<_> =
        each.map(|(node, why)| format!("node {} {why}", name_of(cluster, *node))).collect();
    each.join("; ")
}

/// What a node is called.
pub(super) fn name_of(cluster: &Handle, node: NodeId) -> String {
    let members = cluster.members();
    let member = members.iter().find(|member| member.id == node);
    member.map_or_else(|| node.to_string(), |member| member.name.clone())
}
