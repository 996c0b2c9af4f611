//! One node's life: start, serve, stop.

use std::sync::Arc;
use std::time::Duration;

use openraft::SnapshotPolicy;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::Config;
use crate::disk::Disk;
use crate::engine::Engine;
use crate::error::StartError;
use crate::handle::Handle;
use crate::identity::Identity;
use crate::log_file;
use crate::log_store::LogStore;
use crate::network::{PeerClients, Peers, Server};
use crate::presence::{Presence, Thread};
use crate::space::Storage;
use crate::state_store::StateStore;
use crate::tls_transport::{TlsDialler, TlsDoor};
use crate::transport::{Door, Nowhere, World};
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
        let clock = Arc::new(crate::clock::now);
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(StartError::Config(problems));
        }
        let Some((listener, identity)) = open_port(&config).await? else {
            let dialler = Arc::new(Nowhere);
            return Self::start_in(
                World { dialler, door: None, clock, disk: Disk::Files },
                config,
                None,
            )
            .await;
        };
        let door: Arc<dyn Door> = Arc::new(TlsDoor { listener, identity: identity.clone() });
        let world = World {
            dialler: Arc::new(TlsDialler(identity.clone())),
            door: Some(door),
            clock,
            disk: Disk::Files,
        };
        Self::start_in(world, config, Some((presence, identity))).await
    }

    /// The same in a world that is not this machine's: how simulations start the real thing.
    ///
    /// # Errors
    /// [`StartError`] names what to change.
    pub async fn start_in_world(
        world: World,
        config: Config,
    ) -> Result<(Self, Handle), StartError> {
        Self::start_in(world, config, None).await
    }

    async fn start_in(
        world: World,
        config: Config,
        presence: Option<(Presence, Identity)>,
    ) -> Result<(Self, Handle), StartError> {
        if config.members.len() == 2 {
            tracing::warn!(
                "two voters: a change needs both of them; add a witness to go on with either"
            );
        }
        let dir = config.state_dir.clone();
        let (cluster, node_id) = (config.cluster_name.clone(), config.node_id);
        let storage = {
            let (disk, dir) = (world.disk.clone(), dir.clone());
            let open = move || Storage::open(disk, &dir).map_err(|e| log_file::unusable(&dir, e));
            opened(&world.disk, open).await?
        };
        let view = Arc::new(View::new());
        let found = {
            let (storage, dir, cluster) = (storage.clone(), dir.clone(), cluster.clone());
            opened(&world.disk, move || log_file::open(&storage, &dir, &cluster, node_id)).await?
        };
        let (boot, purged) = (found.boot, found.purged);
        let log = LogStore::new(storage.clone(), found);
        let states = {
            let (storage, view) = (storage.clone(), Arc::clone(&view));
            let open = move || StateStore::open(storage, &dir, &cluster, purged, view);
            opened(&world.disk, open).await?
        };
        let log_closed = log.closed();

        let addresses = config.members.iter().map(|member| (member.id, member.address));
        let peers = Arc::new(Peers::new(node_id, &world.dialler, addresses));
        let clients = PeerClients(Arc::clone(&peers));
        let raft = Raft::new(node_id, raft_config(&config)?, clients, log, states)
            .await
            .map_err(|error| StartError::Engine(error.to_string()))?;

        let engine = Arc::new(Engine::new(config, raft, peers, view, storage, boot, world.clock));
        let handle = Handle::of(Arc::clone(&engine));
        let mut tasks = JoinSet::new();
        let (mut presence_thread, mut visited) = (None, None);
        if let Some((presence, identity)) = presence {
            let fatal = engine.fatal.clone();
            let broken = move || fatal.raise("the presence thread broke".to_owned());
            let (flows, members) = (handle.flows().clone(), &engine.config.members);
            let started =
                Thread::start(presence.clone(), node_id, identity, members, flows, broken);
            let (thread, visitors) = started.map_err(StartError::Presence)?;
            presence_thread = Some(thread);
            visited = Some((presence, visitors));
        }
        if let Some(door) = world.door {
            let peers = engine.config.members.iter().map(|member| member.id);
            let (service, stats) = (Arc::clone(&engine), Arc::clone(&engine.stats));
            let server = Server::new(node_id, peers, service, visited, stats);
            tasks.spawn(server.run(door));
        }
        tasks.spawn(Arc::clone(&engine).run_formation());
        tasks.spawn(Arc::clone(&engine).run_sharing());
        tasks.spawn(Arc::clone(&engine).run_merging());
        tasks.spawn(Arc::clone(&engine).run_clock_alarm());
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

/// The peer port, if there are peers.
async fn open_port(config: &Config) -> Result<Option<(TcpListener, Identity)>, StartError> {
    let Some(files) = config.tls.as_ref().filter(|_| config.members.len() > 1) else {
        return Ok(None);
    };
    let identity = Identity::load(files, &config.cluster_name, config.node_id)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| StartError::Listen { address: config.listen, source })?;
    Ok(Some((listener, identity)))
}

fn raft_config(config: &Config) -> Result<Arc<openraft::Config>, StartError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let raft = openraft::Config {
        cluster_name: config.cluster_name.clone(),
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
