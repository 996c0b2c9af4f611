//! Where an admin's questions about the cluster itself are answered and orders are carried out:
//! its members and who may join. A node and a witness have one each.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::clock::now;
use cluster::pair::Consent;
use cluster::record::{self, TokenId};
use cluster::{AdminError, Handle};

use super::certificates::{Action, Authority, Certificates, Order};
use super::cluster::{Cluster, Promoted, Promotion};
use super::events::{Event, Events};
use super::nodes::{Node, Nodes, Part, Removal, Removed};
use super::refusal::Refusal;
use super::tokens::{Created, NewToken, Revocation, Revoked, Token, Tokens};

/// Longest wait for the cluster to confirm an order; the asking command waits a little longer.
const WITHIN: Duration = Duration::from_secs(5);

/// The cluster as an admin may ask and change it.
#[derive(Clone)]
pub struct Membership {
    cluster: Handle,
    leaving: Arc<AtomicBool>,
}

impl Membership {
    /// The cluster behind this handle.
    pub fn new(cluster: Handle) -> Self {
        Self { cluster, leaving: Arc::default() }
    }

    /// Whether an admin has told this node to leave, so that its end is no failure.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// The replicated state as the bytes of a file, with the key of its secrets if asked for.
    pub(super) async fn backup(&self, with_key: bool) -> Result<Vec<u8>, Refusal> {
        let made = self.cluster.backup(with_key).await;
        made.map_err(|error| Refusal::Wrong(error.to_string()))
    }

    /// Every member, by number.
    pub fn nodes(&self) -> Nodes {
        let status = self.cluster.status();
        let votes = status.voters.iter().map(|member| (member, true));
        let learns = status.learners.iter().map(|member| (member, false));
        let seen: HashMap<_, _> =
            votes.chain(learns).map(|(member, votes)| (member.id, (member, votes))).collect();
        let at = now();
        let shown = self.cluster.members().into_iter().map(|member| {
            let record::Member { id, role, since, .. } = *member;
            let seen = seen.get(&id);
            Node {
                id,
                name: member.name.clone(),
                role,
                address: member.address.map(|address| address.to_string()),
                part: match seen {
                    _ if status.leader == Some(id) => Part::Leader,
                    Some((_, true)) => Part::Voter,
                    Some((_, false)) => Part::Learner,
                    None => Part::Joining,
                },
                this_node: id == status.node_id,
                reachable: seen.and_then(|(seen, _)| seen.reachable),
                lag: seen.and_then(|(seen, _)| seen.lag),
                since_seconds: at.saturating_sub(since) / 1000,
            }
        });
        Nodes(shown.collect())
    }

    /// The certificates of the control link; none before they were read.
    pub fn certificates(&self) -> Certificates {
        let link = self.cluster.certificates();
        link.map_or_else(|| Certificates(Vec::new()), |link| Certificates::of_link(link, now()))
    }

    /// What happened after the event with this number.
    pub fn events(&self, after: u64) -> Events {
        let shown = |(seq, event): (u64, &Arc<record::Event>)| Event {
            seq,
            at_ms: event.at,
            node: event.node,
            kind: event.kind.clone(),
            text: event.text.clone(),
            outage_ms: event.outage_ms,
        };
        Events(self.cluster.read(|state| state.events(after).map(shown).collect()))
    }

    /// How many sessions are remembered.
    pub fn sessions(&self) -> usize {
        self.cluster.read(cluster::State::session_count)
    }

    /// Changes those of the control link.
    pub(super) async fn change_certificates(&self, order: Order) -> Result<(), Refusal> {
        let wrong = |text: &str| Err(Refusal::Wrong(text.to_owned()));
        match (order.authority, order.action) {
            (Authority::Tunnels, _) => wrong("a witness has no tunnel port; ask a node"),
            (Authority::Cluster, Action::Renew) => {
                tracing::info!("an admin orders a new certificate of the control link");
                self.cluster.renew_certificate();
                Ok(())
            }
            (Authority::Cluster, Action::RotateCa) => {
                let serial = self.cluster.rotate_authority(WITHIN).await?;
                tracing::info!(serial, "an admin changes the authority of the control link");
                Ok(())
            }
            (Authority::Cluster, Action::DropOldCas) => wrong(
                "the authority of the control link that was replaced is dropped by itself, once \
                 every member has a certificate of the new one",
            ),
        }
    }

