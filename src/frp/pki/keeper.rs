//! Keeps the certificates of the FRP port fresh, and whoever uses them up to date: the server's
//! next handshake, the files below the state directory, the next container.
//!
//! Every node does so. Two that act at once make two successors of the same certificates, of which
//! the cluster keeps one; the other node then uses that.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster::record::{FrpPki, Millis};
use cluster::{Command, Handle, ProposeError, Reply, State};
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::issue::{self, Terms};
use super::plan::{self, Step};
use super::seal::Seal;
use super::{Pki, PkiError};

const PROPOSE_WITHIN: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How often it is looked whether something is due, and tried again what failed.
const LOOK_EVERY: Duration = Duration::from_secs(10 * 60);

/// Why certificates were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There are none yet.
    #[error("there are no FRP certificates yet")]
    None,
    /// So many authorities are trusted already.
    #[error(
        "{} authorities are trusted already; drop the old ones first",
        cluster::record::MAX_AUTHORITIES
    )]
    TooMany,
    /// The new ones could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Somebody else changed them meanwhile.
    #[error("the FRP certificates were changed at the same moment; look and try again")]
    Crossed,
    /// The cluster did not confirm it.
    #[error("the cluster did not confirm the change")]
    Unconfirmed(#[source] ProposeError),
}

/// What an operator wants changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// New server and client certificates.
    Renew,
    /// A new authority beside the ones there are.
    AddAuthority,
    /// Only the newest authority is trusted any more.
    DropOld,
}

/// Changes certificates. Cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    cluster: Handle,
    terms: Terms,
}

/// What runs on the certificates now: the next handshake's configuration, and what is handed out.
#[derive(Clone)]
pub struct InForce {
    /// For the server.
    pub server: watch::Receiver<Arc<ServerConfig>>,
    /// For everybody else.
    pub pki: watch::Receiver<Arc<Pki>>,
}

/// The running upkeep of one node.
pub struct Upkeep {
    keeper: Keeper,
    dir: PathBuf,
    require_client: bool,
    revision: u64,
    server: watch::Sender<Arc<ServerConfig>>,
    pki: watch::Sender<Arc<Pki>>,
}

impl Keeper {
    /// Prepares; `days` is the life of authorities and client certificates.
    ///
    /// # Errors
    /// [`PkiError::NoClusterKey`].
    pub fn new(cluster: Handle, days: u32) -> Result<Self, PkiError> {
        let seal = Seal::of(&cluster)?;
        Ok(Self { cluster, terms: Terms { seal, days } })
    }

    /// The certificates as they are replicated, if there are any yet.
    pub fn record(&self) -> Option<Arc<FrpPki>> {
        self.cluster.view().pki().cloned()
    }

    /// Waits for certificates, makes them if nobody has, writes them below `dir` and says what
    /// the server is to use. Waits as long as it takes to find a quorum, because no two nodes may
    /// present different ones.
    ///
    /// # Errors
    /// [`PkiError`]; not for a missing quorum.
    pub async fn begin(
        self,
        dir: PathBuf,
        inherited: Option<PathBuf>,
        require_client: bool,
    ) -> Result<(Upkeep, InForce), PkiError> {
        let record = self.ensure(inherited.as_deref()).await?;
        let pki = Pki::open(&record, &self.terms.seal)?;
        let server = pki.server_config(require_client)?;
        pki.write_files(&dir)?;
        let (server, used) = watch::channel(Arc::new(server));
        let (pki, shown) = watch::channel(Arc::new(pki));
        let revision = record.revision;
        let upkeep = Upkeep { keeper: self, dir, require_client, revision, server, pki };
        Ok((upkeep, InForce { server: used, pki: shown }))
    }

