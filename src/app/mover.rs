//! Moves virtual addresses to another node on purpose: the Active lowers itself just below the
//! heir, says goodbye, and waits until it hears that the heir is Active. A node that does not hold
//! them asks the one that does, in the words of `errands`. Who may inherit is decided in
//! [`failover::heir`](crate::failover::heir).

mod errands;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use cluster::presence::{Heard, RouterState};
use cluster::{Handle, NodeId, Role};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use vrrp::{RouterConfig, RouterStatus, State, Tracked};

use super::drain::{name_of, survey, why};
use super::status::Speaker;
use super::vantage::{self, Vantage};
use crate::admin::Refusal;
use crate::admin::failover::{Move, Moved, Order};
use crate::failover::fitness::{MOVED, below};
use crate::failover::heir::{Heir, Wanted};

/// How long the heir gets to take the addresses before they come back.
const TAKE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(2);

/// How long a refusal may be a matter of news that are on their way.
const SETTLE: Duration = Duration::from_secs(2);

/// Between two looks for a lowered priority that has served its purpose.
const RAISE: Duration = Duration::from_millis(500);

/// Beats of nodes that fell silent are not believed.
const FRESH: Duration = Duration::from_secs(2);

/// Moves the addresses of one node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Mover(Arc<Inner>);

struct Inner {
    cluster: Handle,
    speaker: Speaker,
    vantage: Arc<Vantage>,
    /// Held while something moves; the routers that were lowered for a move.
    lowered: tokio::sync::Mutex<BTreeSet<Arc<str>>>,
}

impl Mover {
    pub(super) fn new(cluster: Handle, speaker: Speaker, vantage: Arc<Vantage>) -> Self {
        Self(Arc::new(Inner { cluster, speaker, vantage, lowered: Default::default() }))
    }

    /// Moves what `order` names.
    pub(super) async fn failover(&self, order: Order) -> Result<Moved, Refusal> {
        let inner = &self.0;
        let to = order.to.as_deref().map(|name| inner.node_called(name)).transpose()?;
        let wanted = inner.chosen(order.address)?;
        let mut by_holder = settled(|| inner.holders(&wanted)).await?;
        let me = inner.cluster.node_id();
        if let (true, None, None) = (by_holder.contains_key(&me), order.address, to) {
            by_holder.retain(|holder, _| *holder == me);
        }
        let mut moved = Moved::default();
        for (holder, addresses) in by_holder {
            if Some(holder) == to {
                continue;
            }
            let one = if holder == me {
                inner.give(&addresses, to, order.force).await?
            } else {
                inner.have_given(holder, addresses, to, order.force).await?
            };
            moved.moves.extend(one.moves);
        }
        Ok(moved)
    }

    /// Raises priorities again once what they were lowered for is over: the address came back.
    pub(super) async fn watch(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(RAISE) => {}
            }
            // Something moves right now.
            let Ok(mut lowered) = self.0.lowered.try_lock() else { continue };
            let states = vantage::states(&self.0.speaker);
            let is_active = |name: &Arc<str>| {
                states.iter().any(|it| it.name == *name && it.state == State::Active)
            };
            lowered.retain(|name| {
                let back = is_active(name);
                if back {
                    self.0.set(name, Tracked::Value(0));
                }
                !back
            });
        }
    }
}

