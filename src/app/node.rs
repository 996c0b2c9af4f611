//! A node: the virtual address, the HTTP port, the FRP port, and its part of the cluster.
//!
//! Start: the admin socket first (a second trigon started by mistake ends there and touches no
//! address), then the VRRP thread (it clears addresses a killed predecessor left behind, and
//! holds no permission yet), the cluster, the listeners. The address may come once the FRP
//! certificates exist, because from then on everything behind it is served.
//! Stop, for whatever reason: the address first, so that the peer answers before anything here
//! goes away.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::Context;
use cluster::Passport;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Told;
use super::chronicle::{self, Chronicle};
use super::drain::Drainer;
use super::engine::Engine;
use super::guardian::{Guardian, View};
use super::mover::Mover;
use super::public::Public;
use super::reload::{Parts, Running};
use super::status::{Facts, Speaker};
use super::tenants::{self, ClientCertificates};
use super::trackers;
use super::vantage::Vantage;
use super::watchdog;
use crate::config::{Node, Serve};
use crate::database::{self, Database};
use crate::failover;
use crate::frontend::{self, Frontend, Listeners};
use crate::guard::Guard;
use crate::http::tls::Certificate;
use crate::net::{TcpDial, listen};
use crate::observe::access;
use crate::observe::metrics::metrics;
use crate::web::Pools;
use crate::{admin, frp, nextcloud};

/// How long requests on this node's own addresses may take to end at a stop. Those on the
/// virtual address cannot end any more: their segments already go to the peer.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// How often it is made sure that the VRRP thread lives.
const LOOK_AT_SPEAKER: Duration = Duration::from_millis(500);

/// Tasks without which the node is no node; each ends with the reason.
type Tasks = JoinSet<anyhow::Result<()>>;

