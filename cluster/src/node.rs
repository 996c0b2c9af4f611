//! One node's life: start, serve, stop.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;

use crate::config::{Config, Problem, Role};
use crate::disk::Disk;
use crate::error::StartError;
use crate::handle::Handle;
use crate::identity::{Identity, link_files};
use crate::log_file::unusable;
use crate::network::Server;
use crate::pair::{self, Bond, Keeper, Silence};
use crate::passport::Passport;
use crate::presence::{Me, Presence, Thread};
use crate::running::{Ground, Running, opened, spawn};
use crate::slot::Slot;
use crate::space::Storage;
use crate::tls_transport::{TlsDialler, TlsDoor};
use crate::transport::{Door, World};
use crate::view::View;

/// A running node. Keep it and end it with [`Node::shutdown`]: dropping it only closes the peer
/// port, while the engine goes on as long as there is a [`Handle`].
#[must_use]
pub struct Node {
    ground: Arc<Ground>,
    running: Arc<Mutex<Running>>,
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
        passport: Passport,
        presence: Option<(Presence, Identity)>,
    ) -> Result<(Self, Handle), StartError> {
        let (number, group) = (passport.number, passport.group);
        let (members, followed) = watch::channel(Arc::from(passport.seeds.as_slice()));
        let door = world.door.clone();
        let storage = {
            let (disk, dir) = (world.disk.clone(), config.state_dir.clone());
            let open = move || Storage::open(disk, &dir).map_err(|e| unusable(&dir, e));
            opened(&world.disk, open).await?
        };
        let ground = Arc::new(Ground {
            storage,
            view: Arc::new(View::new()),
            stats: Arc::default(),
            relays: Arc::default(),
            errands: Arc::default(),
            bond: Arc::new(Bond::new(first_silence(&passport))),
            tickets: Arc::default(),
            members,
            identity: presence.as_ref().map(|(_, identity)| identity.clone()),
            config,
            world,
        });
        let mut running = pair::open(&ground, passport).await?;
        if running.engine.own.group != group {
            // What was decided before a crash needs nobody to be asked again.
            ground.bond.set_silence(None);
        }
        let slot = Slot::new(Arc::clone(&running.engine));
        let (orders, ordered) = mpsc::channel(1);
        let handle = Handle::of(slot.clone(), orders);
        let mut tasks = JoinSet::new();
        let (mut presence_thread, mut visited, mut heard) = (None, None, None);
        if let Some((presence, identity)) = presence {
            let fatal = ground.storage.fatal.clone();
            let broken = move || fatal.raise("the presence thread broke".to_owned());
            let me = Me { number, group, identity };
            let flows = handle.flows().clone();
            let started = Thread::start(presence.clone(), me, followed, flows, broken);
            let (thread, visitors) = started.map_err(StartError::Presence)?;
            presence_thread = Some(thread);
            heard = Some(presence.clone());
            visited = Some((presence, visitors));
        }
        if let Some(door) = door {
            let server = Server::new(Arc::new(slot.clone()), visited, Arc::clone(&ground.stats));
            spawn(&mut tasks, &ground.storage.fatal, server.run(door));
        }
        ground.set_going(&mut running);
        let running = Arc::new(Mutex::new(running));
        let keeper = Keeper {
            ground: Arc::clone(&ground),
            running: Arc::clone(&running),
            slot,
            presence: heard,
            ordered,
        };
        spawn(&mut tasks, &ground.storage.fatal, keeper.run());
        Ok((Self { ground, running, tasks, presence: presence_thread }, handle))
    }

    /// Waits until the node has stopped by itself, because its storage failed or a task of it
    /// panicked, and tells why. The process should then end: only a restart can find out what is
    /// on disk. Dropping the future loses nothing.
    pub async fn failed(&mut self) -> String {
        self.ground.storage.fatal.raised().await
    }

    /// Hands its part of a pair over, stores a snapshot, stops and closes the files. Handles
    /// answer [`ProposeError::Stopped`](crate::ProposeError::Stopped) from then on; their view
    /// stays.
    pub async fn shutdown(mut self) {
        let mut running = self.running.lock().await;
        running.engine.hand_over_at_stop().await;
        drop(self.presence.take());
        self.tasks.abort_all();
        running.stop().await;
        drop(running);
        while self.tasks.join_next().await.is_some() {}
        self.ground.relays.close();
    }
}

/// A former voter of a pair does not know yet whether it still is one.
fn first_silence(passport: &Passport) -> Option<Silence> {
    let is_pair =
        passport.seeds.len() == 2 && passport.seeds.iter().all(|seed| seed.role == Role::Node);
    (is_pair && passport.begun).then_some(Silence::Asking)
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