    /// How the cluster stands.
    pub fn cluster(&self) -> Cluster {
        self.cluster.status().into()
    }

    pub(super) async fn hand_over(&self) -> Result<(), Refusal> {
        Ok(self.cluster.hand_over().await?)
    }

    pub(super) async fn promote(&self, order: Promotion) -> Result<Promoted, Refusal> {
        let consent = if order.force { Consent::Force } else { Consent::Promote };
        tracing::warn!(force = order.force, "an admin orders this node to go on alone");
        let group = self.cluster.promote(consent).await?;
        Ok(Promoted { generation: group.generation })
    }

    /// The tokens that are still good.
    pub fn tokens(&self) -> Tokens {
        let at = now();
        let is_good = |token: &Arc<record::Token>| token.expires_at > at && token.uses_left > 0;
        let good = self.cluster.tokens().into_iter().filter(is_good);
        let shown = good.map(|token| Token {
            ends_in_seconds: token.expires_at.saturating_sub(at).div_ceil(1000),
            id: token.id.to_string(),
            role: token.role,
            uses_left: token.uses_left,
        });
        Tokens(shown.collect())
    }

    pub(super) async fn create(&self, new: NewToken) -> Result<Created, Refusal> {
        let NewToken { role, for_seconds, uses } = new;
        let own = self.cluster.members().into_iter().find(|m| m.id == self.cluster.node_id());
        // Not there yet: it is being founded, and making the token waits for that.
        if own.is_some_and(|own| own.address.is_none()) {
            let text = "no machine could join: this node has no cluster.listen, or no address to \
                        advertise; set it and restart the node";
            return Err(Refusal::Wrong(text.to_owned()));
        }
        let made =
            self.cluster.create_token(role, Duration::from_secs(for_seconds), uses, WITHIN).await?;
        let id = made.id().to_string();
        tracing::info!(token = id, for_seconds, uses, %role, "join token made");
        Ok(Created { token: made.expose(), id, role, ends_in_seconds: for_seconds, uses })
    }

    pub(super) async fn revoke(&self, revocation: &Revocation) -> Result<Revoked, Refusal> {
        let id: TokenId = revocation.id.parse().map_err(|error| {
            Refusal::Wrong(format!("token: found {:?}, {error}", revocation.id))
        })?;
        let found = self.cluster.revoke_token(id, WITHIN).await?;
        tracing::info!(token = revocation.id, found, "join token revoked");
        Ok(Revoked { found })
    }

    pub(super) async fn remove(&self, removal: Removal) -> Result<Removed, Refusal> {
        if removal.id == self.cluster.node_id() {
            let text = "this is the node that was asked; `trigon leave` on it is the way out";
            return Err(Refusal::Wrong(text.to_owned()));
        }
        let members = self.cluster.members();
        let known = members.into_iter().find(|member| member.id == removal.id);
        let had_key = known.is_some_and(|member| member.role == cluster::Role::Node);
        let found = match self.cluster.remove_node(removal.id, WITHIN).await {
            Ok(()) => true,
            Err(AdminError::Refused(record::Refusal::NotAMember)) => false,
            Err(error) => return Err(error.into()),
        };
        tracing::info!(node = removal.id, found, "member removed by an admin");
        Ok(Removed { found, had_key })
    }

    pub(super) async fn leave(&self) -> Result<(), Refusal> {
        if self.cluster.members().len() < 2 {
            let text = "there is no other member; to end this cluster stop the node and move its \
                        state directory away";
            return Err(Refusal::Wrong(text.to_owned()));
        }
        self.leaving.store(true, Ordering::Relaxed);
        let left = self.cluster.leave(WITHIN).await;
        if matches!(left, Err(AdminError::Refused(_) | AdminError::NoHeir(_))) {
            self.leaving.store(false, Ordering::Relaxed);
        }
        left?;
        tracing::info!("this node leaves the cluster, by order of an admin");
        Ok(())
    }
}