pub(super) async fn run(
    (node, cluster, passport): (Node, cluster::Config, Option<Passport>),
    serve: Serve,
    guardian: Option<Guardian>,
    reload: impl FnOnce(Parts) -> Running,
) -> anyhow::Result<()> {
    let admin_socket = admin::server::bind(&node.admin_socket)
        .await
        .with_context(|| format!("node.admin_socket {}", node.admin_socket.display()))?;
    let passport = super::membership::ensure(&node, &cluster, passport)?;
    let (reports, told) = mpsc::channel();
    let vantage = Vantage::new(serve.failover.clone(), &serve.routers);
    let (chronicle, waiting) = Chronicle::new();
    let telling = (reports.clone(), chronicle.clone());
    let started = start_speaker(&serve.routers, telling, vantage.counsel())?;
    let speaker = Speaker::new(Mutex::new(started));
    let guardian = guardian.map(|guardian| attach(guardian, &speaker)).transpose()?;

    let https = serve.frontend.tls.iter();
    let watched: Vec<_> = https.map(|tls| ("https", tls.files.certificate.clone())).collect();
    let engine = Engine::new()?;
    let (mut member, handle) = engine.start(cluster, vantage.presence().clone()).await?;
    let guard = Guard::new(serve.guard.clone(), handle.clone());
    let tcp = TcpDial { within: serve.frontend.timeouts.connect, refuse_loopback: true };
    let tunnels = frp::Tunnels::new(serve.frp.clone(), tcp, handle.clone());
    let certificates = ClientCertificates::default();
    let default = tenants::first(&serve, &tunnels, &certificates)?;
    let other = |one| tenants::further(one, &serve, &tunnels, &certificates);
    let others = serve.tenants.iter().map(other).collect::<Result<_, _>>()?;
    let config = frontend::Config { drain: LAST_REQUESTS, ..serve.frontend.clone() };
    let frontend = Arc::new(Frontend::new(config, default, others, guard.clone(), &handle));
    let http = listen::bind(serve.frontend.listen)
        .with_context(|| format!("exapps.listen {}", serve.frontend.listen))?;
    let within_tls = serve.frontend.tls.as_ref().map(open_tls).transpose()?;
    let public = serve.frontend.public.as_ref().map(Public::open).transpose()?;
    let (public, public_doors) = public.unzip();
    let frp_port = listen::bind(serve.frp.listen)
        .with_context(|| format!("frp.listen {}", serve.frp.listen))?;

    // Until now a signal ends the process at once, and there is nothing to give away.
    let mut signals = super::Signals::listen()?;
    let stop = CancellationToken::new();
    let ready = CancellationToken::new();
    let lookout = vantage.begin(&speaker, ready.clone())?;
    let mut tasks = Tasks::new();
    let database = serve.galera.clone().map(Database::new);
    let database_ports = serve.galera.as_ref().map(open_database).transpose()?;
    let mut sockets = vec![frontend.sockets().clone(), tunnels.sockets().clone()];
    sockets.extend(database.iter().map(|database| database.sockets().clone()));
    let addresses = super::watch::addresses(&serve.routers);
    let watch = super::watch::watch(&handle, &tunnels, sockets, addresses.clone());
    tasks.spawn(super::watch::run(watch, told, reports, stop.clone()));
    tasks.spawn(speaker_ends(speaker.clone(), stop.clone()));
    let rooms = trackers::Rooms {
        listeners: vec![serve.frontend.listen, serve.frp.listen],
        nextcloud: nextcloud::Client::new(serve.nextcloud.clone())?,
        tunnels: tunnels.clone(),
    };
    let watched_by = trackers::watch(serve.trackers.clone(), rooms, speaker.clone(), stop.clone());
    spawn(&mut tasks, watched_by);
    let surroundings = super::surroundings::tell(
        handle.clone(),
        speaker.clone(),
        nextcloud::Client::new(serve.nextcloud.clone())?,
        vantage.clone(),
        stop.clone(),
    );
    spawn(&mut tasks, surroundings);
    let fitness =
        super::fitness::watch(handle.clone(), speaker.clone(), vantage.clone(), stop.clone());
    spawn(&mut tasks, fitness);
    let drainer = Drainer::new(
        handle.clone(),
        speaker.clone(),
        vantage.clone(),
        frontend.clone(),
        tunnels.clone(),
    );
    let mover = Mover::new(handle.clone(), speaker.clone(), vantage.clone());
    mover.serve();
    spawn(&mut tasks, mover.clone().watch(stop.clone()));
    let pools = frontend.pools().cloned();
    let (web, backends) = (backends(pools.clone(), None), backends(pools, database.clone()));
    if let Some(pools) = frontend.pools() {
        spawn(&mut tasks, Arc::clone(pools).watch(stop.clone()));
    }
    let facts = Facts::node(
        (node.name.clone(), passport),
        handle.clone(),
        (tunnels.clone(), database.clone()),
        (speaker.clone(), guardian),
        vantage.clone(),
        (ready.clone(), drainer.clone(), web),
    );
    let facts = Arc::new(facts.with_public(public.clone()));
    let sources = chronicle::Sources {
        name: node.name.clone(),
        cluster: handle.clone(),
        speaker: speaker.clone(),
        tunnels: Some(tunnels.clone()),
        certificates: Box::new({
            let (facts, watched) = (facts.clone(), watched.clone());
            move || facts.certificates_in_use(&watched)
        }),
    };
    spawn(&mut tasks, waiting.keep(sources, stop.clone()));
    chronicle.note("started", format!("{} has started", node.name));
    let alarms = super::alarms::watch(facts.clone(), watched.clone(), stop.clone());
    spawn(&mut tasks, alarms);
    let alive = watchdog::Watched {
        facts: facts.clone(),
        cluster: handle.clone(),
        speaker: speaker.clone(),
    };
    let watchdog = watchdog::keep(alive, stop.clone());
    if let Some(metrics) =
        super::metrics_service(&node, &facts, Some(guard.clone()), watched, &stop)?
    {
        spawn(&mut tasks, metrics);
    }
    let days = serve.frp.certificate_days;
    let keeper = frp::pki::Keeper::new(handle.clone(), days)?;
    let membership = admin::Membership::new(handle.clone());
    let desk = admin::Desk {
        guard: guard.clone(),
        keeper: keeper.clone(),
        directories: frontend.directories().cloned().collect(),
        tunnels: tunnels.clone(),
        membership: membership.clone(),
        node: handle.node_id(),
    };
    let (reload_order, mut reloads) = super::reload::orders();
    let source = admin::server::Source {
        status: Arc::new(move || facts.status()),
        membership: membership.clone(),
        reload: reload_order,
        orders: Some(orders(drainer, mover)),
        backends: Some(backends),
        desk: Some(desk),
    };
    if let Some(page) = super::page_service(&node, &source, &chronicle, &stop)? {
        spawn(&mut tasks, page);
    }
    spawn(&mut tasks, admin::server::serve(admin_socket, source, stop.clone()));
    let (frontend_part, guard_part) = (frontend.clone(), guard.clone());
    let mut parts = Parts {
        frontend: frontend_part,
        guard: guard_part,
        certificate: None,
        public: public.clone(),
    };
    let mut listeners = Listeners { public: public_doors, ..Listeners::from(http) };
    if let Some(public) = public {
        spawn(&mut tasks, public.keep(&handle, stop.clone())?);
    }
    if let Some((listener, certificate)) = within_tls {
        listeners.tls = Some((listener, certificate.acceptor()?));
        spawn(&mut tasks, certificate.clone().watch(stop.clone()));
        parts.certificate = Some(certificate);
    }
    let mut running = reload(parts);
    running.tell(chronicle.clone(), node.name.clone());
    let http_stop = stop.clone();
    spawn(&mut tasks, async move { frontend.serve(listeners, http_stop).await });
    if let (Some(database), Some(ports)) = (database, database_ports) {
        spawn(&mut tasks, database.serve(ports, handle.clone(), addresses, stop.clone()));
    }
    let state_dir = node.state_dir.clone();
    let stop_door = stop.clone();
    let door = FrpDoor {
        state_dir,
        certificates,
        keeper,
        ready,
        stop: stop_door,
        vantage: vantage.clone(),
    };
    tasks.spawn(door.open(frp_port, serve, guard, tunnels.clone(), speaker.clone()));

    tracing::info!(name: "node_started", node = node.name, "node started");
    metrics().configured();
    spawn(&mut tasks, watchdog);
    super::notify(&[NotifyState::Ready]);
    let outcome = loop {
        tokio::select! {
            told = signals.next() => match told {
                // What went wrong is in the log.
                Told::Reload => drop(running.reload().await),
                Told::Stop(signal) => {
                    tracing::info!(signal, "stopping");
                    break Ok(());
                }
            },
            // Whoever asked may be gone.
            Some(reply) = reloads.recv() => drop(reply.send(running.reload().await)),
            reason = member.failed() => {
                if membership.is_leaving() {
                    tracing::info!("this node has left the cluster; stopping");
                    break Ok(());
                }
                break Err(anyhow::anyhow!("the cluster stopped: {reason}"));
            }
            Some(ended) = tasks.join_next() => break Err(match ended {
                Ok(Ok(())) => anyhow::anyhow!("a service ended although nobody asked it to"),
                Ok(Err(error)) => error,
                Err(panic) => anyhow::anyhow!("a service broke: {panic}"),
            }),
        }
    };
    super::notify(&[NotifyState::Stopping]);
    vantage.yield_addresses();
    release(speaker).await;
    drop(lookout);
    stop.cancel();
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_REQUESTS, ended).await.is_err() {
        tracing::info!("cut the requests that were still running");
    }
    member.shutdown().await;
    tracing::info!(name: "node_stopped", "stopped");
    access::flush(LAST_REQUESTS);
    outcome
}

