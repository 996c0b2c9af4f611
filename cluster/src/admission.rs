//! Whether a machine that shows a token becomes a member. The state decides and spends the token
//! ([`State`](crate::State), [`Command::Admit`]); here stands what has to be right before it is
//! asked, and what the new member gets.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::time::timeout;

use crate::command::{Command, Reply};
use crate::engine::Engine;
use crate::founding::{AUTHORITY_KEY, check_node_name};
use crate::identity::Authority;
use crate::network::{JoinRequest, MAX_OTHERS, NotWelcome, Welcome};
use crate::passport::Seed;
use crate::record::{Applicant, Attempt, FEATURE, Millis, NodeId, Refusal, Role};
use crate::token;

/// Clocks further apart than this make sessions and certificates unreliable.
pub(crate) const MAX_SKEW: Millis = 5_000;

/// Releases further apart than this do not work together.
pub(crate) const MAX_STEP: u16 = 1;

/// How long a token another node has just made may take to be known here.
const FRESH_TOKEN: Duration = Duration::from_secs(1);

/// Longest the quorum may take.
const LIMIT: Duration = Duration::from_secs(5);

impl Engine {
    /// Lets a machine in or says why not.
    pub(crate) async fn decide(&self, request: JoinRequest) -> Result<Welcome, NotWelcome> {
        let now = (self.clock)();
        if let Some(former) = request.former {
            let state = self.view.load();
            if state.is_removed(former) {
                return Err(NotWelcome::Removed(former));
            }
            if state.member(former).is_some() {
                return Err(NotWelcome::StillMember(former));
            }
        }
        if now.abs_diff(request.now) > MAX_SKEW {
            return Err(NotWelcome::Clock { ours: now });
        }
        if request.feature.abs_diff(FEATURE) > MAX_STEP {
            return Err(NotWelcome::Version { ours: FEATURE });
        }
        let Some(kek) = &self.kek else { return Err(NotWelcome::AskAnother(self.others())) };
        let malformed = |text: String| NotWelcome::Malformed(text);
        check_node_name(&request.name).map_err(|error| malformed(error.to_string()))?;
        if !crate::config::is_reachable(request.address) {
            return Err(malformed(format!("{} cannot be reached", request.address)));
        }
        let authority = self.authority().ok_or(NotWelcome::NoQuorum)?;
        // Before the token is spent.
        authority
            .answer(self.own.number, &request.request)
            .map_err(|error| malformed(error.to_string()))?;

        let applicant = Applicant {
            token: request.token,
            hash: token::hash(&request.secret),
            attempt: attempt(&request.request),
            name: request.name,
            role: request.role,
            address: request.address,
            feature: request.feature,
            at: now,
        };
        // A stranger must not be able to make the log grow.
        self.wait_for_token(&applicant).await.map_err(NotWelcome::Refused)?;
        let number = match self.propose(Command::Admit(applicant), LIMIT).await {
            Ok(Reply::Admitted(number)) => number,
            Ok(Reply::Refused(refusal)) => return Err(NotWelcome::Refused(refusal)),
            Ok(_) | Err(_) => return Err(NotWelcome::NoQuorum),
        };
        tracing::info!(node = number, role = %request.role, "a node joins");
        let certificate = authority
            .answer(number, &request.request)
            .map_err(|error| malformed(error.to_string()))?;
        let state = self.view.load();
        let passport = self.passport.lock().await;
        Ok(Welcome {
            group: self.own.group,
            cluster_name: passport.cluster_name.clone(),
            number,
            certificate: format!("{certificate}{}", authority.certificate_pem()),
            authorities: state.authorities().iter().map(|it| it.certificate.as_str()).collect(),
            members: state.members().map(|member| Seed::from(&**member)).collect(),
            kek: (request.role == Role::Node).then(|| kek.expose().to_vec()),
        })
    }

    async fn wait_for_token(&self, applicant: &Applicant) -> Result<(), Refusal> {
        let mut changes = self.view.changes();
        let known = async {
            while self.view.load().judge(applicant) == Err(Refusal::WrongToken) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(FRESH_TOKEN, known).await;
        self.view.load().judge(applicant)
    }

    /// The authority that signs now; only a node with the key of the cluster can use it.
    pub(crate) fn authority(&self) -> Option<Authority> {
        let state = self.view.load();
        let signer = state.signing_authority()?;
        let key = self.kek.as_ref()?.open(AUTHORITY_KEY, &signer.key)?;
        let key = std::str::from_utf8(key.expose()).ok()?;
        let cluster = self.own.group.cluster.to_string();
        match Authority::from_pem(&cluster, &signer.certificate, key) {
            Ok(authority) => Some(authority),
            Err(error) => {
                tracing::error!(%error, "the authority of the cluster cannot be used");
                None
            }
        }
    }

    /// A new certificate for a member that cannot make one itself.
    pub(crate) fn renew_for(&self, number: NodeId, request: &[u8]) -> Result<String, String> {
        let authority = self.authority().ok_or("this node cannot sign")?;
        let certificate = authority.answer(number, request).map_err(|error| error.to_string())?;
        Ok(format!("{certificate}{}", authority.certificate_pem()))
    }

    /// Where load balancers can be asked instead.
    fn others(&self) -> Vec<std::net::SocketAddr> {
        let state = self.view.load();
        let others = state
            .members()
            .filter(|member| member.role == Role::Node && member.id != self.own.number);
        others.filter_map(|member| member.address).take(MAX_OTHERS).collect()
    }
}

/// Names the attempt that made this request.
fn attempt(request: &[u8]) -> Attempt {
    let mut half = [0; 16];
    half.copy_from_slice(&digest(&SHA256, request).as_ref()[..16]);
    Attempt(half)
}
