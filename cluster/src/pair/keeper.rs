//! Keeps a pair together: talks to the other node, does what the rules say, and exchanges the
//! engine when this node comes to another generation. Decides nothing: see `conduct`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::time::{sleep, timeout};

use super::bond::PairStatus;
use super::boot::{self, Boot};
use super::conduct::{Conduct, Situation};
use super::generation::{Kind, Parent, Plan};
use super::healed::{self, Healed};
use super::healing::heal;
use super::opening::{self, Failure};
use super::orders::{Order, PairError};
use super::promotion::{Consent, Path};
use super::semi_sync::Sync;
use super::{mirror, plan_file, promotion, standing};
use crate::codec;
use crate::command::Command;
use crate::engine::Engine;
use crate::error::ProposeError;
use crate::founding::random_lineage;
use crate::network::{Answer, Request};
use crate::presence::Presence;
use crate::running::{Ground, Running};
use crate::slot::Slot;
use crate::types::{RaftId, number_of};

/// Between two words to the other node.
const PAUSE: Duration = Duration::from_millis(250);

/// Longest the other node may take to answer.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// Longest one part of a merge may take.
const MERGE_LIMIT: Duration = Duration::from_secs(5);

/// Bytes of one part of a merge; what is around it needs some more.
const MERGE_BYTES: usize = 48 << 10;

/// The task and what it works with.
pub(crate) struct Keeper {
    pub(crate) ground: Arc<Ground>,
    pub(crate) running: Arc<Mutex<Running>>,
    pub(crate) slot: Slot,
    /// A second way to the other node, where there is one.
    pub(crate) presence: Option<Presence>,
    pub(crate) ordered: mpsc::Receiver<Order>,
}

impl Keeper {
    /// Runs until dropped.
    pub(crate) async fn run(mut self) {
        self.remember();
        let mut boot = self.ground.bond.silence().map(|_| self.slot.engine().boot());
        loop {
            let order = tokio::select! {
                () = sleep(PAUSE) => None,
                Some(order) = self.ordered.recv() => Some(order),
            };
            let engine = self.slot.engine();
            let Some(peer) = engine.other_of_pair().await else {
                self.ground.bond.set_silence(None);
                self.ground.bond.set_status(None);
                if let Some(order) = order {
                    let _ = order.done.send(Err(PairError::NoPair));
                }
                continue;
            };
            self.talk(&engine, peer).await;
            let consent = order.as_ref().map_or(Consent::Nobody, |order| order.consent);
            let situation = self.situation(&engine, peer, consent, &mut boot);
            let conduct = situation.conduct();
            self.show(&engine, peer, &situation, &conduct);
            let outcome = self.carry_out(&engine, &situation, conduct).await;
            if let Some(Order { done, .. }) = order {
                let _ = done.send(outcome.map(|()| self.slot.engine().own.group));
            }
            self.give_legacy().await;
        }
    }

