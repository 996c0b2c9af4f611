//! What an operator does to the cluster through any of its nodes: tokens, members, certificates.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::command::{AuthorityStep, Command, Reply};
use crate::engine::{Engine, Standing};
use crate::error::ProposeError;
use crate::founding::AUTHORITY_KEY;
use crate::group::Group;
use crate::handle::{Backend, Handle};
use crate::identity::{Authority, AuthorityError, key_hash};
use crate::papers::LinkCertificates;
use crate::record::{ClusterAuthority, MAX_USES, Member, NodeId, Refusal, Role, Token, TokenId};
use crate::token::{self, JoinToken};

/// Longest life of a token.
pub const MAX_TOKEN_LIFE: Duration = Duration::from_secs(7 * 86_400);

/// Why something was not done about the cluster.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The cluster did not confirm it.
    #[error(transparent)]
    Unconfirmed(#[from] ProposeError),
    /// The cluster refuses it.
    #[error("cluster: {}", text(*.0))]
    Refused(Refusal),
    /// A value that cannot be.
    #[error("{0}")]
    Value(String),
    /// It needs the key of the cluster.
    #[error("cluster: this node has no key of the cluster; ask a load balancer")]
    NoKey,
    /// Nobody could take over.
    #[error(
        "cluster: node {0} alone has all changes, and no other member has caught up; bring one \
         back first"
    )]
    NoHeir(NodeId),
    /// The authority is being changed already.
    #[error("cluster: the authority is being changed already; see its status")]
    Rotating,
    /// The authority or a certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// A refusal in words.
fn text(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::WrongToken => "there is no such token",
        Refusal::SpentToken => "the token is spent",
        Refusal::ExpiredToken => "the token has expired",
        Refusal::WrongRole => "the token is for another role",
        Refusal::NameTaken => "another member has that name",
        Refusal::AddressTaken => "another member has that address",
        Refusal::Full => "there are too many already",
        Refusal::NotAMember => "there is no such member",
        Refusal::LastNode => "it is the last load balancer; stop it instead",
    }
}

impl Handle {
    /// Every member, by number.
    pub fn members(&self) -> Vec<Arc<Member>> {
        self.read(|state| state.members().cloned().collect())
    }

    /// The raft group this node takes part in; none for a cluster in memory.
    pub fn group(&self) -> Option<Group> {
        self.engine().map(|engine| engine.own.group)
    }

    /// Every token, spent and expired ones for a day; none with its secret.
    pub fn tokens(&self) -> Vec<Arc<Token>> {
        self.read(|state| state.tokens().cloned().collect())
    }

    /// Makes a token that admits `uses` machines as `role` within `life`.
    ///
    /// # Errors
    /// A value is out of range, this node has no key, or the cluster did not confirm it.
    pub async fn create_token(
        &self,
        role: Role,
        life: Duration,
        uses: u16,
        within: Duration,
    ) -> Result<JoinToken, AdminError> {
        if uses == 0 || uses > MAX_USES {
            let text = format!("uses: found {uses}, expected 1 to {MAX_USES}");
            return Err(AdminError::Value(text));
        }
        if life < Duration::from_secs(1) || life > MAX_TOKEN_LIFE {
            return Err(AdminError::Value(format!("ttl: found {life:?}, expected 1s to 7 days")));
        }
        let engine = self.engine().ok_or(AdminError::NoKey)?;
        let authority = engine.authority_within(within).await?;
        let made = JoinToken::generate(key_hash(authority.certificate_pem())?);
        let since = (engine.clock)();
        let token = Token {
            id: made.id(),
            hash: token::hash(made.secret.expose()),
            role,
            by: self.node_id(),
            since,
            expires_at: since.saturating_add(crate::clock::millis(life)),
            uses_left: uses,
            admitted: Vec::new(),
        };
        self.decide(Command::CreateToken(token), within).await?;
        Ok(made)
    }

