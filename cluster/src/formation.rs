//! Who is a member: forming the cluster once, and following `cluster.members` afterwards.
//!
//! Forming: the lowest id does it, when all members are there and all of them are new. Later the
//! leader takes in and drops nodes so that the voters are those of its own configuration.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::engine::{Engine, Standing};
use crate::network::{Answer, Request};
use crate::record::NodeId;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// Between two comparisons of voters and configuration.
const FOLLOW_PAUSE: Duration = Duration::from_secs(2);

/// How often waiting is told.
const TELL_EVERY: u32 = 40;

/// Longest wait for one answer.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// Longest wait until a new node has caught up, or a change of voters is through.
const CHANGE_LIMIT: Duration = Duration::from_secs(60);

impl Engine {
    fn configured(&self) -> BTreeSet<NodeId> {
        if self.config.members.is_empty() {
            return BTreeSet::from([self.config.node_id]);
        }
        self.config.members.iter().map(|member| member.id).collect()
    }

    /// Forms or joins the cluster, then keeps the voters as configured; until dropped.
    pub(crate) async fn run_formation(self: Arc<Self>) {
        self.form().await;
        loop {
            sleep(FOLLOW_PAUSE).await;
            if self.standing() == Standing::Leads {
                self.follow_configuration().await;
            }
        }
    }

    /// Whether this node has an entry a leader wrote. Forming alone writes entry 0.
    pub(crate) fn is_established(&self) -> bool {
        self.metrics().last_log_index.is_some_and(|last| last > 0)
    }

    async fn form(&self) {
        let members = self.configured();
        let forms = members.first() == Some(&self.config.node_id);
        let mut rounds = 0;
        while !self.is_established() && self.standing() != Standing::Stopped {
            // Asking also tells the others that they may take part, again after they restarted.
            let look = self.look_around().await;
            let formed = self.raft.is_initialized().await.unwrap_or(true);
            if !formed && forms && look.established.is_empty() && look.silent.is_empty() {
                match self.raft.initialize(members.clone()).await {
                    Ok(()) => tracing::info!(members = ?members, "cluster formed"),
                    Err(error) => {
                        self.fatal.raise(format!("the cluster cannot be formed: {error}"));
                    }
                }
            } else if !formed && rounds % TELL_EVERY == 0 {
                self.tell(&look, forms);
            }
            rounds += 1;
            sleep(PAUSE).await;
        }
    }

    fn tell(&self, look: &Look, forms: bool) {
        if !look.established.is_empty() {
            tracing::warn!(
                established = ?look.established,
                "this node is empty but its peers already form a cluster; if it is new, it is \
                 taken in once the leader's cluster.members names it; if its directory was lost, \
                 give it a new id there"
            );
        } else if forms {
            tracing::info!(missing = ?look.silent, "waiting for every member to form the cluster");
        } else {
            tracing::info!("waiting for the lowest node id to form the cluster");
        }
    }

    async fn look_around(&self) -> Look {
        let mut look = Look::default();
        for id in self.peers.ids() {
            match self.is_established_at(id).await {
                Some(true) => look.established.push(id),
                Some(false) => {}
                None => look.silent.push(id),
            }
        }
        look
    }

    async fn is_established_at(&self, id: NodeId) -> Option<bool> {
        match self.peers.call(id, Request::Established, ASK_LIMIT).await {
            Ok(Answer::Established(established)) => Some(established),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(peer = id, error = &error as &dyn std::error::Error, "no answer");
                None
            }
        }
    }

    /// One careful step: only this task changes membership, and only when no other change is
    /// under way.
    async fn follow_configuration(&self) {
        let stored = Arc::clone(&self.metrics().membership_config);
        let membership = stored.membership();
        let wanted = self.configured();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        if membership.get_joint_config().len() == 1 && voters == wanted {
            return;
        }
        for id in wanted.difference(&voters).copied() {
            // Asking tells a new node that it may take part.
            let is_learner = membership.get_node(&id).is_some();
            if !is_learner && self.is_established_at(id).await != Some(false) {
                tracing::warn!(
                    peer = id,
                    "configured node is not taken in: unreachable or not empty"
                );
                return;
            }
            match timeout(CHANGE_LIMIT, self.raft.add_learner(id, (), true)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return tracing::warn!(peer = id, %error, "node not taken in"),
                Err(_) => return tracing::warn!(peer = id, "node does not catch up"),
            }
        }
        match timeout(CHANGE_LIMIT, self.raft.change_membership(wanted.clone(), false)).await {
            Ok(Ok(_)) => tracing::info!(voters = ?wanted, "voters changed as configured"),
            Ok(Err(error)) => tracing::warn!(%error, "voters not changed"),
            Err(_) => tracing::warn!("voters not changed in time"),
        }
    }
}

/// What the peers said.
#[derive(Default)]
struct Look {
    established: Vec<NodeId>,
    silent: Vec<NodeId>,
}
