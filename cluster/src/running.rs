//! An engine and everything that runs with it, made and ended as one: a node of a pair exchanges
//! all of it when it comes to another raft group, while [`Ground`] stays as it is.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use openraft::SnapshotPolicy;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::{Config, Role};
use crate::disk::Disk;
use crate::engine::{Engine, Own, Parts};
use crate::errand::Errands;
use crate::error::StartError;
use crate::fatal::Fatal;
use crate::founding::Charter;
use crate::group::Group;
use crate::guarded::guarded;
use crate::identity::Identity;
use crate::log_file::{self, unusable};
use crate::log_store::LogStore;
use crate::membership::Following;
use crate::mutation::mutated;
use crate::network::{PeerClients, Peers, ServerStats};
use crate::pair::Bond;
use crate::passport::{Passport, PassportError, Seed};
use crate::propose::Tickets;
use crate::relay::Relays;
use crate::seal::{KEK_FILE, Kek};
use crate::space::{Storage, is_no_room};
use crate::state::State;
use crate::state_store::StateStore;
use crate::transport::World;
use crate::types::Raft;
use crate::view::View;

/// How long each step of an orderly stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Before a snapshot that was asked for is asked for again.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(1);

/// What a node stands on, whatever group it takes part in.
pub(crate) struct Ground {
    pub(crate) config: Config,
    pub(crate) world: World,
    pub(crate) storage: Storage,
    pub(crate) view: Arc<View>,
    pub(crate) stats: Arc<ServerStats>,
    pub(crate) relays: Arc<Relays>,
    pub(crate) errands: Arc<Errands>,
    pub(crate) bond: Arc<Bond>,
    pub(crate) tickets: Arc<Tickets>,
    /// Tells the presence who the members are.
    pub(crate) members: watch::Sender<Arc<[Seed]>>,
    pub(crate) identity: Option<Identity>,
}

/// A running engine.
pub(crate) struct Running {
    pub(crate) engine: Arc<Engine>,
    log_closed: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    tasks: JoinSet<()>,
}

impl Ground {
    /// Opens the group the passport names and takes part in it. The passport is written before,
    /// unless the group has yet to be `founding`: then whoever founds it writes it.
    pub(crate) async fn open(
        &self,
        mut passport: Passport,
        founding: bool,
    ) -> Result<Running, StartError> {
        let Self { config, world, storage, view, .. } = self;
        let Own { number, raft_id, group, role, .. } = own(&passport);
        let dir = group.dir(&config.state_dir);
        let (kek, charter) = {
            let (disk, dir) = (world.disk.clone(), config.state_dir.clone());
            opened(&world.disk, move || keys(&disk, &dir, role)).await?
        };
        let found = {
            let (storage, dir, begun) = (storage.clone(), dir.clone(), passport.begun);
            opened(&world.disk, move || {
                let there = storage.disk.exists(&dir).map_err(|error| unusable(&dir, error))?;
                if begun && !there && !mutated!(LostLogTakesPart) {
                    return Err(StartError::Lost { dir, number });
                }
                log_file::open(&storage, &dir, group, raft_id)
            })
            .await?
        };
        passport.begun = true;
        if !mutated!(StartsNotCounted) {
            passport.boots += 1;
        }
        if let Some(address) = config.advertised() {
            passport.advertise = Some(address);
        }
        if !founding {
            let (storage, dir, passport) =
                (storage.clone(), config.state_dir.clone(), passport.clone());
            opened(&world.disk, move || note_start(&storage, &dir, &passport)).await?;
        }
        let own = own(&passport);
        let purged = found.purged;
        let log = LogStore::new(storage.clone(), found);
        let states = {
            let (storage, view) = (storage.clone(), Arc::clone(view));
            let open = move || {
                let states = StateStore::open(storage, &dir, group, purged, view)?;
                Ok(if role == Role::Witness { states.without_sessions() } else { states })
            };
            opened(&world.disk, open).await?
        };
        let log_closed = Box::pin(log.closed());
        let peers = Arc::new(Peers::new(number, group, Arc::clone(&world.dialler)));
        let seeds = passport.seeds.iter();
        peers.follow(seeds.filter_map(|seed| Some((seed.number, seed.address?))));
        let clients = PeerClients { peers: Arc::clone(&peers), group, me: raft_id };
        let raft = Raft::new(raft_id, raft_config(config, group)?, clients, log, states)
            .await
            .map_err(|error| StartError::Engine(error.to_string()))?;
        let (needs, knows) = (view.read(State::feature), config.feature);
        if needs > knows {
            let _ = raft.shutdown().await;
            return Err(StartError::TooOld { needs, knows });
        }
        let engine = Arc::new(Engine::new(Parts {
            config: config.clone(),
            own,
            passport,
            kek,
            charter,
            raft,
            peers,
            view: Arc::clone(view),
            storage: storage.clone(),
            stats: Arc::clone(&self.stats),
            relays: Arc::clone(&self.relays),
            errands: Arc::clone(&self.errands),
            bond: Arc::clone(&self.bond),
            tickets: Arc::clone(&self.tickets),
            clock: Arc::clone(&world.clock),
        }));
        Ok(Running { engine, log_closed, tasks: JoinSet::new() })
    }

