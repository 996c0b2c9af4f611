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
use crate::state::State;
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
        let level = self.view.read(State::feature);
        if request.feature.abs_diff(FEATURE) > MAX_STEP || request.feature < level {
            return Err(NotWelcome::Version { ours: level.max(FEATURE) });
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::founding::{Founding, found};
    use crate::handle::{Backend, Handle};
    use crate::identity;
    use crate::node::Node;

    fn engine(handle: &Handle) -> Arc<Engine> {
        match &handle.backend {
            Backend::Engine { slot, .. } => slot.engine(),
            Backend::Memory { .. } => unreachable!("a node was started"),
        }
    }

    #[tokio::test]
    async fn a_request_that_cannot_be_granted_is_answered_and_spends_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let founding =
            Founding { cluster_name: "alpha".into(), node_name: "n1".into(), advertise: None };
        found(dir.path(), &founding).unwrap();
        let (node, handle) = Node::start(Config::new(dir.path())).await.unwrap();
        let life = Duration::from_secs(60);
        let token = handle.create_token(Role::Node, life, 1, LIMIT).await.unwrap();
        let (_, request) = identity::request().unwrap();
        let good = || JoinRequest {
            token: token.id,
            secret: token.secret.expose().to_vec(),
            request: request.clone(),
            name: "n2".into(),
            role: Role::Node,
            address: "192.0.2.2:7443".parse().unwrap(),
            feature: FEATURE,
            now: crate::clock::now(),
            former: None,
        };
        let engine = engine(&handle);
        type Edit = fn(&mut JoinRequest);
        type Expected = fn(&NotWelcome) -> bool;
        let table: [(&str, Edit, Expected); 9] = [
            ("fast clock", |it| it.now += 6_000, |it| matches!(it, NotWelcome::Clock { .. })),
            ("slow clock", |it| it.now -= 6_000, |it| matches!(it, NotWelcome::Clock { .. })),
            (
                "newer release",
                |it| it.feature = FEATURE + 2,
                |it| *it == NotWelcome::Version { ours: FEATURE },
            ),
            ("a member", |it| it.former = Some(1), |it| *it == NotWelcome::StillMember(1)),
            ("no name", |it| it.name.clear(), |it| matches!(it, NotWelcome::Malformed(_))),
            (
                "no address",
                |it| it.address = "0.0.0.0:1".parse().unwrap(),
                |it| matches!(it, NotWelcome::Malformed(_)),
            ),
            ("no request", |it| it.request.clear(), |it| matches!(it, NotWelcome::Malformed(_))),
            (
                "a request not signed by its key",
                |it| *it.request.last_mut().unwrap() ^= 1,
                |it| matches!(it, NotWelcome::Malformed(_)),
            ),
            (
                "another secret",
                |it| it.secret[0] ^= 1,
                |it| *it == NotWelcome::Refused(Refusal::WrongToken),
            ),
        ];
        // What a node alone puts into its log by itself is there.
        let mut changes = handle.changes();
        while handle.read(State::session_epoch).number == 0 {
            changes.changed().await.unwrap();
        }
        let before = handle.status().last_log;
        for (name, edit, expected) in table {
            let mut request = good();
            edit(&mut request);
            let refused = engine.decide(request).await.unwrap_err();
            assert!(expected(&refused), "{name}: {refused:?}");
        }
        assert_eq!(handle.status().last_log, before, "strangers do not make the log grow");
        let welcome = engine.decide(good()).await.unwrap();
        assert_eq!(welcome.number, 2);
        assert_eq!(welcome.kek.as_deref(), Some(handle.kek().unwrap().expose()));
        assert!(!format!("{welcome:?} {:?}", good()).contains("secret"));
        drop(engine);
        node.shutdown().await;
    }
}
