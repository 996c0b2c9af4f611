//! The public listener: the name visitors type, with everything below it. `/exapps/` is answered
//! here as at the other listeners; the rest is Nextcloud's. Which request is whose is
//! `signpost`'s business.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cluster::Handle;
use cluster::record::Acme;
use http::header::{HeaderValue, LOCATION, STRICT_TRANSPORT_SECURITY};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio::time::timeout;

use super::Rooms;
use super::signpost::{Signpost, Way, says_https};
use crate::acme;
use crate::http::answer_body::AnswerBody;
use crate::http::body::Body;
use crate::http::client_ip::TrustedProxies;
use crate::http::door::{Crowd, Door};
use crate::http::forwarded::{self, Origin};
use crate::http::headers;
use crate::http::server::{Abort, Connection};
use crate::http::tls::Files;
use crate::proxy::answer;
use crate::proxy::exchange::Exchange;

/// An authority may ask before this node has heard what another one ordered.
const BEHIND: Duration = Duration::from_secs(1);

/// What the public listener needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where HTTPS is served.
    pub listen: SocketAddr,
    /// Where plain HTTP is served, if it is.
    pub http_listen: Option<SocketAddr>,
    /// Certificates by the names they are for; the first is for clients that mean no name of them.
    pub certificates: Vec<Files>,
    /// Whether plain HTTP is sent to HTTPS.
    pub redirect_http: bool,
    /// How long browsers are to come by HTTPS only, where Nextcloud does not say so itself; zero
    /// says nothing.
    pub hsts: Duration,
    /// HTTP proxies in front, whose word about the client is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// TCP balancers in front, whose connections begin with a PROXY header.
    pub announcers: Vec<IpNet>,
    /// Most connections of one address at a time.
    pub connections_per_client: usize,
    /// The certificate that is ordered here, if one is.
    pub acme: Option<acme::Config>,
}

impl Config {
    /// Where HTTPS is served unless told otherwise.
    pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 443);
    /// Where plain HTTP is served unless told otherwise.
    pub const HTTP_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 80);
    /// Half a year and more is what Nextcloud's own check asks for.
    pub const HSTS: Duration = Duration::from_secs(15_552_000);
    /// An office behind one address has hundreds of clients with a few connections each.
    pub const CONNECTIONS_PER_CLIENT: usize = 2048;
}

/// The sockets of the public listener.
pub struct Doors {
    /// With TLS.
    pub https: Door,
    /// Without.
    pub http: Option<Door>,
}

impl Doors {
    /// Gives both the terms of the configuration.
    #[must_use]
    pub fn on_terms_of(mut self, config: &Config) -> Self {
        let exempt = config.trusted_proxies.iter().copied();
        let crowd = Crowd::new(config.connections_per_client, TrustedProxies::new(exempt));
        for door in [Some(&mut self.https), self.http.as_mut()].into_iter().flatten() {
            door.crowd = Some(crowd.clone());
            door.announcers = TrustedProxies::new(config.announcers.iter().copied());
        }
        self
    }
}

/// What the public listener goes by.
pub(super) struct Public {
    signpost: Signpost,
    hsts: Option<HeaderValue>,
    pub(super) trusted: ArcSwap<TrustedProxies>,
    cluster: Handle,
}

impl Public {
    pub(super) fn new(config: &Config, cluster: Handle) -> Self {
        let age = config.hsts.as_secs();
        let hsts = HeaderValue::try_from(format!("max-age={age}")).ok().filter(|_| age > 0);
        let https_port = config.redirect_http.then_some(config.listen.port());
        let trusted = TrustedProxies::new(config.trusted_proxies.iter().copied());
        Self {
            signpost: Signpost { https_port, acme: config.acme.is_some() },
            hsts,
            trusted: ArcSwap::from_pointee(trusted),
            cluster,
        }
    }

    /// Answers a request to the public listener.
    pub(super) async fn handle(
        &self,
        rooms: &Rooms,
        mut request: Request<Incoming>,
        connection: Connection,
    ) -> Result<Response<AnswerBody>, Abort> {
        let mut exchange = Exchange::begin(&mut request, &connection);
        let (mut head, body) = request.into_parts();
        let peer = connection.peer.ip();
        let trusted = self.trusted.load_full();
        let is_proxy = trusted.contains(peer);
        let secure = connection.tls.is_some() || (is_proxy && says_https(&head.headers));
        let client = trusted.client(peer, &head.headers);
        exchange.from(client);
        let done = match self.signpost.way(&head, secure) {
            Way::ExApps => {
                headers::complete_host(&mut head.headers, &head.uri, head.version);
                let is_tls = connection.tls.is_some();
                let origin = Origin { peer, is_trusted: is_proxy, client, is_tls };
                forwarded::tell(&mut head.headers, origin);
                let request = Request::from_parts(head, body);
                rooms.answer(request, &connection, &mut exchange, &trusted).await
            }
            Way::Nextcloud if rooms.web.is_some() => {
                let request = Request::from_parts(head, body);
                rooms.answer(request, &connection, &mut exchange, &trusted).await
            }
            Way::Challenge(token) => {
                exchange.answered_here("challenge");
                Ok(self.challenged(token).await)
            }
            way => {
                exchange.answered_here(match way {
                    Way::Elsewhere(_) => "redirect",
                    Way::Nameless => "bad_request",
                    Way::ExApps | Way::Challenge(_) | Way::Nextcloud => "no_backend",
                });
                Ok(own(way, &head.method))
            }
        };
        let mut done = exchange.end(done)?;
        if let Some(hsts) = self.hsts.as_ref().filter(|_| secure) {
            done.headers_mut().entry(STRICT_TRANSPORT_SECURITY).or_insert_with(|| hsts.clone());
        }
        Ok(done)
    }

    /// The answer to an authority's challenge, whichever node ordered.
    async fn challenged(&self, token: &str) -> Response<Body> {
        let known = |acme: &Arc<Acme>| acme.answer(token).map(str::to_owned);
        let comes = self.cluster.find(|state| state.acme().and_then(known));
        let answer = timeout(BEHIND, comes).await.ok().flatten();
        answer.map_or_else(answer::not_found, |text| answer::text(StatusCode::OK, text))
    }
}

/// What is answered without anybody behind us.
fn own(way: Way<'_>, method: &Method) -> Response<Body> {
    match way {
        Way::Elsewhere(target) => redirect(&target, method),
        Way::Nameless => answer::bad_request(),
        Way::ExApps | Way::Challenge(_) | Way::Nextcloud => answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "503 Service Unavailable: no Nextcloud web nodes are configured",
        ),
    }
}

/// For good. A client that sent something keeps method and body.
fn redirect(target: &str, method: &Method) -> Response<Body> {
    let kept = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method);
    let status = match kept {
        true => StatusCode::PERMANENT_REDIRECT,
        false => StatusCode::MOVED_PERMANENTLY,
    };
    let Ok(target) = HeaderValue::try_from(target) else { return answer::bad_request() };
    let mut response = answer::text(status, status.to_string());
    response.headers_mut().insert(LOCATION, target);
    response
}