    /// Begins everything an engine does by itself.
    pub(crate) fn set_going(&self, running: &mut Running) {
        let engine = &running.engine;
        let following = Following { engine: Arc::clone(engine), presence: self.members.clone() };
        let tasks = &mut running.tasks;
        let fatal = &self.storage.fatal;
        spawn(tasks, fatal, following.run());
        spawn(tasks, fatal, Arc::clone(engine).run_membership());
        spawn(tasks, fatal, Arc::clone(engine).run_papers(self.identity.clone()));
        spawn(tasks, fatal, Arc::clone(engine).run_sharing());
        spawn(tasks, fatal, Arc::clone(engine).run_merging());
        spawn(tasks, fatal, Arc::clone(engine).run_watch());
        if let Some(kek) = engine.kek.clone() {
            spawn(tasks, fatal, Arc::clone(engine).run_session_keys(kek));
        }
        spawn(tasks, fatal, Arc::clone(engine).run_story());
        spawn(tasks, fatal, run_snapshots(Arc::clone(engine)));
        spawn(tasks, fatal, run_fatal(Arc::clone(engine)));
        spawn(tasks, fatal, Arc::clone(engine).run_space());
        spawn(tasks, fatal, Arc::clone(engine).run_handover());
    }
}

impl Running {
    /// Stores a snapshot, stops the engine and closes its files. Whoever has a handle gets
    /// [`ProposeError::Stopped`](crate::ProposeError::Stopped) from this engine from then on.
    pub(crate) async fn stop(&mut self) {
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        if timeout(STOP_LIMIT, final_snapshot(&self.engine)).await.is_err() {
            tracing::warn!("no snapshot at stop, the next start replays more of the log");
        }
        if let Err(error) = self.engine.raft.shutdown().await {
            tracing::warn!(%error, "cluster engine did not stop in order");
        }
        self.engine.peers.close();
        if timeout(STOP_LIMIT, &mut self.log_closed).await.is_err() {
            tracing::warn!("cluster log is still open");
        }
    }
}

/// A task that must not break without the node being told.
pub(crate) fn spawn(
    tasks: &mut JoinSet<()>,
    fatal: &Fatal,
    task: impl Future<Output = ()> + Send + 'static,
) {
    struct Watch(Fatal);

    impl Drop for Watch {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.raise("a task of the cluster broke".to_owned());
            }
        }
    }

    let watch = Watch(fatal.clone());
    tasks.spawn(guarded(async move {
        let _watch = watch;
        task.await;
    }));
}

/// Stores the passport; a full disk has room for that much.
fn note_start(storage: &Storage, dir: &Path, passport: &Passport) -> Result<(), StartError> {
    match passport.store_on(&storage.disk, dir) {
        Err(PassportError::Io { source, .. })
            if is_no_room(&source) && storage.space.make_room() =>
        {
            Ok(passport.store_on(&storage.disk, dir)?)
        }
        stored => Ok(stored?),
    }
}