    /// Takes a token back; whether there was one.
    ///
    /// # Errors
    /// The cluster did not confirm it.
    pub async fn revoke_token(&self, id: TokenId, within: Duration) -> Result<bool, AdminError> {
        Ok(self.decide(Command::RevokeToken { id }, within).await? == Reply::Done)
    }

    /// Takes a member out of the cluster for ever. It is told so and stops. Whoever has its disk
    /// still has its certificate and, of a load balancer, the key of the cluster: after the loss of
    /// a machine to a stranger change the authority too.
    ///
    /// # Errors
    /// There is no such member, nobody could take over, or the cluster did not confirm it.
    pub async fn remove_node(&self, number: NodeId, within: Duration) -> Result<(), AdminError> {
        if let Some(engine) = self.engine()
            && engine.standing() == Standing::Leads
            && !engine.has_heir_besides(number)
        {
            return Err(AdminError::NoHeir(number));
        }
        self.decide(Command::RemoveMember { id: number }, within).await.map(|_| ())
    }

    /// Takes this node out of the cluster. It hands over what it leads and then stops by itself.
    ///
    /// # Errors
    /// As [`Handle::remove_node`].
    pub async fn leave(&self, within: Duration) -> Result<(), AdminError> {
        if let Some(engine) = self.engine() {
            engine.leaving.store(true, Ordering::Relaxed);
        }
        let left = self.remove_node(self.node_id(), within).await;
        if let (Err(_), Some(engine)) = (&left, self.engine()) {
            engine.leaving.store(false, Ordering::Relaxed);
        }
        left
    }

    /// The certificates of the peer port; none until they were read, and in memory.
    pub fn certificates(&self) -> Option<LinkCertificates> {
        self.engine()?.certificates()
    }

    /// Has this node get a new certificate now instead of when a third of its life is left.
    pub fn renew_certificate(&self) {
        if let Some(engine) = self.engine() {
            engine.renew_soon();
        }
    }

    /// Begins to change the authority of the peer port; the cluster carries it on by itself as
    /// every member learns of it. Tells the serial of the new one.
    ///
    /// # Errors
    /// This node has no key, a change is under way, or the cluster did not confirm it.
    pub async fn rotate_authority(&self, within: Duration) -> Result<u32, AdminError> {
        let engine = self.engine().ok_or(AdminError::NoKey)?;
        let kek = engine.kek.as_ref().ok_or(AdminError::NoKey)?;
        let newest = self.read(|state| state.authorities().last().map(|newest| newest.serial));
        let serial = newest.ok_or(ProposeError::NoQuorum)? + 1;
        let authority = Authority::generate(&engine.own.group.cluster.to_string())?;
        let added = ClusterAuthority {
            serial,
            certificate: authority.certificate_pem().to_owned(),
            key: kek.seal(AUTHORITY_KEY, authority.key_pem().as_bytes()),
        };
        match self.decide(Command::Authority(AuthorityStep::Add(added)), within).await? {
            Reply::Done => Ok(serial),
            _ => Err(AdminError::Rotating),
        }
    }

    async fn decide(&self, command: Command, within: Duration) -> Result<Reply, AdminError> {
        match self.propose(command, within).await? {
            Reply::Refused(refusal) => Err(AdminError::Refused(refusal)),
            reply => Ok(reply),
        }
    }

    fn engine(&self) -> Option<Arc<Engine>> {
        match &self.backend {
            Backend::Engine { slot, .. } => Some(slot.engine()),
            Backend::Memory { .. } => None,
        }
    }
}

impl Engine {
    /// The authority that signs; waits until the founding members are in.
    async fn authority_within(&self, within: Duration) -> Result<Authority, AdminError> {
        if self.kek.is_none() {
            return Err(AdminError::NoKey);
        }
        let mut changes = self.view.changes();
        let founded = async {
            while !self.view.load().is_founded() {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(within, founded).await;
        if !self.view.load().is_founded() {
            return Err(ProposeError::NoQuorum.into());
        }
        self.authority().ok_or(AdminError::NoKey)
    }
}
