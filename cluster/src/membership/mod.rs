//! Who takes part in the raft group: the founder forms it, and afterwards the leader makes voters
//! and learners what the replicated members want.
//!
//! `plan` decides, this file carries it out one step at a time. Only one task of the whole cluster
//! changes membership (the leader's), and never while another change of it is under way.

mod follow;
mod plan;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use openraft::ChangeMembers;
use tokio::time::{Instant, sleep, timeout};

use crate::command::{Command, Reply};
use crate::engine::{Engine, Standing};
use crate::founding::{Charter, FOUNDER};
use crate::record::{ClusterAuthority, Founders, Member};
use crate::types::{Metrics, RaftId, number_of, raft_id};
pub(crate) use follow::Following;
use plan::{Current, Seat, Step, plan, step};

/// Between two looks of the leader.
const PAUSE: Duration = Duration::from_millis(250);

/// Between two looks while the cluster is being founded: somebody may be waiting.
const FOUNDING_PAUSE: Duration = Duration::from_millis(25);

/// Longest wait until a change is through.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// A member this close behind has caught up.
const CLOSE: u64 = 16;

/// A voter silent for so long may lose its vote to a learner.
const DEAD_AFTER: Duration = Duration::from_secs(600);

impl Engine {
    /// Forms the group if this is the founder, then keeps votes as they should be; until dropped.
    pub(crate) async fn run_membership(self: Arc<Self>) {
        let mut leading_since = None;
        loop {
            let founding = self.charter().is_some();
            sleep(if founding { FOUNDING_PAUSE } else { PAUSE }).await;
            if founding {
                self.form().await;
            }
            if self.standing() != Standing::Leads {
                leading_since = None;
                continue;
            }
            let since = *leading_since.get_or_insert_with(Instant::now);
            if let Some(charter) = self.charter() {
                self.bring_in(charter).await;
            }
            self.keep_votes(since).await;
            self.keep_rotating().await;
            self.keep_feature().await;
        }
    }

    fn charter(&self) -> Option<Charter> {
        self.charter.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The founder begins as the only voter.
    async fn form(&self) {
        let formed = self.raft.is_initialized().await.unwrap_or(true);
        if formed || self.own.number != FOUNDER {
            return;
        }
        match self.raft.initialize(BTreeSet::from([self.own.raft_id])).await {
            Ok(()) => tracing::info!("cluster formed"),
            Err(error) => self.fatal.raise(format!("the cluster cannot be formed: {error}")),
        }
    }

    /// Hands the founding members and the authority to the state; the file goes when they are in.
    async fn bring_in(&self, charter: Charter) {
        if !self.view.load().is_founded() {
            let since = (self.clock)();
            let members = charter.members.iter().map(|seed| Member {
                id: seed.number,
                name: seed.name.clone(),
                role: seed.role,
                address: seed.address,
                incarnation: 0,
                feature: crate::record::FEATURE,
                since,
                papers: None,
            });
            let authority = ClusterAuthority {
                serial: 1,
                certificate: charter.authority.clone(),
                key: charter.authority_key.clone(),
            };
            let founders = Founders { authority, members: members.collect() };
            match self.propose(Command::Found(founders), CHANGE_LIMIT).await {
                Ok(Reply::Done | Reply::Nothing) => {}
                Ok(reply) => return tracing::warn!(?reply, "founding members not taken"),
                Err(error) => return tracing::warn!(%error, "founding members not taken"),
            }
        }
        if !self.view.load().is_founded() {
            return;
        }
        let (disk, dir) = (self.disk.clone(), self.config.state_dir.clone());
        let removed = self.disk.work(move || Charter::remove(&disk, &dir)).await;
        match removed {
            Ok(Ok(())) => *self.charter.lock().unwrap_or_else(PoisonError::into_inner) = None,
            Ok(Err(error)) => tracing::warn!(%error, "the founding file cannot be removed"),
            Err(error) => tracing::warn!(%error, "the founding file cannot be removed"),
        }
    }

    /// One careful step, if one is due.
    async fn keep_votes(&self, leading_since: Instant) {
        let Ok(_guard) = self.membership.try_lock() else { return };
        let metrics = self.metrics();
        let seats = self.seats(&metrics, leading_since);
        if seats.is_empty() {
            return;
        }
        let membership = metrics.membership_config.membership();
        let current = Current {
            leader: self.own.raft_id,
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            joint: membership.get_joint_config().len() > 1,
        };
        let plan = plan(&seats, &current);
        let Some(step) = step(&seats, &current, &plan) else { return };
        tracing::info!(step = %step, "changing who takes part");
        let change = async {
            match step {
                Step::Learn(id) => {
                    let added = self.raft.add_learner(id, (), false).await;
                    added.map(|_| ()).map_err(|error| error.to_string())
                }
                Step::Vote(voters) => self.change(ChangeMembers::ReplaceAllVoters(voters)).await,
                Step::Forget(gone) => self.change(ChangeMembers::RemoveNodes(gone)).await,
            }
        };
        match timeout(CHANGE_LIMIT, change).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error, "who takes part was not changed"),
            Err(_) => tracing::warn!("who takes part was not changed in time"),
        }
    }

    async fn change(&self, change: ChangeMembers<RaftId, ()>) -> Result<(), String> {
        let changed = self.raft.change_membership(change, true).await;
        changed.map(|_| ()).map_err(|error| error.to_string())
    }

    fn seats(&self, metrics: &Metrics, leading_since: Instant) -> Vec<Seat> {
        let state = self.view.load();
        let seats = state.members().map(|member| {
            let id = raft_id(member.id, member.incarnation);
            let silence = self.peers.silent_for(member.id).unwrap_or(leading_since.elapsed());
            let close = self.lag(metrics, id).is_some_and(|lag| lag <= CLOSE);
            Seat {
                id,
                role: member.role,
                ready: member.id == self.own.number || (self.is_reachable(member.id) && close),
                dead: member.id != self.own.number && silence >= DEAD_AFTER,
            }
        });
        seats.collect()
    }

    /// Carries a change of the authority on.
    async fn keep_rotating(&self) {
        let Some(step) = self.view.load().next_authority_step() else { return };
        tracing::info!(step = ?step.serial(), "changing the authority of the peer port");
        if let Err(error) = self.propose(Command::Authority(step), CHANGE_LIMIT).await {
            tracing::warn!(%error, "the authority of the peer port was not changed");
        }
    }

    /// Whether the cluster could go on without that member: whoever leads alone must have somebody
    /// who has everything.
    pub(crate) fn has_heir_besides(&self, number: crate::record::NodeId) -> bool {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let votes_alone = membership.voter_ids().all(|id| number_of(id) == number);
        !votes_alone
            || self.view.load().members().any(|member| {
                let id = raft_id(member.id, member.incarnation);
                member.id != number
                    && self.is_reachable(member.id)
                    && self.lag(&metrics, id).is_some_and(|lag| lag <= CLOSE)
            })
    }
}
