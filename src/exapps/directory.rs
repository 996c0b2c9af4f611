//! ExApp records: from the cluster view; else fetched from Nextcloud, once however many ask.
//!
//! A push from Nextcloud always wins over a fetch that was under way: fetches are keyed and
//! committed by the record's revision, which every push and delete raises on all nodes
//! (weakness W16). Without a quorum nothing is refused: what was pushed is kept here and proposed
//! again until it is recorded, or a later push makes it moot.

mod lifetimes;
mod listing;
mod unsynced;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use cluster::record::{ExApp, SealedExApp, Tenant};
use cluster::{Command, Handle, Reply};
use moka::future::Cache;

use crate::access::{AppId, KnownApp};
use crate::nextcloud;

use lifetimes::{FetchKey, Lifetimes};
pub use listing::Listed;
use unsynced::Unsynced;

/// Longest wait for the cluster to confirm a record. Only AppAPI waits, and whoever tries again in
/// the background.
const CONFIRM: Duration = Duration::from_secs(5);
/// How far the view may be behind the cluster before its records are checked with Nextcloud.
const MAX_BEHIND: Duration = Duration::from_secs(2);
/// Most answers of Nextcloud remembered outside the cluster view.
const MAX_FETCHED: u64 = 10_000;

/// How long answers hold.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long "no such ExApp" is remembered, and how soon a record that AppAPI's headers
    /// contradict is fetched again.
    pub negative_lifetime: Duration,
    /// After this a record in use is fetched again in the background; it is served meanwhile.
    pub refresh: Duration,
    /// Pause before a change without quorum is proposed again.
    pub retry: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            negative_lifetime: Duration::from_secs(15),
            refresh: Duration::from_secs(60),
            retry: Duration::from_secs(5),
        }
    }
}

/// Whether a change is recorded on the cluster or only here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// On every node, now or as soon as it can be reached.
    Cluster,
    /// There is no quorum: on this node only, and proposed again until recorded.
    Here,
}

/// What AppAPI's headers say about an ExApp.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'h> {
    /// `ex-app-version`
    pub version: &'h str,
    /// `ex-app-host`
    pub host: &'h str,
    /// `ex-app-port`
    pub port: &'h str,
}

impl Claim<'_> {
    fn agrees(&self, record: &ExApp) -> bool {
        record.version == self.version
            && record.host == self.host
            && self.port.parse() == Ok(record.port)
    }
}

impl fmt::Display for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}:{}", self.version, self.host, self.port)
    }
}

/// Why there is no record although there may be an ExApp.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Nextcloud could not be asked. Shared by all who waited for the same answer.
    #[error("exapps: Nextcloud could not be asked")]
    Nextcloud(#[source] Arc<nextcloud::Error>),
    /// Nextcloud has taken the record back, as it does when an ExApp is disabled. It would still
    /// describe the ExApp if it were asked, so it is not, until it pushes or calls again
    /// (weakness W16).
    #[error("exapps: Nextcloud has taken the record back")]
    Withdrawn,
}

/// Cheap to clone; all clones are one directory.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    tenant: Tenant,
    cluster: Handle,
    nextcloud: nextcloud::Client,
    /// Records of the view with their routes compiled. Replaced as a whole, which is rare.
    compiled: ArcSwap<HashMap<String, Arc<Compiled>>>,
    fetched: Cache<FetchKey, Option<KnownApp>>,
    /// Claims of AppAPI that contradicted a record and have been looked into.
    rechecked: Cache<(AppId, u64, String), ()>,
    /// Changes the cluster has not confirmed. Empty but for times without quorum.
    unsynced: ArcSwap<HashMap<String, Unsynced>>,
    /// One writer at a time for `compiled` and `unsynced`.
    write: Mutex<()>,
    started: Instant,
}

/// A record as it is used and as it is shared.
#[derive(Clone)]
struct Held {
    known: KnownApp,
    stored: Arc<SealedExApp>,
}

