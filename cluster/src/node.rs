//! One node's life: start, serve, stop.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openraft::SnapshotPolicy;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::{Config, Problem, Role};
use crate::disk::Disk;
use crate::engine::{Engine, Own, Parts};
use crate::error::StartError;
use crate::founding::Charter;
use crate::group::Group;
use crate::handle::Handle;
use crate::identity::{Identity, link_files};
use crate::log_file::{self, unusable};
use crate::log_store::LogStore;
use crate::membership::Following;
use crate::mutation::mutated;
use crate::network::{PeerClients, Peers, Server};
use crate::passport::{Passport, PassportError};
use crate::presence::{Me, Presence, Thread};
use crate::seal::{KEK_FILE, Kek};
use crate::space::{Storage, is_no_room};
use crate::state::State;
use crate::state_store::StateStore;
use crate::tls_transport::{TlsDialler, TlsDoor};
use crate::transport::{Door, World};
use crate::types::Raft;
use crate::view::View;

/// How long each step of an orderly stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A running node. Keep it and end it with [`Node::shutdown`]: dropping it only closes the peer
/// port, while the engine goes on as long as there is a [`Handle`].
#[must_use]
pub struct Node {
    engine: Arc<Engine>,
    log_closed: std::pin::Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    tasks: JoinSet<()>,
    presence: Option<Thread>,
}

impl Node {
    /// Reads what is on disk, opens the peer port and takes part. Does not wait for a leader.
    ///
    /// # Errors
    /// [`StartError`] names what to change.
    pub async fn start(config: Config) -> Result<(Self, Handle), StartError> {
        Self::start_with(config, Presence::default()).await
    }

    /// The same with a presence that somebody else knows already.
    ///
    /// # Errors
    /// [`StartError`] names what to change.
    pub async fn start_with(
        config: Config,
        presence: Presence,
    ) -> Result<(Self, Handle), StartError> {
        let (world, passport, identity) = open_world(&config).await?;
        Self::start_in(world, config, passport, Some((presence, identity))).await
    }

    /// The same in a world that is not this machine's: how simulations start the real thing.
    ///
    /// # Errors
    /// [`StartError`] names what to change.
    pub async fn start_in_world(
        world: World,
        config: Config,
    ) -> Result<(Self, Handle), StartError> {
        let passport = passport(&world.disk, &config).await?;
        Self::start_in(world, config, passport, None).await
    }

    async fn start_in(
        world: World,
        config: Config,
        mut passport: Passport,
        presence: Option<(Presence, Identity)>,
    ) -> Result<(Self, Handle), StartError> {
        let view = Arc::new(View::new());
        let Own { number, raft_id, group, role, .. } = own(&passport);
        let dir = group.dir(&config.state_dir);
        let storage = {
            let (disk, dir) = (world.disk.clone(), config.state_dir.clone());
            let open = move || Storage::open(disk, &dir).map_err(|e| unusable(&dir, e));
            opened(&world.disk, open).await?
        };
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
        {
            let (storage, dir, passport) =
                (storage.clone(), config.state_dir.clone(), passport.clone());
            opened(&world.disk, move || note_start(&storage, &dir, &passport)).await?;
        }
        let own = own(&passport);
        let purged = found.purged;
        let log = LogStore::new(storage.clone(), found);
        let states = {
            let (storage, view) = (storage.clone(), Arc::clone(&view));
            let open = move || StateStore::open(storage, &dir, group, purged, view);
            opened(&world.disk, open).await?
        };
        let log_closed = log.closed();

        let peers = Arc::new(Peers::new(number, group, Arc::clone(&world.dialler)));
        let seeds = passport.seeds.iter();
        peers.follow(seeds.filter_map(|seed| Some((seed.number, seed.address?))));
        let clients = PeerClients { peers: Arc::clone(&peers), group, me: raft_id };
        let raft = Raft::new(raft_id, raft_config(&config, group)?, clients, log, states)
            .await
            .map_err(|error| StartError::Engine(error.to_string()))?;
        let (needs, knows) = (view.read(State::feature), config.feature);
        if needs > knows {
            let _ = raft.shutdown().await;
            return Err(StartError::TooOld { needs, knows });
        }

        let (members, followed) = watch::channel(Arc::from(passport.seeds.as_slice()));
        let engine = Arc::new(Engine::new(Parts {
            config,
            own,
            passport,
            kek,
            charter,
            raft,
            peers,
            view,
            storage,
            clock: world.clock,
        }));
        let handle = Handle::of(Arc::clone(&engine));
        let mut tasks = JoinSet::new();
        let (mut presence_thread, mut visited, mut identity) = (None, None, None);
        if let Some((presence, proved)) = presence {
            let fatal = engine.fatal.clone();
            let broken = move || fatal.raise("the presence thread broke".to_owned());
            let me = Me { number, group, identity: proved.clone() };
            let flows = handle.flows().clone();
            let started = Thread::start(presence.clone(), me, followed, flows, broken);
            let (thread, visitors) = started.map_err(StartError::Presence)?;
            presence_thread = Some(thread);
            visited = Some((presence, visitors));
            identity = Some(proved);
        }
        if let Some(door) = world.door {
            let (service, stats) = (Arc::clone(&engine), Arc::clone(&engine.stats));
            tasks.spawn(Server::new(service, visited, stats).run(door));
        }
        tasks.spawn(Following { engine: Arc::clone(&engine), presence: members }.run());
        tasks.spawn(Arc::clone(&engine).run_membership());
        tasks.spawn(Arc::clone(&engine).run_papers(identity));
        tasks.spawn(Arc::clone(&engine).run_sharing());
        tasks.spawn(Arc::clone(&engine).run_merging());
        tasks.spawn(Arc::clone(&engine).run_watch());
        tasks.spawn(Arc::clone(&engine).run_story());
        tasks.spawn(run_snapshots(Arc::clone(&engine)));
        tasks.spawn(run_fatal(Arc::clone(&engine)));
        tasks.spawn(Arc::clone(&engine).run_space());
        tasks.spawn(Arc::clone(&engine).run_handover());
        let log_closed = Box::pin(log_closed);
        Ok((Self { engine, log_closed, tasks, presence: presence_thread }, handle))
    }