    /// What earlier starts noted.
    fn remember(&self) {
        let ground = &self.ground;
        match healed::load(&ground.world.disk, &ground.config.state_dir) {
            Ok(Some(healed)) => ground.bond.set_healed(healed),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "how this node came back last cannot be read"),
        }
    }

    /// Tells the other node how things are here, and hears how they are there.
    async fn talk(&self, engine: &Engine, peer: RaftId) {
        let request = Request::Pair(engine.word());
        match engine.call(peer, request, ASK_LIMIT).await {
            Ok(Answer::Pair(word)) => self.ground.bond.hear(word),
            Ok(_) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "the other node of the pair did not answer");
            }
        }
    }

    fn situation(
        &self,
        engine: &Engine,
        peer: RaftId,
        consent: Consent,
        boot: &mut Option<Boot>,
    ) -> Situation {
        let bond = &self.ground.bond;
        let (up, heard) = (bond.up_for(), bond.heard());
        let silent_for = heard.map_or(up, |(ago, _)| ago);
        let metrics = engine.metrics();
        let votes = engine.votes_alone(&metrics);
        let is_known = metrics.membership_config.membership().voter_ids().next().is_some();
        let step = boot.as_mut().map(|boot| {
            if let Some((_, word)) = heard {
                boot.heard(&word.claim);
            }
            // Until the engine knows who votes, this node may be the one.
            if votes || !is_known { boot.step(up) } else { boot::Step::Start }
        });
        if step == Some(boot::Step::Start) {
            *boot = None;
        }
        let config = &self.ground.config.pair;
        let seen = bond.surroundings();
        let own = engine.claim();
        let address = engine
            .view
            .read(|state| state.member(number_of(peer)).and_then(|member| member.address));
        let name = address.map_or_else(|| format!("node {}", number_of(peer)), |at| at.to_string());
        let mut paths = vec![Path { name, silent_for }];
        paths.extend(self.presence.as_ref().and_then(|presence| {
            let told = presence.heard().peers.get(&number_of(peer))?.last.as_ref()?.at;
            Some(Path { name: "its presence".to_owned(), silent_for: told.elapsed() })
        }));
        Situation {
            votes,
            boot: step,
            healing: heard.map(|(_, word)| heal(&own, &word.claim)),
            mirror: mirror::Facts {
                silent_for,
                other_branch: false,
                active: seen.active,
                gateway: seen.gateway,
                nextcloud: seen.nextcloud,
            },
            promotion: promotion::Facts {
                policy: config.policy,
                consent,
                after: config.promote_after,
                paths,
                advert_heard: seen.advert_heard,
                active_for: seen.active_for,
                gateway: seen.gateway,
                nextcloud: seen.nextcloud,
                sync: heard.map_or(Sync::Async { behind: 0 }, |(_, word)| word.sync),
                seen_since_start: heard.is_some(),
                has_state: engine.has_state(),
            },
        }
    }

    fn show(&self, engine: &Engine, peer: RaftId, situation: &Situation, conduct: &Conduct) {
        let bond = &self.ground.bond;
        let heard = bond.heard();
        let follows = heard.is_some_and(|(_, word)| word.claim.group == engine.own.group);
        let standing = standing::Facts {
            silent_for: heard.map(|(ago, _)| ago),
            up_for: bond.up_for(),
            opened_here: situation.votes && engine.own.group.generation > 1 && !follows,
            rejoining: !situation.votes && !engine.has_state(),
        };
        let silence = match conduct {
            Conduct::Silent(silence) => Some(*silence),
            _ => None,
        };
        bond.set_silence(silence);
        let waits_for = match conduct {
            Conduct::Learn(refusals) => refusals.clone(),
            _ => Vec::new(),
        };
        let told = heard.map_or(Sync::Async { behind: 0 }, |(_, word)| word.sync);
        bond.set_status(Some(PairStatus {
            standing: standing.standing(),
            peer: number_of(peer),
            peer_silent_s: heard.map(|(ago, _)| ago.as_secs()),
            votes: situation.votes,
            sync: if situation.votes { bond.sync() } else { told },
            silence,
            waits_for,
            healed: bond.healed(),
        }));
    }

    async fn carry_out(
        &self,
        engine: &Arc<Engine>,
        situation: &Situation,
        conduct: Conduct,
    ) -> Result<(), PairError> {
        match conduct {
            Conduct::Go => Err(PairError::Voter),
            Conduct::Silent(_) => {
                Err(PairError::Refused(promotion::refusals(&situation.promotion)))
            }
            Conduct::Learn(refusals) => Err(PairError::Refused(refusals)),
            Conduct::Promote => {
                let group = engine.own.group.next(random_lineage());
                tracing::warn!(generation = group.generation, "opening the next generation");
                self.exchange(engine, Kind::Promotion, group).await
            }
            Conduct::Rejoin => {
                let Some((_, word)) = self.ground.bond.heard() else { return Ok(()) };
                let group = word.claim.group;
                tracing::warn!(
                    generation = group.generation,
                    "the other node's generation goes on, following it"
                );
                self.exchange(engine, Kind::Rejoining, group).await
            }
        }
    }

    /// Ends the engine and runs one of another group in its place.
    async fn exchange(
        &self,
        engine: &Arc<Engine>,
        kind: Kind,
        group: crate::group::Group,
    ) -> Result<(), PairError> {
        let mut running = self.running.lock().await;
        let _changing = self.slot.begin_change();
        let passport = engine.passport.lock().await.clone();
        running.stop().await;
        let entries = engine.metrics().last_log_index.map_or(0, |last| last + 1);
        let plan = Plan { kind, group, parent: Parent { group: engine.own.group, entries } };
        match opening::carry_out(&self.ground, passport, plan).await {
            Ok(opened) => {
                self.ground.bond.begin_again();
                *running = opened;
                self.slot.put(Arc::clone(&running.engine));
                self.ground.set_going(&mut running);
                tracing::info!(generation = group.generation, %kind, "generation opened");
                Ok(())
            }
            // Half-way there is no way back but a start, which goes on where this ended.
            Err(Failure(text)) => {
                self.ground
                    .storage
                    .fatal
                    .raise(format!("{kind} to generation {} failed: {text}", group.generation));
                Err(PairError::Stopped)
            }
        }
    }

    /// Gives the group this node has come to what it lacks of the one it left.
    async fn give_legacy(&self) {
        let engine = self.slot.engine();
        let ground = &self.ground;
        let (disk, dir) = (&ground.world.disk, &ground.config.state_dir);
        let plan = match plan_file::load(disk, dir) {
            Ok(Some(plan)) if plan.group == engine.own.group => plan,
            Ok(_) => return,
            Err(error) => return tracing::warn!(%error, "the plan cannot be read"),
        };
        if plan.kind == Kind::Rejoining {
            if !engine.has_state() || engine.metrics().current_leader.is_none() {
                return;
            }
            let old =
                plan_file::export(&ground.storage, dir, plan.parent.group, engine.own.raft_id)
                    .await;
            let old = match old {
                Ok((state, _)) => state,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    return tracing::error!(error, "the generation before cannot be read");
                }
            };
            let legacy = old.legacy(&engine.view.load());
            let report = legacy.report.clone();
            let size = |item: &_| codec::encode(item).map_or(MERGE_BYTES, |bytes| bytes.len());
            for part in legacy.into_parts(plan.parent.group, MERGE_BYTES, size) {
                match engine.propose(Command::Merge(part), MERGE_LIMIT).await {
                    Ok(_) => {}
                    Err(error @ ProposeError::TooLarge { .. }) => {
                        tracing::error!(%error, "a change of the generation before is lost");
                    }
                    Err(error) => {
                        return tracing::warn!(%error, "changes not given over yet");
                    }
                }
            }
            for what in report.void() {
                tracing::warn!(what, "made on this side only; it is void");
            }
            for exapp in &report.overruled {
                tracing::warn!(exapp, "changed on both sides; the change of this node is lost");
            }
            tracing::info!(
                given = report.given,
                overruled = report.overruled.len(),
                generation = plan.group.generation,
                "back in the pair"
            );
            let at = (engine.clock)();
            let healed = Healed { at, left: plan.parent.group, report };
            if let Err(error) = healed::store(disk, dir, &healed) {
                tracing::warn!(%error, "how this node came back cannot be noted");
            }
            ground.bond.set_healed(healed);
        }
        if let Err(error) = plan_file::clear(disk, dir, plan.group) {
            tracing::warn!(%error, "the plan cannot be cleared");
        }
    }
}

/// Takes an order to the keeper and waits for its outcome.
pub(crate) async fn order(
    orders: &super::orders::Orders,
    consent: Consent,
    within: Duration,
) -> Result<crate::group::Group, PairError> {
    let (done, outcome) = tokio::sync::oneshot::channel();
    let asked = async {
        orders.send(Order { consent, done }).await.map_err(|_closed| PairError::Stopped)?;
        outcome.await.map_err(|_closed| PairError::Stopped)?
    };
    timeout(within, asked).await.unwrap_or(Err(PairError::Stopped))
}