/// A record of the view, opened and compiled once: a request finds it ready.
struct Compiled {
    held: Held,
    /// Milliseconds after `started` when Nextcloud was last asked about it.
    checked: AtomicU64,
}

/// What the local memory says about an id.
enum Found {
    Known(KnownApp, Stale),
    Deleted,
    Uncompiled(Arc<SealedExApp>, u64),
    Unknown(u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stale {
    No,
    Yes,
}

impl Directory {
    /// A directory over the cluster's records of one tenant and its Nextcloud.
    pub fn new(
        config: Config,
        tenant: Tenant,
        cluster: Handle,
        nextcloud: nextcloud::Client,
    ) -> Self {
        let lifetimes = Lifetimes { absent: config.negative_lifetime, present: config.refresh };
        let fetched = Cache::builder().max_capacity(MAX_FETCHED).expire_after(lifetimes).build();
        let rechecked = Cache::builder()
            .max_capacity(MAX_FETCHED)
            .time_to_live(config.negative_lifetime)
            .build();
        let inner = Inner {
            config,
            tenant,
            cluster,
            nextcloud,
            compiled: ArcSwap::default(),
            fetched,
            rechecked,
            unsynced: ArcSwap::default(),
            write: Mutex::default(),
            started: Instant::now(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The ExApp, or `None` when Nextcloud knows none.
    ///
    /// # Errors
    /// There is no record here, and Nextcloud could not be asked or has taken it back.
    pub async fn find(&self, id: &AppId) -> Result<Option<KnownApp>, Error> {
        match self.inner.look(id) {
            Found::Known(known, Stale::No) => Ok(Some(known)),
            Found::Known(known, Stale::Yes) => {
                self.refresh(id.clone(), Arc::clone(&known.record));
                Ok(Some(known))
            }
            Found::Uncompiled(stored, revision) => match self.inner.compile(stored) {
                Some(known) => Ok(Some(known)),
                None => Box::pin(self.fetch(id, revision)).await,
            },
            Found::Deleted => Err(Error::Withdrawn),
            // Boxed: a request that need not ask is not to carry this along.
            Found::Unknown(revision) => Box::pin(self.fetch(id, revision)).await,
        }
    }

    /// Like [`find`](Self::find), for requests AppAPI has signed: what it `says` about the ExApp
    /// is newer than any memory. A record that contradicts it or was taken back, and a remembered
    /// absence, are fetched again first; for one and the same claim at most once per negative lifetime.
    ///
    /// # Errors
    /// As [`find`](Self::find); a record that merely contradicts is returned rather than an error.
    pub async fn find_signed(
        &self,
        id: &AppId,
        says: Claim<'_>,
    ) -> Result<Option<KnownApp>, Error> {
        let known = match self.find(id).await {
            Ok(Some(known)) if says.agrees(&known.record) => return Ok(Some(known)),
            Ok(other) => other,
            Err(Error::Withdrawn) => None,
            Err(error) => return Err(error),
        };
        let revision = self.inner.revision(id.as_str());
        let claim = (id.clone(), revision, says.to_string());
        if self.inner.rechecked.contains_key(&claim) {
            return Ok(known);
        }
        self.inner.rechecked.insert(claim, ()).await;
        self.inner.fetched.invalidate(&(id.clone(), revision)).await;
        match (self.fetch(id, revision).await, known) {
            (Ok(Some(fetched)), _) => Ok(Some(fetched)),
            (Ok(None) | Err(_), Some(known)) => Ok(Some(known)),
            (absent, None) => absent,
        }
    }

    /// Takes a record Nextcloud pushed. It is in force on return, whatever the cluster said.
    pub async fn push(&self, record: ExApp) -> Recorded {
        let id = record.id.clone();
        let (held, record) = self.inner.hold(record);
        let tenant = self.inner.tenant.clone();
        self.change(id, Some(held), Command::PushExApp { tenant, record }).await.0
    }

    /// Removes a record; also says whether there was one.
    pub async fn delete(&self, id: &AppId) -> (Recorded, bool) {
        let had = matches!(self.inner.look(id), Found::Known(..) | Found::Uncompiled(..));
        let id = id.as_str().to_owned();
        let delete = Command::DeleteExApp { tenant: self.inner.tenant.clone(), id: id.clone() };
        let (recorded, reply) = self.change(id, None, delete).await;
        (recorded, reply.map_or(had, |reply| reply == Reply::Done))
    }

    async fn change(
        &self,
        id: String,
        held: Option<Held>,
        command: Command,
    ) -> (Recorded, Option<Reply>) {
        let revision = self.inner.revision(&id);
        match self.inner.cluster.propose(command.clone(), CONFIRM).await {
            Ok(reply) => (Recorded::Cluster, Some(reply)),
            Err(error) => {
                tracing::warn!(app_id = id, %error, "record kept on this node only");
                self.inner.keep_here(id, Unsynced { held, revision }, command);
                (Recorded::Here, None)
            }
        }
    }

    /// Asks Nextcloud, together with everyone who wants to know the same.
    async fn fetch(&self, id: &AppId, revision: u64) -> Result<Option<KnownApp>, Error> {
        let inner = Arc::clone(&self.inner);
        let key = (id.clone(), revision);
        let asked = id.clone();
        let ask = async move { inner.ask(&asked, revision).await };
        self.inner.fetched.try_get_with(key, ask).await.map_err(Error::Nextcloud)
    }

    fn refresh(&self, id: AppId, held: Arc<ExApp>) {
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let revision = inner.revision(id.as_str());
            match inner.nextcloud.exapp_meta(id.as_str()).await {
                Ok(Some(record)) if record != *held => inner.correct(record, revision).await,
                Ok(Some(_)) => {}
                // A 401 cannot tell "unregistered" from "wrong key", so it takes nothing away. It
                // comes at most once per refresh and ExApp, so it may be told.
                Ok(None) => {
                    tracing::warn!(app_id = %id, "Nextcloud no longer vouches for a record")
                }
                Err(error) => {
                    let error: &(dyn StdError + 'static) = &error;
                    tracing::debug!(app_id = %id, error, "record not refreshed");
                }
            }
        });
    }
}

impl Inner {
    /// One read of the view, no await, no lock.
    fn look(&self, id: &AppId) -> Found {
        let (tenant, id) = (&self.tenant, id.as_str());
        let compiled = self.compiled.load();
        let unsynced = self.unsynced.load();
        self.cluster.read(|state| {
            if !unsynced.is_empty()
                && let Some(change) = unsynced.get(id)
                && change.revision == state.exapp_revision(tenant, id)
            {
                return match &change.held {
                    Some(held) => Found::Known(held.known.clone(), Stale::No),
                    None => Found::Deleted,
                };
            }
            let Some(record) = state.exapp(tenant, id) else {
                return if state.exapp_is_deleted(tenant, id) {
                    Found::Deleted
                } else {
                    Found::Unknown(state.exapp_revision(tenant, id))
                };
            };
            match compiled.get(id) {
                Some(entry) if Arc::ptr_eq(&entry.held.stored, record) => {
                    Found::Known(entry.held.known.clone(), self.claim_refresh(entry))
                }
                _ => Found::Uncompiled(Arc::clone(record), state.exapp_revision(tenant, id)),
            }
        })
    }

    /// Whether the record has not been checked for too long; says yes to one caller only. Cut off
    /// from the cluster, a node hears of no push: then that is soon (facts in the view may be
    /// `MAX_BEHIND` old).
    fn claim_refresh(&self, entry: &Compiled) -> Stale {
        let now = self.uptime();
        let checked = entry.checked.load(Ordering::Relaxed);
        let age = Duration::from_millis(now.saturating_sub(checked));
        let due = age >= self.config.refresh
            || (age >= MAX_BEHIND && self.cluster.behind() >= MAX_BEHIND);
        let claimed = due
            && entry
                .checked
                .compare_exchange(checked, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if claimed { Stale::Yes } else { Stale::No }
    }

    /// Opens and compiles a record of the view, once however many requests found it new. None when
    /// its token is sealed with another key than this node has: then Nextcloud has to be asked.
    fn compile(&self, stored: Arc<SealedExApp>) -> Option<KnownApp> {
        let _one_writer = self.write.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = self.compiled.load().get(&stored.id)
            && Arc::ptr_eq(&entry.held.stored, &stored)
        {
            return Some(entry.held.known.clone());
        }
        let record = self.cluster.open_exapp(&self.tenant, &stored)?;
        let known = KnownApp::new(Arc::new(record));
        let checked = AtomicU64::new(self.uptime());
        let held = Held { known: known.clone(), stored };
        let entry = Arc::new(Compiled { held, checked });
        let mut table = HashMap::clone(&self.compiled.load());
        self.cluster.read(|state| table.retain(|id, _| state.exapp(&self.tenant, id).is_some()));
        table.insert(known.record.id.clone(), entry);
        self.compiled.store(Arc::new(table));
        Some(known)
    }

    /// A record from Nextcloud, to use and to share.
    fn hold(&self, record: ExApp) -> (Held, SealedExApp) {
        let sealed = self.cluster.seal_exapp(&self.tenant, &record);
        let known = KnownApp::new(Arc::new(record));
        (Held { known, stored: Arc::new(sealed.clone()) }, sealed)
    }

    async fn ask(
        self: Arc<Self>,
        id: &AppId,
        revision: u64,
    ) -> Result<Option<KnownApp>, nextcloud::Error> {
        let Some(record) = self.nextcloud.exapp_meta(id.as_str()).await? else {
            return Ok(None);
        };
        let (held, record) = self.hold(record);
        self.cache(record, revision);
        Ok(Some(held.known))
    }

    /// Hands a fetched record to the cluster without making the visitor wait for it.
    fn cache(self: &Arc<Self>, record: SealedExApp, revision: u64) {
        let (tenant, cluster) = (self.tenant.clone(), self.cluster.clone());
        tokio::spawn(async move {
            let id = record.id.clone();
            let command = Command::CacheExApp { tenant, record, revision };
            if let Err(error) = cluster.propose(command, CONFIRM).await {
                tracing::debug!(app_id = id, %error, "fetched record not shared");
            }
        });
    }

    fn revision(&self, id: &str) -> u64 {
        self.cluster.read(|state| state.exapp_revision(&self.tenant, id))
    }

    fn uptime(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use cluster::record::{AccessLevel, Route};

    use super::*;
    use crate::nextcloud::testing::{KEY, Nextcloud};
    use crate::secret::Secret;

    const SOON: Duration = Duration::from_millis(10);
    const LONG: Duration = Duration::from_secs(10);

    async fn start(config: Config) -> (Directory, Arc<Nextcloud>, Handle) {
        let (nextcloud, url) = Nextcloud::start().await;
        nextcloud.register("demo", "127.0.0.1", 23001, &[(".*", 0)]);
        let cluster = Handle::in_memory(1);
        let client = nextcloud::Client::new(nextcloud::Config::new(url, Secret::new(KEY))).unwrap();
        let directory = Directory::new(config, Tenant::default(), cluster.clone(), client);
        (directory, nextcloud, cluster)
    }

    fn demo() -> AppId {
        AppId::from_display("demo")
    }

    fn record(version: &str) -> ExApp {
        ExApp {
            id: "demo".to_owned(),
            token: "secret".to_owned(),
            version: version.to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 23001,
            routes: vec![Route {
                url: ".*".to_owned(),
                access_level: AccessLevel::Public,
                bruteforce_protection: vec![401],
            }],
        }
    }

    fn pushed(cluster: &Handle, version: &str) -> Command {
        let record = cluster.seal_exapp(&Tenant::default(), &record(version));
        Command::PushExApp { tenant: Tenant::default(), record }
    }

    /// The version, or nothing where the record was taken back.
    async fn current(directory: &Directory) -> Option<String> {
        directory.find(&demo()).await.ok()?.map(|known| known.record.version.clone())
    }

    async fn version(directory: &Directory) -> Option<String> {
        directory.find(&demo()).await.unwrap().map(|known| known.record.version.clone())
    }

    /// Polls until the directory says `expected`.
    async fn becomes(directory: &Directory, expected: Option<&str>) {
        let settled = async {
            while current(directory).await.as_deref() != expected {
                tokio::time::sleep(SOON).await;
            }
        };
        tokio::time::timeout(LONG, settled).await.unwrap();
    }

    #[tokio::test]
    async fn w16_a_push_wins_over_the_fetch_it_overtakes() {
        let (directory, _nextcloud, cluster) = start(Config::default()).await;
        let fetching = tokio::spawn({
            let directory = directory.clone();
            async move { version(&directory).await }
        });
        // The stand-in takes 20 ms for its answer.
        tokio::time::sleep(SOON).await;
        assert_eq!(directory.push(record("pushed")).await, Recorded::Cluster);
        fetching.await.unwrap();
        tokio::time::sleep(SOON * 3).await;
        assert_eq!(version(&directory).await.as_deref(), Some("pushed"));
        assert_eq!(cluster.view().exapp(&Tenant::default(), "demo").unwrap().version, "pushed");
    }

    #[tokio::test]
    async fn w16_a_record_in_use_follows_nextcloud() {
        let (directory, nextcloud, _cluster) =
            start(Config { refresh: Duration::ZERO, ..Config::default() }).await;
        becomes(&directory, Some("1.2.3")).await;
        nextcloud.apps.lock().unwrap().get_mut("demo").unwrap()["exapp_version"] = "2.0".into();
        becomes(&directory, Some("2.0")).await;
        // Gone from Nextcloud is no proof: it says the same to a wrong key.
        nextcloud.apps.lock().unwrap().clear();
        version(&directory).await;
        tokio::time::sleep(SOON * 5).await;
        assert_eq!(version(&directory).await.as_deref(), Some("2.0"));
    }

    #[tokio::test]
    async fn a_push_ends_a_remembered_absence() {
        let (directory, nextcloud, _cluster) = start(Config::default()).await;
        nextcloud.apps.lock().unwrap().clear();
        assert_eq!(version(&directory).await, None);
        directory.push(record("1")).await;
        assert_eq!(version(&directory).await.as_deref(), Some("1"));
        assert_eq!(directory.delete(&demo()).await, (Recorded::Cluster, true));
        assert!(matches!(directory.find(&demo()).await, Err(Error::Withdrawn)));
        assert_eq!(directory.delete(&demo()).await, (Recorded::Cluster, false));
    }

    const SAYS: Claim<'_> = Claim { version: "1.2.3", host: "127.0.0.1", port: "23001" };

    #[tokio::test]
    async fn w16_a_disabled_exapp_stays_away_until_nextcloud_calls_it_again() {
        let (directory, _nextcloud, _cluster) = start(Config::default()).await;
        directory.push(record("1")).await;
        assert_eq!(directory.delete(&demo()).await, (Recorded::Cluster, true));
        // Nextcloud describes disabled ExApps as if they were not.
        assert!(matches!(directory.find(&demo()).await, Err(Error::Withdrawn)));
        let called = directory.find_signed(&demo(), SAYS).await.unwrap();
        assert_eq!(called.unwrap().record.version, "1.2.3");
        becomes(&directory, Some("1.2.3")).await;
    }

    #[tokio::test]
    async fn w16_a_newer_version_in_a_signed_call_refreshes_the_record() {
        let (directory, nextcloud, _cluster) = start(Config::default()).await;
        becomes(&directory, Some("1.2.3")).await;
        nextcloud.apps.lock().unwrap().get_mut("demo").unwrap()["exapp_version"] = "2.0".into();
        let says = Claim { version: "2.0", ..SAYS };
        let called = directory.find_signed(&demo(), says).await.unwrap();
        assert_eq!(called.unwrap().record.version, "2.0");
        becomes(&directory, Some("2.0")).await;
    }

    #[tokio::test]
    async fn an_absence_remembered_on_one_node_ends_when_another_has_a_record() {
        let (here, nextcloud, cluster) = start(Config::default()).await;
        let client = here.inner.nextcloud.clone();
        let there = Directory::new(Config::default(), Tenant::default(), cluster, client);
        let app = nextcloud.apps.lock().unwrap().remove("demo").unwrap();
        assert_eq!(version(&here).await, None);
        assert_eq!(version(&there).await, None);
        nextcloud.apps.lock().unwrap().insert("demo".to_owned(), app);
        assert!(there.find_signed(&demo(), SAYS).await.unwrap().is_some());
        becomes(&here, Some("1.2.3")).await;
    }

    #[tokio::test]
    async fn a_change_without_quorum_holds_here_until_it_is_recorded() {
        let (directory, nextcloud, cluster) =
            start(Config { retry: SOON, ..Config::default() }).await;
        nextcloud.apps.lock().unwrap().clear();
        let held = Some(directory.inner.hold(record("here")).0);
        let command = pushed(&cluster, "here");
        directory.inner.keep_here("demo".to_owned(), Unsynced { held, revision: 0 }, command);
        assert_eq!(version(&directory).await.as_deref(), Some("here"));
        let recorded = async {
            while cluster.view().exapp(&Tenant::default(), "demo").is_none() {
                tokio::time::sleep(SOON).await;
            }
        };
        tokio::time::timeout(LONG, recorded).await.unwrap();
        assert_eq!(version(&directory).await.as_deref(), Some("here"));
    }

    #[tokio::test]
    async fn a_record_sealed_with_another_key_is_fetched() {
        let (directory, _nextcloud, cluster) = start(Config::default()).await;
        let sealed_elsewhere = pushed(&Handle::in_memory(2), "unreadable");
        cluster.propose(sealed_elsewhere, LONG).await.unwrap();
        assert_eq!(version(&directory).await.as_deref(), Some("1.2.3"));
    }

    #[tokio::test]
    async fn a_later_push_elsewhere_makes_an_unrecorded_change_moot() {
        let (directory, _nextcloud, cluster) = start(Config::default()).await;
        let deleted = Unsynced { held: None, revision: 0 };
        let command = Command::DeleteExApp { tenant: Tenant::default(), id: "demo".to_owned() };
        directory.inner.keep_here("demo".to_owned(), deleted, command);
        assert!(matches!(directory.find(&demo()).await, Err(Error::Withdrawn)));
        cluster.propose(pushed(&cluster, "elsewhere"), LONG).await.unwrap();
        assert_eq!(version(&directory).await.as_deref(), Some("elsewhere"));
    }

    #[tokio::test]
    async fn what_is_in_force_here_is_listed_with_where_it_is_recorded() {
        let (directory, _nextcloud, cluster) = start(Config::default()).await;
        let listed = |directory: &Directory| {
            let all = directory.list();
            let shown = all
                .iter()
                .map(|app| (app.record.id.clone(), app.record.version.clone(), app.recorded));
            shown.collect::<Vec<_>>()
        };
        directory.push(record("1.2.3")).await;
        assert_eq!(version(&directory).await.as_deref(), Some("1.2.3"));
        assert!(directory.list()[0].checked.is_some());
        let shown =
            |version: &str, recorded| vec![("demo".to_owned(), version.to_owned(), recorded)];
        assert_eq!(listed(&directory), shown("1.2.3", Recorded::Cluster));
        let revision = cluster.read(|state| state.exapp_revision(&Tenant::default(), "demo"));
        let held = Some(directory.inner.hold(record("here")).0);
        let push = pushed(&cluster, "here");
        directory.inner.keep_here("demo".to_owned(), Unsynced { held, revision }, push);
        assert_eq!(listed(&directory), shown("here", Recorded::Here));
        let delete = Command::DeleteExApp { tenant: Tenant::default(), id: "demo".to_owned() };
        let deleted = Unsynced { held: None, revision };
        directory.inner.keep_here("demo".to_owned(), deleted, delete);
        assert_eq!(listed(&directory), []);
    }
}
