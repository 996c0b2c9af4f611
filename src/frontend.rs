//! The listener visitors and AppAPI talk to: `/exapps/…` to the proxy, calls under
//! `/exapps/app_api/` to the control API, everything else to Nextcloud's web nodes, or refused
//! where there are none.
//!
//! Builds the rooms of the request path from one [`Config`] and knows their order; what a request
//! may do is decided in `access`.

pub mod public;
mod signpost;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cluster::Handle;
use cluster::record::Tenant;
use http::{Request, Response};
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use public::Public;

use crate::api::endpoint::endpoint;
use crate::api::{self, Api};
use crate::exapps::upstream::AnnouncedHosts;
use crate::exapps::{Directory, Sessions, directory};
use crate::guard::Guard;
use crate::http::answer_body::AnswerBody;
use crate::http::body::Body;
use crate::http::client_ip::TrustedProxies;
use crate::http::server::{Abort, Connection, Server};
use crate::http::upgrade::Upgrades;
use crate::http::{client, server, tls};
use crate::net::{Dial, Sockets};
use crate::nextcloud;
use crate::observe::metrics::metrics;
use crate::observe::metrics::requests::Route;
use crate::proxy::answer;
use crate::proxy::docker_engine::Passthrough;
use crate::proxy::exapp::{Handled, Proxy};
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::Forward;
use crate::proxy::nextcloud::Nextcloud;
use crate::proxy::policy::{Policy, StripSession};
use crate::proxy::realm::{Realm, Realms};
use crate::web::{self, Pools};

/// What a frontend needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address the listener is bound to (`HP_EXAPP_ADDRESS`).
    pub listen: SocketAddr,
    /// The listener with TLS, if there is one.
    pub tls: Option<Tls>,
    /// The listener for the public name, if there is one.
    pub public: Option<public::Config>,
    /// Proxies in front of us whose word about the client is taken (`HP_TRUSTED_PROXY_IPS`).
    pub trusted_proxies: Vec<IpNet>,
    /// Where the shared key is believed from; empty means anywhere.
    pub control_from: Vec<IpNet>,
    /// Which hosts AppAPI's headers may name.
    pub announced_hosts: AnnouncedHosts,
    /// Which ExApps do not see how their visitors are logged in.
    pub strip_session: StripSession,
    /// How long a validated session holds (`HP_SESSION_LIFETIME`); zero asks every time.
    pub session_lifetime: Duration,
    /// How long "no such ExApp" is remembered.
    pub negative_lifetime: Duration,
    /// Nextcloud's web nodes, if requests for Nextcloud itself come here too.
    pub web: Option<web::Config>,
    /// How long parts of an exchange may take.
    pub timeouts: Timeouts,
    /// Most client connections at a time.
    pub max_connections: usize,
    /// How long requests in flight may take after the stop.
    pub drain: Duration,
}

/// The listener with TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Address it is bound to (`HP_EXAPPS_HTTPS_ADDRESS`).
    pub listen: SocketAddr,
    /// Certificate and key.
    pub files: tls::Files,
}

impl Tls {
    /// Where HaRP listens unless told otherwise.
    pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8781);
}

/// How long parts of an exchange may take (`HP_TIMEOUT_*`).
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Until the ExApp accepts a connection.
    pub connect: Duration,
    /// Until a client has sent its request head, and between pieces of its body.
    pub client: Duration,
    /// Until a client has taken what was sent to it.
    pub unread: Duration,
    /// Until the ExApp answers, and between pieces of its answer.
    pub server: Duration,
    /// Without a byte in either direction after a protocol upgrade.
    pub tunnel: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let server = Duration::from_secs(1800);
        Self {
            connect: Duration::from_secs(30),
            client: Duration::from_secs(30),
            unread: Duration::from_secs(60),
            server,
            tunnel: server,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8780)),
            tls: None,
            public: None,
            trusted_proxies: Vec::new(),
            control_from: Vec::new(),
            announced_hosts: AnnouncedHosts { app_ports: 23000..=23999, listed: Vec::new() },
            strip_session: StripSession::Never,
            session_lifetime: Duration::from_secs(3),
            negative_lifetime: Duration::from_secs(15),
            web: None,
            timeouts: Timeouts::default(),
            max_connections: 8192,
            drain: Duration::from_secs(30),
        }
    }
}

/// Longest wait for a connection to a Docker engine: AppAPI's ping gives up after 3 s, and is to be
/// told why before (weakness W20).
const REACH_ENGINE: Duration = Duration::from_millis(2500);

/// The sockets a frontend serves.
pub struct Listeners {
    /// HTTP/1.1, and HTTP/2 with prior knowledge.
    pub plain: TcpListener,
    /// The same within TLS.
    pub tls: Option<(TcpListener, TlsAcceptor)>,
    /// For the public name.
    pub public: Option<public::Doors>,
}

