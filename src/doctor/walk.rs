//! The legs in their order. A leg that cannot tell anything after what was found before is skipped
//! with the reason.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderName, StatusCode};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig as TlsConfig, RootCertStore};
use tokio::net::{UnixStream, lookup_host};

use super::call::{self, connect, get, reach, secure};
use super::judge::{self, Answer, CallError};
use super::nextcloud_rules::{self as rules, Asked};
use super::report::{Report, Verdict};
use crate::admin::status::Certificate;
use crate::admin::{self, Status};
use crate::config::{Config, Node, Serve};
use crate::frp::TlsMode;
use crate::frp::client::{ClientConfig, LocalTarget, try_login};
use crate::net::Stream;
use crate::nextcloud::client::Place;

/// The engine of this machine.
const LOCAL_ENGINE: u16 = 24_000;

const SHARED_KEY: HeaderName = HeaderName::from_static("harp-shared-key");
const ENGINE_PORT: HeaderName = HeaderName::from_static("docker-engine-port");

/// Asked for when no ExApp is on record: Nextcloud counts nothing for an unknown one.
const NOBODY: &str = "trigon-doctor";

/// What the operator may say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// An ExApp Nextcloud knows, when none is on record.
    pub app: Option<String>,
}

/// Tries everything that follows a configuration which was found to be right.
pub async fn examine(config: &Config, options: &Options, report: &mut Report) {
    let status = node(&config.node, report).await;
    let Some(serve) = &config.serve else { return };
    let mut walk = Walk { config, serve, status: status.as_ref(), report, key_fits: true };
    walk.http().await;
    walk.frp().await;
    walk.nextcloud(options).await;
    walk.engines().await;
    walk.descriptors().await;
}

/// The process, its cluster and its virtual addresses, as it sees them itself.
async fn node(node: &Node, report: &mut Report) -> Option<Status> {
    let socket = node.admin_socket.display();
    let (answer, took) = timed(admin::client::status(&node.admin_socket)).await;
    let judged = answer.as_ref().map_err(ToString::to_string);
    report.add("node", format!("ask {socket}"), judge::node(judged), took);
    let status = answer.ok()?;
    if status.cluster.members.0.len() > 1 {
        report.add("cluster", "its own view".into(), judge::cluster(&status), Duration::ZERO);
        // Those of the tunnel port are looked at where they lie.
        let of_link = |certificate: &&Certificate| certificate.name.starts_with("cluster");
        for certificate in status.cluster.certificates.iter().filter(of_link) {
            let verdict = judge::link_certificate(certificate);
            report.add("control link", certificate.name.clone(), verdict, Duration::ZERO);
        }
    }
    for router in &status.vrrp {
        let tried = format!("{} on {}", router.addresses.join(", "), router.interface);
        let verdict = judge::virtual_address(router);
        report.add("virtual address", tried, verdict, Duration::ZERO);
    }
    Some(status)
}

struct Walk<'w> {
    config: &'w Config,
    serve: &'w Serve,
    status: Option<&'w Status>,
    report: &'w mut Report,
    /// Not known to be another key than the running node's.
    key_fits: bool,
}

