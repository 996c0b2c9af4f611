//! Keeps this node's certificate good and its trust current, without dropping a connection.
//!
//! A certificate lives thirty days and is renewed when ten are left, when the authority that
//! signs is another one, or when an operator asks. A load balancer has the key of the cluster and
//! signs for itself; a witness asks one. What the node knows and uses is announced, because a
//! change of the authority waits until everybody is ready.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::command::{Command, Reply};
use crate::engine::{Engine, Standing};
use crate::identity::{self, Identity, LEAF_LIFE, ends_at, link_files};
use crate::network::{Answer, Request};
use crate::record::{Announcement, Millis, NodeId, Papers as Announced, Role};
use crate::seal::Secret;
use crate::types::raft_id;

/// Between two looks when nothing changes.
const PAUSE: Duration = Duration::from_secs(60);

/// Before the next try after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Longest a member may take to sign.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// The certificates of the peer port, for status and alarms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCertificates {
    /// This node's certificate, PEM.
    pub certificate: String,
    /// When this node's certificate ends, seconds since the Unix epoch.
    pub ends_at: u64,
    /// Serial of the authority that issued it; none when that authority is not known any more.
    pub issued_by: Option<u32>,
    /// The authorities, from the oldest to the newest.
    pub authorities: Vec<LinkAuthority>,
    /// Members a change of the authority waits for.
    pub waiting_for: Vec<NodeId>,
}

/// An authority of the peer port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkAuthority {
    /// Counts the authorities of the cluster.
    pub serial: u32,
    /// Its certificate, PEM.
    pub certificate: String,
    /// When it ends, seconds since the Unix epoch.
    pub ends_at: u64,
    /// Whether it signs.
    pub signs: bool,
}

/// What an engine knows about its certificates.
#[derive(Default)]
pub(crate) struct Papers {
    own: Mutex<Option<Own>>,
    wanted: AtomicBool,
    wake: Notify,
}

/// This node's certificate.
#[derive(Clone, Debug)]
struct Own {
    /// With the authority behind it, PEM.
    pem: String,
    ends_at: u64,
    /// The authority that came with it.
    issuer: Option<CertificateDer<'static>>,
}

/// Whether a certificate that ends then has to be renewed.
fn is_due(now: Millis, ends_at: u64) -> bool {
    let left = ends_at.saturating_sub(now / 1000);
    left <= LEAF_LIFE.as_secs() / 3
}

fn read(pem: &[u8]) -> Option<Own> {
    let issuer = CertificateDer::pem_slice_iter(pem).nth(1)?.ok();
    Some(Own { pem: String::from_utf8(pem.to_vec()).ok()?, ends_at: ends_at(pem)?, issuer })
}

impl Engine {
    /// Renews, follows changes of the authority and announces what is new; until dropped. Without
    /// an identity (in a world without TLS) it only announces.
    pub(crate) async fn run_papers(self: Arc<Self>, identity: Option<Identity>) {
        let mut changes = self.view.changes();
        let mut seen = None;
        loop {
            let pause = match self.keep_papers(identity.as_ref()).await {
                Ok(()) => PAUSE,
                Err(error) => {
                    tracing::warn!(error, "the certificates of the peer port are not up to date");
                    RETRY
                }
            };
            let another = async {
                loop {
                    let now = self.view.read(|state| {
                        let authorities = state.authorities();
                        let newest = authorities.last().map(|newest| newest.serial);
                        let signer = state.signing_authority().map(|signer| signer.serial);
                        let known = (newest, signer, authorities.len());
                        (known, state.is_founded(), state.member(self.own.number).cloned())
                    });
                    if seen.replace(now.clone()).is_some_and(|before| before != now) {
                        return;
                    }
                    if changes.changed().await.is_err() {
                        return std::future::pending().await;
                    }
                }
            };
            tokio::select! {
                _ = timeout(pause, another) => {}
                () = self.papers.wake.notified() => {}
            }
        }
    }

    /// An operator wants a new certificate now.
    pub(crate) fn renew_soon(&self) {
        self.papers.wanted.store(true, Ordering::Relaxed);
        self.papers.wake.notify_one();
    }