    /// Waits until the node has stopped by itself, because its storage failed or a task of it
    /// panicked, and tells why. The process should then end: only a restart can find out what is
    /// on disk. Dropping the future loses nothing.
    pub async fn failed(&mut self) -> String {
        loop {
            tokio::select! {
                biased;
                reason = self.engine.fatal.raised() => return reason,
                // One that ended in order has raised its reason or had nothing more to do.
                Some(ended) = self.tasks.join_next() => if let Err(error) = ended {
                    return format!("a task of the cluster broke: {error}");
                },
            }
        }
    }

    /// Stores a snapshot, stops and closes the files. Handles answer
    /// [`ProposeError::Stopped`](crate::ProposeError::Stopped) from then on; their view stays.
    pub async fn shutdown(mut self) {
        drop(self.presence.take());
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        if timeout(STOP_LIMIT, final_snapshot(&self.engine)).await.is_err() {
            tracing::warn!("no snapshot at stop, the next start replays more of the log");
        }
        if let Err(error) = self.engine.raft.shutdown().await {
            tracing::warn!(%error, "cluster engine did not stop in order");
        }
        self.engine.peers.close();
        self.engine.relays.close();
        if timeout(STOP_LIMIT, self.log_closed).await.is_err() {
            tracing::warn!("cluster log is still open");
        }
    }
}

impl World {
    /// The network and the files of this machine, as the node of a configuration uses them: for
    /// whoever wants to put something between the node and them.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn of_machine(config: &Config) -> Result<Self, StartError> {
        Ok(open_world(config).await?.0)
    }
}

async fn open_world(config: &Config) -> Result<(World, Passport, Identity), StartError> {
    let disk = Disk::Files;
    let problems = config.problems();
    if !problems.is_empty() {
        return Err(StartError::Config(problems));
    }
    let passport = passport(&disk, config).await?;
    let identity = {
        let (files, number) = (link_files(&config.state_dir), passport.number);
        let cluster = passport.group.cluster.to_string();
        opened(&disk, move || Ok(Identity::load(&files, &cluster, number)?)).await?
    };
    let dialler = Arc::new(TlsDialler(identity.clone()));
    let door: Option<Arc<dyn Door>> = match config.listen {
        Some(address) => {
            let listener = TcpListener::bind(address)
                .await
                .map_err(|source| StartError::Listen { address, source })?;
            Some(Arc::new(TlsDoor { listener, identity: identity.clone() }))
        }
        None => None,
    };
    let clock = Arc::new(crate::clock::now);
    Ok((World { dialler, door, clock, disk }, passport, identity))
}

/// Who lives in the state directory.
async fn passport(disk: &Disk, config: &Config) -> Result<Passport, StartError> {
    let passport = {
        let (disk, dir) = (disk.clone(), config.state_dir.clone());
        opened(&disk.clone(), move || {
            Passport::load_from(&disk, &dir)?.ok_or(StartError::NoPassport(dir))
        })
        .await?
    };
    if config.listen.is_none() && passport.seeds.len() > 1 {
        let text = "missing; this node is a member of a cluster of several, and the others must \
                    reach it"
            .to_owned();
        return Err(StartError::Config(vec![Problem { key: "cluster.listen", text }]));
    }
    Ok(passport)
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
        // What room is left is for the one snapshot that was made when the disk became full.
        if engine.space.is_full() {
            continue;
        }
        if next(now.last_applied) >= next(now.snapshot).saturating_add(engine.config.snapshot_every)
            && let Err(error) = engine.raft.trigger().snapshot().await
        {
            tracing::warn!(%error, "snapshot could not be asked for");
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
    if engine.fatal.is_raised()
        || engine.space.is_full()
        || now.last_applied.is_none()
        || now.last_applied == now.snapshot
    {
        return;
    }
    if engine.raft.trigger().snapshot().await.is_err() {
        return;
    }
    let mut metrics = engine.raft.metrics();
    let _ = metrics.wait_for(|metrics| metrics.snapshot >= now.last_applied).await;
}

async fn opened<T: Send + 'static>(
    disk: &Disk,
    work: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    match disk.work(work).await {
        Ok(result) => result,
        Err(error) => Err(StartError::Engine(error.to_string())),
    }
}