/// The way from the admin socket to who carries orders out.
fn orders(drainer: Drainer, mover: Mover) -> admin::orders::Orders {
    let (begins, shows, ends) = (drainer.clone(), drainer.clone(), drainer);
    admin::orders::Orders {
        drain: Arc::new(move |order| begins.drain(order)),
        progress: Arc::new(move || shows.progress()),
        undrain: Arc::new(move || ends.undrain()),
        failover: Arc::new(move |order| {
            let mover = mover.clone();
            Box::pin(async move { mover.failover(order).await })
        }),
    }
}

/// The way from the admin socket to whoever has servers behind this node.
/// Status, metrics and check have a part of their own for the database, so they get none here.
fn backends(web: Option<Arc<Pools>>, database: Option<Database>) -> admin::backends::Office {
    let listed = (web.clone(), database.clone());
    admin::backends::Office {
        list: Arc::new(move || {
            let (web, database) = &listed;
            let web = web.iter().flat_map(|pools| pools.members());
            web.chain(database.iter().flat_map(Database::members)).collect()
        }),
        set: Arc::new(move |name, admin| {
            if let Some(pools) = &web {
                pools.set(name, admin);
            }
            if let Some(database) = &database {
                database.set(name, admin);
            }
        }),
    }
}

fn open_tls(tls: &frontend::Tls) -> anyhow::Result<(TcpListener, Certificate)> {
    let certificate = Certificate::open(tls.files.clone()).context("exapps.tls_certificate")?;
    let listener =
        listen::bind(tls.listen).with_context(|| format!("exapps.tls_listen {}", tls.listen))?;
    Ok((listener, certificate))
}