impl From<TcpListener> for Listeners {
    fn from(plain: TcpListener) -> Self {
        Self { plain, tls: None, public: None }
    }
}

/// One of the Nextclouds a frontend serves.
pub struct Served {
    /// Its name; empty for the default one.
    pub tenant: Tenant,
    /// Public host names it is visited under, lower-cased, without ports.
    pub hosts: Vec<String>,
    /// How it is asked.
    pub nextcloud: nextcloud::Client,
    /// What it may do with Docker engines.
    pub docker: api::Docker,
    /// How its ExApps and engines are reached.
    pub dial: Arc<dyn Dial>,
}

/// One frontend with all its listeners.
pub struct Frontend {
    server: Server,
    rooms: Arc<Rooms>,
    public: Option<Arc<Public>>,
    upgrades: Upgrades,
    drain: Duration,
}

struct Rooms {
    proxy: Proxy,
    /// Whose word about the client is taken at the listeners for ExApps.
    trusted_proxies: ArcSwap<TrustedProxies>,
    web: Option<Nextcloud>,
    /// One per Nextcloud; the default one's come first.
    calls: Vec<Calls>,
}

/// Where a Nextcloud's own calls go.
struct Calls {
    tenant: Tenant,
    api: Api,
    engines: Passthrough,
}

impl Frontend {
    /// A frontend for the default Nextcloud and others beside it. Call it within a runtime.
    pub fn new(
        config: Config,
        default: Served,
        others: Vec<Served>,
        guard: Guard,
        cluster: &Handle,
    ) -> Self {
        let upgrades = Upgrades::new(config.timeouts.tunnel);
        let open = |served| open(&config, served, cluster, &upgrades);
        let (default, its_calls) = open(default);
        let (others, calls): (Vec<_>, Vec<_>) = others.into_iter().map(open).unzip();
        let calls = std::iter::once(its_calls).chain(calls).collect();
        let realms = Realms { default, others };
        let proxy = Proxy {
            guard,
            realms,
            policy: Policy {
                control_from: config.control_from,
                announced_hosts: config.announced_hosts,
                strip_session: config.strip_session,
            },
        };
        let trusted_proxies = TrustedProxies::new(config.trusted_proxies);
        let trusted_proxies = ArcSwap::from_pointee(trusted_proxies);
        let public = config.public.as_ref();
        let public = public.map(|public| Arc::new(Public::new(public, cluster.clone())));
        let timeouts = config.timeouts;
        let slowest = config.web.as_ref().map_or(Duration::ZERO, |web| web.response);
        let slowest = slowest.max(timeouts.server).max(timeouts.tunnel);
        let web = config
            .web
            .as_ref()
            .map(|web| Nextcloud::new(Arc::new(Pools::new(web)), upgrades.clone()));
        Self {
            server: Server::new(server::Config {
                head: timeouts.client,
                unread: timeouts.unread,
                standstill: slowest + timeouts.unread,
                handshake: timeouts.client.min(server::Config::default().handshake),
                max_connections: config.max_connections,
                drain: config.drain,
                ..server::Config::default()
            }),
            rooms: Arc::new(Rooms { proxy, trusted_proxies, web, calls }),
            public,
            upgrades,
            drain: config.drain,
        }
    }

    /// The ExApp records requests are judged by, the default Nextcloud's first.
    pub fn directories(&self) -> impl Iterator<Item = &Directory> {
        self.rooms.proxy.realms.iter().map(|realm| &realm.directory)
    }

    /// The pools of web nodes, if there are any. Somebody has to have them watched.
    pub fn pools(&self) -> Option<&Arc<Pools>> {
        self.rooms.web.as_ref().map(Nextcloud::pools)
    }

    /// Every client connection.
    pub fn sockets(&self) -> &Sockets {
        self.server.sockets()
    }

    /// From now on, or no more, clients are told to come back on another connection; see
    /// [`Server::set_leaving`].
    pub fn set_leaving(&self, leaving: bool) {
        self.server.set_leaving(leaving);
    }

    /// Connections with a request in flight from before the last [`Self::set_leaving`].
    pub fn lasting(&self) -> usize {
        self.server.lasting()
    }

    /// Connections that may have a request in flight.
    pub fn open(&self) -> usize {
        self.server.open()
    }

    /// Upgraded connections, such as WebSockets.
    pub fn upgraded(&self) -> usize {
        self.upgrades.open()
    }

    /// Serves until `stop`, then lets what is in flight end within the drain time; upgraded
    /// connections get the same time again.
    pub async fn serve(&self, listeners: impl Into<Listeners>, stop: CancellationToken) {
        let rooms = Arc::clone(&self.rooms);
        let service = move |request, connection| {
            let rooms = Arc::clone(&rooms);
            async move { rooms.handle(request, connection).await }
        };
        let Listeners { plain, tls, public } = listeners.into();
        let plain = self.server.serve(plain, stop.clone(), service.clone());
        let within_tls = async {
            if let Some(door) = tls {
                self.server.serve(door, stop.clone(), service).await;
            }
        };
        tokio::join!(plain, within_tls, self.serve_public(public, &stop));
        self.upgrades.finish(self.drain).await;
    }