    async fn keep_papers(&self, identity: Option<&Identity>) -> Result<(), String> {
        let mut announced = None;
        if let Some(identity) = identity {
            self.keep_trust(identity).await?;
            self.keep_certificate(identity).await?;
            announced = self.announced();
        }
        self.announce(announced).await
    }

    /// The authorities on disk are those of the state.
    async fn keep_trust(&self, identity: &Identity) -> Result<(), String> {
        let state = self.view.load();
        let wanted: String = state.authorities().iter().map(|it| it.certificate.as_str()).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let (disk, dir) = (self.disk.clone(), self.config.state_dir.clone());
        let (identity, number) = (identity.clone(), self.own.number);
        let work = self.disk.work(move || {
            let files = link_files(&dir);
            let known = disk.read(&files.ca, identity::MAX_PEM).map_err(|it| it.to_string())?;
            if known != wanted.as_bytes() {
                disk.store(&files.ca, wanted.as_bytes()).map_err(|it| it.to_string())?;
                identity.reload(&files, number).map_err(|it| it.to_string())?;
                tracing::info!("the authorities of the peer port have changed");
            }
            Ok(())
        });
        work.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// The certificate on disk is good for a while and of the authority that signs.
    async fn keep_certificate(&self, identity: &Identity) -> Result<(), String> {
        let (disk, dir) = (self.disk.clone(), self.config.state_dir.clone());
        let read_own = self.disk.work(move || {
            let path = link_files(&dir).certificate;
            disk.read(&path, identity::MAX_PEM).map_err(|error| error.to_string())
        });
        let pem = read_own.await.unwrap_or_else(|error| Err(error.to_string()))?;
        let own = read(&pem).ok_or("this node's certificate cannot be read")?;
        let (ends, issuer) = (own.ends_at, self.issuer_of(&own));
        *self.papers.own.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
        let Some(signer) = self.view.read(|state| state.signing_authority().cloned()) else {
            return Ok(());
        };
        let wanted = self.papers.wanted.load(Ordering::Relaxed);
        if !wanted && issuer == Some(signer.serial) && !is_due((self.clock)(), ends) {
            return Ok(());
        }
        let (key, request) = identity::request().map_err(|error| error.to_string())?;
        let certificate = match &self.kek {
            Some(_) => self.renew_for(self.own.number, &request)?,
            None => self.ask_to_sign(request).await?,
        };
        let own = read(certificate.as_bytes()).ok_or("the new certificate cannot be read")?;
        let (disk, dir) = (self.disk.clone(), self.config.state_dir.clone());
        let (identity, number) = (identity.clone(), self.own.number);
        let stored = self.disk.work(move || {
            let stored = identity::store_own(&disk, &dir, &certificate, &Secret::new(key));
            stored.map_err(|error| error.to_string())?;
            identity.reload(&link_files(&dir), number).map_err(|error| error.to_string())
        });
        stored.await.unwrap_or_else(|error| Err(error.to_string()))?;
        tracing::info!(ends_at = own.ends_at, "this node has a new certificate");
        *self.papers.own.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
        self.papers.wanted.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// A witness cannot sign; any load balancer can.
    async fn ask_to_sign(&self, request: Vec<u8>) -> Result<String, String> {
        let state = self.view.load();
        let mut last = "no load balancer is known".to_owned();
        for member in state.members().filter(|member| member.role == Role::Node) {
            let to = raft_id(member.id, member.incarnation);
            let asked = Request::Renew { request: request.clone() };
            match self.call(to, asked, ASK_LIMIT).await {
                Ok(Answer::Renewed(certificate)) => return Ok(certificate),
                Ok(other) => last = format!("node {}: unexpected answer {other:?}", member.id),
                Err(error) => last = format!("node {}: {error}", member.id),
            }
        }
        Err(last)
    }

    /// Serial of the authority that issued a certificate, if it is still one of the cluster's.
    fn issuer_of(&self, own: &Own) -> Option<u32> {
        let issuer = own.issuer.as_ref()?;
        let state = self.view.load();
        let known = state.authorities().iter().find(|authority| {
            CertificateDer::from_pem_slice(authority.certificate.as_bytes())
                .is_ok_and(|certificate| certificate == *issuer)
        });
        known.map(|authority| authority.serial)
    }

    fn announced(&self) -> Option<Announced> {
        let own = self.papers.own.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let trusts = self.view.read(|state| state.authorities().last().map(|it| it.serial))?;
        Some(Announced { trusts, issued_by: self.issuer_of(&own)? })
    }

    /// Tells the cluster what has changed about this node.
    async fn announce(&self, papers: Option<Announced>) -> Result<(), String> {
        let state = self.view.load();
        let Some(known) = state.member(self.own.number) else { return Ok(()) };
        let (name, address) = {
            let passport = self.passport.lock().await;
            (passport.node_name.clone(), passport.advertise)
        };
        let id = self.own.number;
        let papers = papers.or(known.papers);
        let said = Announcement { id, name, address, feature: self.config.feature, papers };
        let is_known = said.name == known.name
            && said.address == known.address
            && said.feature == known.feature
            && said.papers == known.papers;
        if is_known || matches!(self.standing(), Standing::Leaderless | Standing::Stopped) {
            return Ok(());
        }
        match self.propose(Command::Announce(said), ASK_LIMIT).await {
            Ok(Reply::Done | Reply::Nothing) => Ok(()),
            Ok(reply) => Err(format!("the cluster does not take what this node is: {reply:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The certificates of the peer port as they are now.
    pub(crate) fn certificates(&self) -> Option<LinkCertificates> {
        let own = self.papers.own.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let state = self.view.load();
        let signer = state.signing_authority().map(|signer| signer.serial);
        let authorities = state.authorities().iter().map(|authority| LinkAuthority {
            serial: authority.serial,
            certificate: authority.certificate.clone(),
            ends_at: ends_at(authority.certificate.as_bytes()).unwrap_or(0),
            signs: Some(authority.serial) == signer,
        });
        let authorities: Vec<_> = authorities.collect();
        let newest = authorities.last().map_or(0, |newest| newest.serial);
        let lags = |papers: Announced| match signer == Some(newest) {
            true => papers.issued_by < newest,
            false => papers.trusts < newest,
        };
        let waiting = state.members().filter(|member| member.papers.is_none_or(lags));
        let waiting_for = match authorities.len() {
            0 | 1 => Vec::new(),
            _ => waiting.map(|member| member.id).collect(),
        };
        let issued_by = self.issuer_of(&own);
        let (certificate, ends_at) = (own.pem, own.ends_at);
        Some(LinkCertificates { certificate, ends_at, issued_by, authorities, waiting_for })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::disk::Disk;
    use crate::founding::{Charter, Founding, found};
    use crate::identity::Authority;
    use crate::node::Node;
    use crate::seal::Kek;

    #[tokio::test]
    async fn a_load_balancer_that_was_off_until_its_certificate_ended_helps_itself() {
        let dir = tempfile::tempdir().unwrap();
        let founding =
            Founding { cluster_name: "old".into(), node_name: "n1".into(), advertise: None };
        let passport = found(dir.path(), &founding).unwrap();
        let charter = Charter::load(&Disk::Files, dir.path()).unwrap().unwrap();
        let kek = Kek::load(&Disk::Files, dir.path()).unwrap().unwrap();
        let key = kek.open(crate::founding::AUTHORITY_KEY, &charter.authority_key).unwrap();
        let key = std::str::from_utf8(key.expose()).unwrap();
        let cluster = passport.group.cluster.to_string();
        let authority = Authority::from_pem(&cluster, &charter.authority, key).unwrap();
        let (ended, key) = authority.issue_ended(1);
        let chain = format!("{ended}{}", authority.certificate_pem());
        identity::store_own(&Disk::Files, dir.path(), &chain, &Secret::new(key)).unwrap();

        let (node, handle) = Node::start(Config::new(dir.path())).await.unwrap();
        let good = async {
            let now = crate::clock::now() / 1000;
            while handle.certificates().is_none_or(|it| it.ends_at < now) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(30), good).await.expect("a certificate that has not ended");
        node.shutdown().await;
    }

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        const DAY: u64 = 86_400;
        let ends_at = 1_000 * DAY;
        let table = [(970, false), (989, false), (990, true), (999, true), (1001, true)];
        for (day, due) in table {
            assert_eq!(is_due(day * DAY * 1000, ends_at), due, "day {day}");
        }
    }
}