fn open_database(config: &database::Config) -> anyhow::Result<database::Listeners> {
    let bind = |address| listen::bind(address).with_context(|| format!("galera.listen {address}"));
    let writer = bind(config.listen)?;
    let reader = config.reader_listen.map(bind).transpose()?;
    Ok(database::Listeners { writer, reader })
}

/// Starts the VRRP thread, unless there is no virtual router.
fn start_speaker(
    routers: &[vrrp::RouterConfig],
    (reports, chronicle): (mpsc::Sender<failover::Told>, Chronicle),
    counsel: Option<vrrp::Counsel>,
) -> anyhow::Result<Option<vrrp::SpeakerHandle>> {
    if routers.is_empty() {
        return Ok(None);
    }
    let tell = move |report: vrrp::Report| {
        chronicle.report(&report);
        // Runs on the VRRP thread: an unbounded send neither waits nor fails loudly.
        let _ = reports.send(failover::Told::Report(report));
    };
    let routers = routers.iter().cloned().map(failover::fitness::with_rules);
    routers
        .collect::<Result<_, _>>()
        .and_then(vrrp::SpeakerConfig::new)
        .map_err(vrrp::Error::from)
        .and_then(|config| vrrp::Speaker::spawn(config, Box::new(tell), counsel))
        .map(Some)
        .context("vrrp")
}

/// Tells the VRRP thread of the guardian and of each that replaces it.
fn attach(guardian: Guardian, speaker: &Speaker) -> anyhow::Result<View> {
    let speaker = Speaker::clone(speaker);
    let give = move |lifeline| {
        if let Some(handle) = &*speaker.lock().unwrap_or_else(PoisonError::into_inner) {
            // A thread that has ended needs no guardian.
            let _ = handle.appoint(lifeline);
        }
    };
    guardian.attach(give).context("the guardian's thread")
}

/// Fails when the VRRP thread has ended although nobody asked it to: a node that can never hold
/// the address is of no use, and a restart is.
async fn speaker_ends(speaker: Speaker, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_AT_SPEAKER) => {}
        }
        let speaker = speaker.lock().unwrap_or_else(PoisonError::into_inner);
        if speaker.as_ref().is_some_and(|handle| !handle.is_running()) {
            anyhow::bail!("vrrp ended by itself");
        }
    }
}

fn spawn(tasks: &mut Tasks, service: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        service.await;
        Ok(())
    });
}

/// The FRP port opens once its certificates exist, which on the very first start of a cluster
/// needs a quorum. Connections that come earlier wait in the kernel's queue.
struct FrpDoor {
    state_dir: PathBuf,
    certificates: ClientCertificates,
    keeper: frp::pki::Keeper,
    ready: CancellationToken,
    stop: CancellationToken,
    vantage: Arc<Vantage>,
}

impl FrpDoor {
    async fn open(
        self,
        listener: TcpListener,
        serve: Serve,
        guard: Guard,
        tunnels: frp::Tunnels,
        speaker: Speaker,
    ) -> anyhow::Result<()> {
        let (dir, from) = (self.state_dir.join("frp"), serve.frp.certificates_from.clone());
        let require_client = serve.frp.tls == frp::TlsMode::Required;
        let (upkeep, in_force) = tokio::select! {
            begun = self.keeper.begin(dir, from, require_client) => begun?,
            () = self.stop.cancelled() => return Ok(()),
        };
        self.certificates.store(Some(Arc::new(in_force.clone())));
        self.vantage.permit(&speaker).await?;
        self.ready.cancel();
        tracing::info!("ready to hold the virtual address");
        let upkeep = upkeep.run(self.stop.clone());
        let serving = frp::serve(listener, in_force.server, tunnels, guard, serve.frp, self.stop);
        tokio::join!(upkeep, serving);
        Ok(())
    }
}

/// Gives the addresses away: blocks in its own thread until each goodbye is sent and each
/// address is gone.
async fn release(speaker: Speaker) {
    let handle = speaker.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(handle) = handle else { return };
    if tokio::task::spawn_blocking(move || handle.stop()).await.is_err() {
        tracing::error!("releasing the virtual addresses broke; the kernel's lease ends them");
    }
}