impl Walk<'_> {
    /// A call of the control API on our own HTTP port.
    async fn control(
        &self,
        path: &str,
        headers: &[(HeaderName, &[u8])],
    ) -> Result<Answer, CallError> {
        let mut all = vec![(SHARED_KEY, self.serve.shared_key.expose())];
        all.extend_from_slice(headers);
        let stream = Stream::new(connect(reach(self.serve.frontend.listen)).await?);
        get(stream, "trigon.doctor", path, &all).await
    }

    async fn http(&mut self) {
        let path = "/exapps/app_api/heartbeat";
        let tried = format!("GET http://{}{path}", reach(self.serve.frontend.listen));
        let (answer, took) = timed(self.control(path, &[])).await;
        let refused = |answer: &Answer| answer.status == StatusCode::UNAUTHORIZED;
        self.key_fits = !answer.as_ref().is_ok_and(refused);
        let verdict = judge::heartbeat(&answer, self.status.is_some());
        self.report.add("http", tried, verdict, took);
        let Some(tls) = &self.serve.frontend.tls else { return };
        let to = reach(tls.listen);
        let session = async { secure(connect(to).await?, "localhost").await };
        let (session, took) = timed(session).await;
        self.report.add("https", format!("TLS at {to}"), judge::https(&session), took);
        let path = &tls.files.certificate;
        let verdict = match call::days_left(path) {
            Ok(days) => judge::certificate(days, "renew it; the node notices the changed file"),
            Err(error) => Verdict::fail(error, "see exapps.tls_certificate"),
        };
        self.report.add("https certificate", path.display().to_string(), verdict, Duration::ZERO);
    }

    async fn frp(&mut self) {
        let dir = self.config.node.state_dir.join("frp");
        for name in ["ca.crt", "server.crt", "client.crt"] {
            let path = dir.join(name);
            let verdict = match call::days_left(&path) {
                Ok(days) => judge::certificate(
                    days,
                    "tunnels end with it: stop every node, remove the state directories' FRP \
                     certificates and deploy the ExApps again",
                ),
                Err(error) => Verdict::fail(
                    error,
                    "the node writes it once it is ready; the doctor has to run as its user, and \
                     node.state_dir has to be the running node's",
                ),
            };
            self.report.add("frp certificate", path.display().to_string(), verdict, Duration::ZERO);
        }
        let to = reach(self.serve.frp.listen);
        let tls = self.serve.frp.tls == TlsMode::Required;
        let way = if tls { "TLS" } else { "plain" };
        let tried = format!("log in at {to} as a tunnel client ({way})");
        if !self.key_fits {
            let why = "not tried: the node would refuse the key again";
            self.report.add("frp login", tried, Verdict::skip(why), Duration::ZERO);
            return;
        }
        let (verdict, took) = timed(self.log_in(to, tls, &dir)).await;
        self.report.add("frp login", tried, verdict, took);
    }

    async fn log_in(&self, to: SocketAddr, tls: bool, dir: &Path) -> Verdict {
        let with_tls = tunnel_tls(dir);
        if let (true, Err(error)) = (tls, &with_tls) {
            return Verdict::skip(format!("not tried: the client certificate: {error}"));
        }
        let client = |with: Option<&Arc<TlsConfig>>| {
            let nowhere = LocalTarget::Tcp(String::new());
            let key = self.serve.shared_key.clone();
            let mut client = ClientConfig::new(to.to_string(), key, NOBODY, 0, nowhere);
            client.tls = with.cloned();
            client.pool = 0;
            client
        };
        let with_tls = with_tls.as_ref().ok();
        let first = try_login(&client(with_tls.filter(|_| tls))).await;
        let worth_another = |error: &_| !matches!(error, crate::frp::client::Loss::Login(_));
        let other = match &first {
            Err(error) if worth_another(error) && (tls || with_tls.is_some()) => {
                Some(try_login(&client(with_tls.filter(|_| !tls))).await)
            }
            _ => None,
        };
        judge::login(tls, &first, other.as_ref())
    }

    async fn nextcloud(&mut self, options: &Options) {
        let Some(place) = Place::parse(&self.serve.nextcloud.url) else { return };
        let Place { name: host, port, .. } = &place;
        let (found, took) = timed(lookup_host((host.as_str(), *port))).await;
        let mut found: Vec<_> = match found {
            Ok(found) => found.collect(),
            Err(error) => {
                let verdict = rules::resolved(host, &Err(error.to_string()));
                return self.report.add("nextcloud name", format!("resolve {host}"), verdict, took);
            }
        };
        found.sort_by_key(SocketAddr::is_ipv6);
        let texts = Ok(found.iter().map(|address| address.ip().to_string()).collect());
        let verdict = rules::resolved(host, &texts);
        self.report.add("nextcloud name", format!("resolve {host}"), verdict, took);
        let Some(first) = found.first() else { return };
        let (stream, took) = timed(connect(*first)).await;
        let tried = format!("connect to {first}");
        match &stream {
            Ok(_) => self.report.add("nextcloud port", tried, Verdict::ok("open"), took),
            Err(error) => {
                return self.report.add("nextcloud port", tried, rules::unreachable(error), took);
            }
        }
        drop(stream);
        if place.tls {
            let (session, took) = timed(dial(&place, *first)).await;
            let verdict = match &session {
                Ok(_) => Verdict::ok("trusted"),
                Err(error) => rules::untrusted(error),
            };
            self.report.add("nextcloud tls", format!("verify {host}"), verdict, took);
            if session.is_err() {
                return;
            }
        }
        self.ask_nextcloud(&place, *first, options).await;
    }

    async fn ask_nextcloud(&mut self, place: &Place, to: SocketAddr, options: &Options) {
        let base = &place.base;
        let host = place.host.to_str().unwrap_or_default();
        let ask = async |path: &str, headers: &[(HeaderName, &[u8])]| {
            get(dial(place, to).await?, host, path, headers).await
        };
        let path = format!("{base}/status.php");
        let (page, took) = timed(ask(&path, &[])).await;
        let skew = page.as_ref().ok().and_then(skew);
        let (verdict, go_on) = rules::status(&page, skew);
        self.report.add("nextcloud", format!("GET {path}"), verdict, took);

        let asked = self.known_app(options);
        let id = asked.id();
        let tried = format!("ask AppAPI for {id} with the shared key");
        if !(go_on && self.key_fits) {
            let why = "not tried: the key is shown once, and only where it can be right";
            return self.report.add("appapi", tried, Verdict::skip(why), Duration::ZERO);
        }
        let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
        let path = format!("{base}/index.php/apps/app_api/harp/exapp-meta?appId={id}");
        let key = [(SHARED_KEY, self.serve.shared_key.expose())];
        let (answer, took) = timed(ask(&path, &key)).await;
        self.report.add("appapi", tried, rules::meta(&answer, asked), took);
    }

    /// An ExApp Nextcloud should know: the one named by the operator, one with a live tunnel, any
    /// on record.
    fn known_app<'a>(&'a self, options: &'a Options) -> Asked<'a> {
        let status = self.status;
        let live = status.and_then(|status| {
            let on_record = |id: &&String| status.exapps.contains(*id);
            status.tunnels.iter().filter(|t| t.live_here).map(|t| &t.proxy).find(on_record)
        });
        let any = status.and_then(|status| status.exapps.first());
        let known = options.app.as_ref().or(live).or(any);
        known.map_or(Asked::Nobody(NOBODY), |id| Asked::Known(id))
    }

    async fn engines(&mut self) {
        let local = self.serve.docker.socket.as_ref().map(|_socket| LOCAL_ENGINE);
        let mut ports: Vec<_> = local.into_iter().collect();
        let tunnels = self.status.map(|status| status.tunnels.as_slice()).unwrap_or_default();
        ports.extend(tunnels.iter().map(|tunnel| tunnel.port));
        ports.retain(|port| self.serve.frp.engines.contains(port));
        ports.sort_unstable();
        ports.dedup();
        for port in ports {
            let leg = format!("engine {port}");
            let tried = "_ping through this node".to_owned();
            if self.status.is_none() || !self.key_fits {
                let why = "not tried: the node is the way to it";
                self.report.add(&leg, tried, Verdict::skip(why), Duration::ZERO);
                continue;
            }
            let number = port.to_string();
            let header = [(ENGINE_PORT, number.as_bytes())];
            let (answer, took) = timed(self.control("/exapps/app_api/_ping", &header)).await;
            self.report.add(&leg, tried, judge::engine(&answer), took);
        }
    }

    /// The limit of the running process, found through its end of the admin socket.
    async fn descriptors(&mut self) {
        if self.status.is_none() {
            return;
        }
        let Ok(socket) = UnixStream::connect(&self.config.node.admin_socket).await else { return };
        let Some(pid) = socket.peer_cred().ok().and_then(|peer| peer.pid()) else { return };
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        if let Some(soft) = soft {
            let verdict = judge::descriptors(soft, self.serve.frontend.max_connections);
            self.report.add(
                "open files",
                format!("limits of process {pid}"),
                verdict,
                Duration::ZERO,
            );
        }
    }
}