impl Inner {
    /// Gives addresses this node holds to the heir.
    async fn give(
        &self,
        addresses: &[IpAddr],
        to: Option<NodeId>,
        force: bool,
    ) -> Result<Moved, Refusal> {
        let mut lowered = self.lowered.lock().await;
        let states = vantage::states(&self.speaker);
        let routers = self.moving(addresses, &states);
        if routers.is_empty() {
            return Err(Refusal::Unsafe("this node does not hold the address now".to_owned()));
        }
        let survey = || {
            let heir = |config| Ok((config, self.heir(config, to, force)?));
            routers.iter().copied().map(heir).collect::<Result<Vec<_>, _>>()
        };
        let heirs = settled(survey).await?;
        let Some(node) = heirs.first().map(|(_, heir)| heir.node) else {
            return Err(Refusal::Unsafe("nobody to give it to".to_owned()));
        };
        if heirs.iter().any(|(_, heir)| heir.node != node) {
            let text = "the virtual routers of this sync group would go to different nodes";
            return Err(Refusal::Unsafe(text.to_owned()));
        }
        let name = name_of(&self.cluster, node);
        let all: Vec<_> = heirs.iter().flat_map(|(it, _)| it.addresses()).copied().collect();
        let prepared = match self.have_prepared(node, all).await {
            Ok(priority) => Some(priority),
            Err(text) if !force => return Err(Refusal::Unsafe(format!("node {name}: {text}"))),
            Err(_) => None,
        };
        tracing::info!(to = name, routers = heirs.len(), "failover ordered by an admin");
        let began = Instant::now();
        for (config, heir) in &heirs {
            let own = states.iter().find(|state| state.name == *config.name());
            let own = own.map_or(1, |state| state.priority);
            self.set(config.name(), below(own, prepared.unwrap_or(heir.priority)));
            lowered.insert(Arc::clone(config.name()));
            self.permit(config, false);
        }
        let taken = self.await_heir(&heirs, node, began + TAKE).await;
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        for (config, _) in &heirs {
            if !taken {
                self.set(config.name(), Tracked::Value(0));
                lowered.remove(config.name());
            }
            self.permit(config, true);
        }
        if !taken {
            return Err(Refusal::Failed(format!(
                "node {name} did not take the address within {} s; this node takes it again",
                TAKE.as_secs()
            )));
        }
        let from = name_of(&self.cluster, self.cluster.node_id());
        let moves = heirs.iter().map(|(config, _)| Move {
            addresses: config.addresses().to_vec(),
            from: from.clone(),
            to: name.clone(),
            took_ms,
        });
        Ok(Moved { moves: moves.collect() })
    }

    /// Whoever takes this virtual router once this node lets go, if that is the right one.
    fn heir(
        &self,
        config: &RouterConfig,
        to: Option<NodeId>,
        force: bool,
    ) -> Result<Heir, Refusal> {
        let heard = self.vantage.presence().heard();
        let survey = survey(Some(&Wanted::new(config)), &self.vantage, &heard);
        let refuse = |text: String| Err(Refusal::Unsafe(format!("not moved: {text}")));
        match (survey.heirs.first().copied(), to) {
            (Some(first), None) => Ok(first),
            (Some(first), Some(to)) if first.node == to => Ok(first),
            (Some(first), Some(to)) if survey.heirs.iter().any(|heir| heir.node == to) => {
                refuse(format!(
                    "node {} would take the address, its priority {} is the highest",
                    name_of(&self.cluster, first.node),
                    first.priority
                ))
            }
            (_, Some(to)) if !force => {
                let against = survey.unfit.iter().find(|(node, _)| *node == to);
                let why = against.map_or_else(String::new, |(_, why)| why.to_string());
                refuse(format!("node {} {why}", name_of(&self.cluster, to)))
            }
            (_, Some(to)) => Ok(Heir { node: to, priority: 1, active: false }),
            (None, None) => match survey.unfit.first() {
                Some((node, _)) if force => Ok(Heir { node: *node, priority: 1, active: false }),
                _ => refuse(why(&self.cluster, &survey)),
            },
        }
    }

    async fn await_heir(
        &self,
        heirs: &[(&RouterConfig, Heir)],
        node: NodeId,
        deadline: Instant,
    ) -> bool {
        while Instant::now() < deadline {
            let heard = self.vantage.presence().heard();
            if heirs.iter().all(|(config, _)| holds(&heard, node, config)) {
                return true;
            }
            sleep(LOOK).await;
        }
        false
    }

    /// Who holds the addresses of these virtual routers.
    fn holders(&self, wanted: &[&RouterConfig]) -> Result<BTreeMap<NodeId, Vec<IpAddr>>, Refusal> {
        let heard = self.vantage.presence().heard();
        let mut by_holder: BTreeMap<NodeId, Vec<IpAddr>> = BTreeMap::new();
        for config in wanted {
            if let Some(holder) = self.holder(config, &heard) {
                by_holder.entry(holder).or_default().extend(config.addresses());
            }
        }
        if by_holder.is_empty() {
            let names: Vec<_> = wanted.iter().map(|config| &**config.name()).collect();
            let text = format!(
                "no node of this cluster is Active for {}: there is nothing to give away",
                names.join(", ")
            );
            return Err(Refusal::Unsafe(text));
        }
        Ok(by_holder)
    }