    /// The replicated certificates; the first node to ask makes them, or takes those of HaRP.
    pub(in crate::frp) async fn ensure(
        &self,
        inherited: Option<&std::path::Path>,
    ) -> Result<Arc<FrpPki>, PkiError> {
        let mut changes = self.cluster.changes();
        let mut fresh = None;
        loop {
            if let Some(record) = self.record() {
                return Ok(record);
            }
            let record = match &fresh {
                Some(record) => record,
                None => fresh.insert(match inherited {
                    Some(dir) => super::super::inherit::from_dir(dir, &self.terms.seal)?,
                    None => self.terms.first()?,
                }),
            };
            let command = Command::SetPki(FrpPki::clone(record));
            match self.cluster.propose(command, PROPOSE_WITHIN).await {
                // Ours or somebody else's: the view has it now.
                Ok(_) => {}
                Err(ProposeError::Stopped) => return Err(PkiError::Cluster(ProposeError::Stopped)),
                Err(error) => tracing::debug!(%error, "frp certificates wait for a quorum"),
            }
            if self.record().is_none() {
                // A closed channel only means the view cannot change: the timer still paces us.
                let _ = tokio::time::timeout(RETRY_AFTER, changes.changed()).await;
            }
        }
    }

    /// Carries out what an operator wants.
    ///
    /// # Errors
    /// [`ChangeError`]: nothing was changed, or that is not known yet.
    pub async fn change(&self, change: Change) -> Result<(), ChangeError> {
        let known = self.record().ok_or(ChangeError::None)?;
        let next = match change {
            Change::Renew => self.terms.renewed(&known)?,
            Change::AddAuthority if known.authorities.len() >= cluster::record::MAX_AUTHORITIES => {
                return Err(ChangeError::TooMany);
            }
            Change::AddAuthority => self.terms.rotated(&known)?,
            Change::DropOld => {
                let newest = known.newest().map(|newest| newest.own.pem.clone());
                issue::without(&known, |authority| Some(&authority.own.pem) == newest.as_ref())
            }
        };
        self.set(next).await?;
        tracing::info!(?change, "frp certificates changed by an admin");
        Ok(())
    }

    async fn set(&self, next: FrpPki) -> Result<(), ChangeError> {
        match self.cluster.propose(Command::SetPki(next), PROPOSE_WITHIN).await {
            Ok(Reply::Done) => Ok(()),
            Ok(_refused) => Err(ChangeError::Crossed),
            Err(error) => Err(ChangeError::Unconfirmed(error)),
        }
    }

    /// Does what is due at `now`, if anything is.
    async fn look(&self, now: Millis) -> Result<(), ChangeError> {
        let Some(known) = self.record() else { return Ok(()) };
        let Some(step) = plan::due(&known, now) else { return Ok(()) };
        let next = match step {
            Step::DropEnded => issue::without(&known, |authority| authority.own.until > now),
            Step::AddAuthority => self.terms.rotated(&known)?,
            Step::RenewServer => self.terms.server_renewed(&known)?,
        };
        self.set(next).await?;
        tracing::info!(name: "certificate_renewed", ?step, "frp certificates renewed");
        Ok(())
    }
}

impl Upkeep {
    /// Runs until `stop`. What goes wrong is logged and tried again later: the certificates in
    /// force stay.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.take_over() {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "new frp certificates are not usable, the old ones stay");
            }
            match self.keeper.look(cluster::clock::now()).await {
                Ok(()) | Err(ChangeError::Crossed) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "frp certificates are not renewed yet");
                }
            }
            let is_other =
                |state: &State| state.pki().filter(|pki| pki.revision != self.revision).map(|_| ());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
                changed = self.keeper.cluster.find(is_other) => if changed.is_none() { return },
            }
        }
    }

    /// Puts replicated certificates into force that are not yet.
    fn take_over(&mut self) -> Result<(), PkiError> {
        let Some(record) = self.keeper.record() else { return Ok(()) };
        if record.revision == self.revision {
            return Ok(());
        }
        // Looked at once: what does not work now works no better later.
        self.revision = record.revision;
        let pki = Pki::open(&record, &self.keeper.terms.seal)?;
        let server = pki.server_config(self.require_client)?;
        let written = pki.write_files(&self.dir);
        self.server.send_replace(Arc::new(server));
        self.pki.send_replace(Arc::new(pki));
        tracing::info!(authorities = record.authorities.len(), "new frp certificates in force");
        written
    }
}