async fn dial(place: &Place, to: SocketAddr) -> Result<Stream, CallError> {
    let stream = connect(to).await?;
    if place.tls { secure(stream, &place.name).await } else { Ok(Stream::new(stream)) }
}

/// How a tunnel client speaks TLS, from the files the node exports for ExApps.
fn tunnel_tls(dir: &Path) -> Result<Arc<TlsConfig>, String> {
    let certificate = |name: &str| {
        let path = dir.join(name);
        CertificateDer::from_pem_file(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let text = |error: rustls::Error| error.to_string();
    let path = dir.join("client.key");
    let key = PrivateKeyDer::from_pem_file(&path);
    let key = key.map_err(|error| format!("{}: {error}", path.display()))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.crt")?).map_err(text)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = TlsConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate("client.crt")?], key)
        .map_err(text)?;
    Ok(Arc::new(config))
}

/// Difference between the clocks, whole seconds.
fn skew(answer: &Answer) -> Option<u64> {
    let theirs = answer.headers.get(http::header::DATE)?.to_str().ok()?;
    let theirs = httpdate::parse_http_date(theirs).ok()?;
    let now = SystemTime::now();
    let difference = now.duration_since(theirs).or_else(|_ahead| theirs.duration_since(now));
    difference.ok().map(|difference| difference.as_secs())
}

async fn timed<T>(step: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    let result = step.await;
    (result, started.elapsed())
}