    /// Who holds a virtual router's addresses.
    fn holder(&self, config: &RouterConfig, heard: &Heard) -> Option<NodeId> {
        let own = vantage::states(&self.speaker);
        if own.iter().any(|it| it.name == *config.name() && it.state == State::Active) {
            return Some(self.cluster.node_id());
        }
        heard.peers.keys().copied().find(|node| holds(heard, *node, config))
    }

    /// The virtual routers an order is about.
    fn chosen(&self, address: Option<IpAddr>) -> Result<Vec<&RouterConfig>, Refusal> {
        let routers: Vec<_> = match address {
            Some(address) => self.with(&[address]).collect(),
            None => self.vantage.routers().iter().collect(),
        };
        match (routers.is_empty(), address) {
            (true, Some(address)) => Err(Refusal::Wrong(format!(
                "address: found {address}, expected a virtual address of this node \
                 (`trigon vrrp` shows them)"
            ))),
            (true, None) => Err(Refusal::Wrong("this node has no virtual address".to_owned())),
            (false, _) => Ok(routers),
        }
    }

    /// Those of this node that are Active and hold one of `addresses`, with their sync groups.
    fn moving(&self, addresses: &[IpAddr], states: &[RouterStatus]) -> Vec<&RouterConfig> {
        let groups: BTreeSet<_> =
            self.with(addresses).filter_map(|config| config.sync_group()).collect();
        let is_active = |config: &&RouterConfig| {
            states.iter().any(|it| it.name == *config.name() && it.state == State::Active)
        };
        let all = self.vantage.routers().iter().filter(is_active);
        all.filter(|config| {
            config.addresses().iter().any(|address| addresses.contains(address))
                || config.sync_group().is_some_and(|group| groups.contains(group))
        })
        .collect()
    }

    fn with(&self, addresses: &[IpAddr]) -> impl Iterator<Item = &RouterConfig> {
        let has = |config: &&RouterConfig| {
            config.addresses().iter().any(|address| addresses.contains(address))
        };
        self.vantage.routers().iter().filter(has)
    }

    fn node_called(&self, name: &str) -> Result<NodeId, Refusal> {
        let members = self.cluster.members();
        let is_meant = |member: &&Arc<cluster::Member>| {
            member.role == Role::Node && (member.name == name || member.id.to_string() == name)
        };
        let found = members.iter().find(is_meant).map(|member| member.id);
        found.ok_or_else(|| {
            Refusal::Wrong(format!(
                "to: found {name:?}, expected the name or number of a load balancer \
                 (`trigon node list` shows them)"
            ))
        })
    }

    fn set(&self, router: &str, seen: Tracked) {
        let speaker = self.speaker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = &*speaker {
            // Fails only when the thread has ended, and with it every address.
            let _ = handle.set_tracker(router, MOVED, seen);
        }
    }

    fn permit(&self, config: &RouterConfig, permission: bool) {
        let speaker = self.speaker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = &*speaker {
            let _ = handle.set_permission(config.name(), permission && !self.vantage.is_draining());
        }
    }
}

/// What a look says, refused only if that lasts: right after another move a node does not know yet
/// how the others stand. Nothing may have been asked of anybody.
async fn settled<T>(look: impl Fn() -> Result<T, Refusal>) -> Result<T, Refusal> {
    let end = Instant::now() + SETTLE;
    loop {
        match look() {
            Err(Refusal::Unsafe(_)) if Instant::now() < end => sleep(SETTLE / 20).await,
            outcome => return outcome,
        }
    }
}

/// Whether a node says that it is Active for this virtual router, and did so a moment ago.
fn holds(heard: &Heard, node: NodeId, config: &RouterConfig) -> bool {
    let told = heard.about(node).max_by_key(|told| told.at);
    told.filter(|told| told.at.elapsed() < FRESH).is_some_and(|told| {
        told.word.routers.iter().any(|router| {
            router.state == RouterState::Active
                && router.is_same_router(config.vrid().as_u8(), config.addresses())
        })
    })
}