    async fn serve_public(&self, doors: Option<public::Doors>, stop: &CancellationToken) {
        let (Some(doors), Some(public)) = (doors, &self.public) else { return };
        let (rooms, public) = (Arc::clone(&self.rooms), Arc::clone(public));
        let service = move |request, connection| {
            let (rooms, public) = (Arc::clone(&rooms), Arc::clone(&public));
            async move { public.handle(&rooms, request, connection).await }
        };
        let https = self.server.serve(doors.https, stop.clone(), service.clone());
        let http = async {
            if let Some(door) = doors.http {
                self.server.serve(door, stop.clone(), service).await;
            }
        };
        tokio::join!(https, http);
    }

    /// Believes these proxies from the next request on, and those at the public listener.
    pub fn trust(&self, proxies: Vec<IpNet>, at_public: Vec<IpNet>) {
        self.rooms.trusted_proxies.store(Arc::new(TrustedProxies::new(proxies)));
        if let Some(public) = &self.public {
            public.trusted.store(Arc::new(TrustedProxies::new(at_public)));
        }
    }
}

/// What belongs to one Nextcloud alone: records, visitors, the connections to its ExApps, and
/// where its calls go.
fn open(config: &Config, served: Served, cluster: &Handle, upgrades: &Upgrades) -> (Realm, Calls) {
    let Served { tenant, hosts, nextcloud, docker, dial } = served;
    let timeouts = &config.timeouts;
    let limits = client::Config {
        connect: timeouts.connect,
        response: timeouts.server,
        request_body: timeouts.client,
        ..client::Config::default()
    };
    let engine_limits =
        client::Config { connect: timeouts.connect.min(REACH_ENGINE), ..limits.clone() };
    let to_exapps = client::Client::new(Arc::clone(&dial), limits);
    let to_engines = Forward::new(client::Client::new(dial, engine_limits), upgrades.clone());
    let lifetimes = directory::Config {
        negative_lifetime: config.negative_lifetime,
        ..directory::Config::default()
    };
    let directory = Directory::new(lifetimes, tenant.clone(), cluster.clone(), nextcloud.clone());
    let lifetime = config.session_lifetime;
    let realm = Realm {
        tenant: tenant.clone(),
        hosts,
        directory: directory.clone(),
        sessions: Sessions::new(tenant.clone(), lifetime, cluster.clone(), nextcloud),
        forward: Forward::new(to_exapps, upgrades.clone()),
    };
    let engines = Passthrough::new(tenant.clone(), docker.engines().clone(), to_engines);
    (realm, Calls { tenant, api: Api::new(directory, docker, timeouts.client), engines })
}

/// Whether a path belongs to the ExApps, whoever answers the rest.
fn is_for_exapps(path: &str) -> bool {
    path.strip_prefix("/exapps").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Rooms {
    fn calls_of(&self, tenant: &Tenant) -> Option<&Calls> {
        self.calls.iter().find(|calls| calls.tenant == *tenant)
    }

    async fn handle(
        &self,
        mut request: Request<Incoming>,
        connection: Connection,
    ) -> Result<Response<AnswerBody>, Abort> {
        let mut exchange = Exchange::begin(&mut request, &connection);
        let trusted = self.trusted_proxies.load_full();
        let done = self.answer(request, &connection, &mut exchange, &trusted).await;
        exchange.end(done)
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
        exchange: &mut Exchange,
        trusted: &TrustedProxies,
    ) -> Result<Response<Body>, Abort> {
        if let Some(web) = self.web.as_ref().filter(|_| !is_for_exapps(request.uri().path())) {
            // Boxed, as what follows.
            return Ok(Box::pin(web.handle(request, connection, exchange, trusted)).await);
        }
        match self.proxy.handle(request, connection, exchange, trusted).await {
            Handled::Done(done) => done,
            // Boxed: every request's state would have room for these, and is moved with it.
            Handled::Control { request, path, tenant } => {
                exchange.route(Route::Control);
                let Some(calls) = self.calls_of(&tenant) else { return Ok(answer::not_found()) };
                let answer = Box::pin(calls.api.handle(&path, request)).await;
                metrics().control_called(endpoint(&path), answer.status().as_u16());
                Ok(answer)
            }
            Handled::DockerEngine { request, port, path, tenant } => {
                exchange.route(Route::DockerEngine);
                let Some(calls) = self.calls_of(&tenant) else { return Ok(answer::not_found()) };
                let slot = connection.slot.clone();
                let answer = Box::pin(calls.engines.handle(request, port, &path, slot)).await;
                metrics().control_called("docker_engine", answer.status().as_u16());
                Ok(answer)
            }
        }
    }
}

#[cfg(test)]
mod tests;
