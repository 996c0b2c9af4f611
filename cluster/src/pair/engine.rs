//! A pair as its engine knows it: who the other one is, what it is told, how a change waits for
//! the learner, and handing the voter's part over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::boot::Boot;
use super::healing::Claim;
use super::orders::PairError;
use super::semi_sync::{PATIENCE, Sync};
use super::standing::UNSEEN;
use super::word::Word;
use crate::config::Role;
use crate::engine::{Engine, Standing};
use crate::types::{Metrics, RaftId, raft_id};

/// Longest a hand-over may take, and the one of a node that stops.
const HAND_OVER: Duration = Duration::from_secs(5);
const HAND_OVER_AT_STOP: Duration = Duration::from_secs(2);

/// Pause before a node that stops tries again.
const RETRY: Duration = Duration::from_millis(50);

impl Engine {
    /// The other one, if this node is one of two load balancers alone.
    pub(crate) async fn other_of_pair(&self) -> Option<RaftId> {
        let state = self.view.load();
        if state.is_founded() {
            let members: Vec<_> = state.members().collect();
            let is_pair = members.len() == 2 && members.iter().all(|one| one.role == Role::Node);
            let other = members.iter().find(|member| member.id != self.own.number);
            return other.filter(|_| is_pair).map(|one| raft_id(one.id, one.incarnation));
        }
        let passport = self.passport.lock().await;
        let is_pair =
            passport.seeds.len() == 2 && passport.seeds.iter().all(|seed| seed.role == Role::Node);
        let other = passport.seeds.iter().find(|seed| seed.number != self.own.number);
        other.filter(|_| is_pair).map(|seed| raft_id(seed.number, 0))
    }

    /// Whether this node is the only voter of its group.
    pub(crate) fn votes_alone(&self, metrics: &Metrics) -> bool {
        metrics.membership_config.membership().voter_ids().eq([self.own.raft_id])
    }

    /// The learner, if this node leads alone and there is exactly one.
    fn learner(&self, metrics: &Metrics) -> Option<RaftId> {
        let mut learners = metrics.membership_config.membership().learner_ids();
        let learner = learners.next().filter(|_| self.votes_alone(metrics))?;
        learners.next().is_none().then_some(learner)
    }

    /// What this node says about its history.
    pub(crate) fn claim(&self) -> Claim {
        let (parent, changes, changed_at) = self.view.read(|state| state.history());
        Claim {
            group: self.own.group,
            parent,
            changes,
            changed_at,
            node: self.own.number,
            frozen: self.bond.is_settled() || !self.votes_alone(&self.metrics()),
        }
    }

    /// What this node tells the other one.
    pub(crate) fn word(&self) -> Word {
        let metrics = self.metrics();
        self.observe_learner(&metrics);
        let votes = self.votes_alone(&metrics);
        Word { claim: self.claim(), votes, sync: self.bond.sync() }
    }

    /// The start of a node that could lead alone.
    pub(crate) fn boot(&self) -> Boot {
        Boot::new(self.claim())
    }

    fn observe_learner(&self, metrics: &Metrics) {
        match self.learner(metrics) {
            Some(learner) => {
                let written = metrics.last_log_index.map_or(0, |last| last + 1);
                let lag = self.lag(metrics, learner).unwrap_or(written);
                self.bond.observe(written, written.saturating_sub(lag));
            }
            None => self.bond.give_up(),
        }
    }

    /// Waits until the learner of a sync pair has stored entry `index`, at most for a moment.
    pub(crate) async fn wait_for_learner(&self, index: u64, deadline: Instant) {
        if !self.bond.waits_for(index) {
            return;
        }
        let deadline = deadline.min(Instant::now() + PATIENCE);
        let mut changes = self.raft.metrics();
        loop {
            let metrics = changes.borrow_and_update().clone();
            self.observe_learner(&metrics);
            if !self.bond.waits_for(index) {
                return;
            }
            match timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => return self.bond.give_up(),
            }
        }
    }

    /// Makes the learner the voter and this node the learner, without a new generation.
    pub(crate) async fn hand_over(&self, within: Duration) -> Result<(), PairError> {
        self.other_of_pair().await.ok_or(PairError::NoPair)?;
        let metrics = self.metrics();
        let learner = self.learner(&metrics).filter(|_| self.standing() == Standing::Leads);
        let learner = learner.ok_or(PairError::NotVoter)?;
        if let Sync::Async { behind } = self.bond.sync() {
            return Err(PairError::NotReady(format!("it lacks {behind} entries or is away")));
        }
        let _guard = self.membership.lock().await;
        let change = async {
            let voters = BTreeSet::from([learner]);
            self.raft.change_membership(voters, true).await.map_err(|error| error.to_string())?;
            let mut metrics = self.raft.metrics();
            let led = metrics.wait_for(|metrics| metrics.current_leader == Some(learner)).await;
            led.map(|_| ()).map_err(|error| error.to_string())
        };
        let done = timeout(within, change).await;
        match done.unwrap_or_else(|_| Err("it did not take over in time".to_owned())) {
            Ok(()) => {
                tracing::info!("the other node is the voter of the pair now");
                Ok(())
            }
            Err(text) => Err(PairError::NotReady(text)),
        }
    }

    /// What an operator asks for.
    pub(crate) async fn hand_over_now(self: Arc<Self>) -> Result<(), PairError> {
        self.hand_over(HAND_OVER).await
    }

    /// A voter that stops leaves its part to a learner that is there. What stands in the way for a
    /// moment, such as entries the learner lacks or a lease that has yet to be renewed, is waited
    /// for.
    pub(crate) async fn hand_over_at_stop(&self) {
        let deadline = Instant::now() + HAND_OVER_AT_STOP;
        while self.metrics().state == ServerState::Leader {
            if self.bond.heard().is_none_or(|(ago, _)| ago >= UNSEEN) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.hand_over(left).await {
                Ok(()) | Err(PairError::NoPair) => return,
                Err(error) if left < RETRY => {
                    tracing::warn!(%error, "the voter stops and nothing was handed over");
                    return;
                }
                Err(_) => sleep(RETRY).await,
            }
        }
    }
}