fn own(passport: &Passport) -> Own {
    Own {
        number: passport.number,
        raft_id: passport.raft_id(),
        group: passport.group,
        role: passport.role,
        boot: passport.boots,
    }
}

/// The key of the cluster, which a witness must not have, and what a founder brings in.
fn keys(
    disk: &Disk,
    dir: &Path,
    role: Role,
) -> Result<(Option<Arc<Kek>>, Option<Charter>), StartError> {
    let path = dir.join(KEK_FILE);
    let wrong = |text: String| StartError::Kek { path: path.clone(), text };
    let kek = match role {
        Role::Witness => None,
        Role::Node => {
            let kek = Kek::load(disk, dir).map_err(|error| wrong(error.to_string()))?;
            Some(Arc::new(kek.ok_or_else(|| wrong("the key of the cluster is missing".into()))?))
        }
    };
    let charter = Charter::load(disk, dir).map_err(|error| unusable(dir, error))?;
    Ok((kek, charter))
}

fn raft_config(config: &Config, group: Group) -> Result<Arc<openraft::Config>, StartError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let raft = openraft::Config {
        cluster_name: group.to_string(),
        heartbeat_interval: millis(config.timers.heartbeat),
        election_timeout_min: millis(config.timers.election_min),
        election_timeout_max: millis(config.timers.election_max),
        install_snapshot_timeout: 10_000,
        max_payload_entries: 64,
        // A peer further behind gets a snapshot instead of entries.
        replication_lag_threshold: config.snapshot_every.saturating_mul(2),
        snapshot_policy: SnapshotPolicy::Never,
        snapshot_max_chunk_size: 1 << 20,
        // Enough to fall back to the snapshot before the newest.
        max_in_snapshot_log_to_keep: config
            .snapshot_every
            .saturating_add(config.snapshot_every / 5),
        purge_batch_size: 256,
        ..openraft::Config::default()
    };
    raft.validate().map(Arc::new).map_err(|error| StartError::Engine(error.to_string()))
}

/// Makes a snapshot every so many entries. The engine's own policy can lose a trigger
/// while a build is under way; this asks again with the next entry.
async fn run_snapshots(engine: Arc<Engine>) {
    let mut metrics = engine.raft.metrics();
    while metrics.changed().await.is_ok() {
        let now = metrics.borrow_and_update().clone();
        if let Err(error) = now.running_state {
            engine.fatal.raise(format!("the cluster engine stopped: {error}"));
            return;
        }
        let next = |id: Option<crate::types::LogId>| id.map_or(0, |id| id.index + 1);
        if next(now.last_applied) >= next(now.snapshot).saturating_add(engine.config.snapshot_every)
        {
            if let Err(error) = engine.raft.trigger().snapshot().await {
                tracing::warn!(%error, "snapshot could not be asked for");
            }
            // Asking is itself told as a change: without a pause this would spin for as long as a
            // slow or full disk keeps the snapshot from being made.
            sleep(SNAPSHOT_PAUSE).await;
        }
    }
    // An orderly stop ends this task first, so the engine is gone against our will.
    engine.fatal.raise("the cluster engine stopped unexpectedly".to_owned());
}

/// Stops the engine when something it depends on has failed.
async fn run_fatal(engine: Arc<Engine>) {
    engine.fatal.raised().await;
    if let Err(error) = engine.raft.shutdown().await {
        tracing::debug!(%error, "cluster engine did not stop in order");
    }
}

async fn final_snapshot(engine: &Engine) {
    let now = engine.metrics();
    if engine.fatal.is_raised() || now.last_applied.is_none() || now.last_applied == now.snapshot {
        return;
    }
    if engine.raft.trigger().snapshot().await.is_err() {
        return;
    }
    let mut metrics = engine.raft.metrics();
    let _ = metrics.wait_for(|metrics| metrics.snapshot >= now.last_applied).await;
}

pub(crate) async fn opened<T: Send + 'static>(
    disk: &Disk,
    work: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    match disk.work(work).await {
        Ok(result) => result,
        Err(error) => Err(StartError::Engine(error.to_string())),
    }
}
