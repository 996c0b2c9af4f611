//! The two calls to Nextcloud: `exapp-meta` and `user-info` (contract 2).
//!
//! Both carry the shared key, so redirects are never followed: the key must not travel to
//! wherever a misconfigured server points. What to remember of the answers is decided in `exapps`.

mod health;

use std::error::Error as StdError;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::record::{ExApp, User};
use http_body_util::BodyExt;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::messages;
use crate::http::body::Body;
use crate::http::client;
use crate::net::{BoxFuture, Dial, Stream, Target, TcpDial};
use crate::observe::metrics::metrics;
use crate::secret::Secret;

/// Most bytes of an answer.
const MAX_ANSWER: usize = 1024 * 1024;

/// The header that carries the shared key.
const SHARED_KEY: HeaderName = HeaderName::from_static("harp-shared-key");

const AGENT: HeaderValue = HeaderValue::from_static(concat!("Trigon/", env!("CARGO_PKG_VERSION")));

/// Where Nextcloud is and how long it may take.
#[derive(Clone, Debug)]
pub struct Config {
    /// `http(s)://host[:port][/path]`; a trailing `/` and `/index.php` are taken off.
    pub url: String,
    /// Proves to Nextcloud that it is us who ask.
    pub shared_key: Secret,
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest a call may take in all.
    pub total: Duration,
    /// Calls in flight; further ones wait within their `total`.
    pub max_in_flight: usize,
}

impl Config {
    /// The defaults of HaRP, except for more calls in flight.
    pub fn new(url: impl Into<String>, shared_key: Secret) -> Self {
        Self {
            url: url.into(),
            shared_key,
            connect: Duration::from_secs(5),
            total: Duration::from_secs(25),
            max_in_flight: 512,
        }
    }

    /// Whether `url` can stand in [`Config::url`].
    pub fn is_usable_url(url: &str) -> bool {
        Place::parse(url).is_some()
    }
}

/// Why Nextcloud gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configured address cannot be used.
    #[error("nextcloud.url: {0:?} is not usable; expected http(s)://host[:port][/path]")]
    Url(String),
    /// The shared key holds bytes that cannot stand in a header.
    #[error("nextcloud.shared_key: it holds bytes that cannot stand in an HTTP header")]
    Key,
    /// TLS could not be set up, usually for want of the system's CA certificates.
    #[error("nextcloud: TLS could not be set up")]
    Tls(#[source] rustls::Error),
    /// No connection or no proper HTTP answer.
    #[error("nextcloud: the call failed")]
    Call(#[source] client::Error),
    /// No answer within the total time.
    #[error("nextcloud: no answer in time")]
    TimedOut,
    /// The answer broke off or is longer than 1 MiB.
    #[error("nextcloud: the answer could not be read")]
    Answer(#[source] Box<dyn StdError + Send + Sync>),
    /// Nextcloud points elsewhere: for `user-info` its way to say that cookies are incomplete.
    #[error(
        "nextcloud: answered {0} and a redirect, which is not followed; set nextcloud.url to the final address"
    )]
    Redirect(StatusCode),
    /// Maintenance, overload or a fault.
    #[error("nextcloud: answered {0}")]
    Status(StatusCode),
    /// Not JSON, as behind a captive login page.
    #[error("nextcloud: the answer is not JSON")]
    NotJson,
    /// JSON of another shape.
    #[error("nextcloud: the answer has an unexpected shape")]
    Shape(#[source] messages::MessageError),
}

impl Error {
    /// A stable word for counters.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Status(status) if status.is_client_error() => "refused",
            Self::Status(_) => "status",
            Self::Redirect(_) => "redirect",
            Self::TimedOut => "timeout",
            Self::Call(_) | Self::Url(_) | Self::Key | Self::Tls(_) => "failed",
            Self::Answer(_) | Self::NotJson | Self::Shape(_) => "answer",
        }
    }

    /// Whether Nextcloud as a whole is away, rather than this one call going wrong.
    fn is_outage(&self) -> bool {
        match self {
            Self::Call(_) | Self::TimedOut | Self::NotJson => true,
            Self::Status(status) => status.is_server_error(),
            _ => false,
        }
    }
}

/// Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    client: client::Client,
    target: Target,
    host: HeaderValue,
    /// Path in front of `/index.php/...`, without a trailing slash.
    base: String,
    key: HeaderValue,
    total: Duration,
    in_flight: Semaphore,
    /// Whether Nextcloud is away, so that it is said once and not per request.
    out: AtomicBool,
}

impl Client {
    /// A client for the configured Nextcloud. Call it within a runtime.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Key`] and [`Error::Tls`]: the configuration cannot work.
    pub fn new(config: Config) -> Result<Self, Error> {
        let place = Place::parse(&config.url).ok_or_else(|| Error::Url(config.url.clone()))?;
        let tcp = TcpDial { within: config.connect, refuse_loopback: false };
        let target = Target::Tcp { host: place.name.as_str().into(), port: place.port };
        let dial: Arc<dyn Dial> =
            if place.tls { Arc::new(TlsDial::new(tcp, place.name)?) } else { Arc::new(tcp) };
        let limits = client::Config {
            connect: config.connect,
            response: config.total,
            max_idle: config.max_in_flight,
            ..client::Config::default()
        };
        let mut key =
            HeaderValue::from_bytes(config.shared_key.expose()).map_err(|_bad| Error::Key)?;
        key.set_sensitive(true);
        let inner = Inner {
            client: client::Client::new(dial, limits),
            target,
            host: place.host,
            base: place.base,
            key,
            total: config.total,
            in_flight: Semaphore::new(config.max_in_flight),
            out: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The record of an ExApp by lower-cased id; `None` when Nextcloud does not know it (or does
    /// not know our key: it answers both with 401).
    ///
    /// # Errors
    /// Anything but a clear answer, see [`Error`].
    pub async fn exapp_meta(&self, id: &str) -> Result<Option<ExApp>, Error> {
        match self.call("exapp-meta", id, HeaderMap::new()).await {
            Ok(body) => messages::exapp(id, &body).map(Some).map_err(Error::Shape),
            Err(Error::Status(StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whom the credentials in `headers` belong to; `None` when Nextcloud refuses them (any 4xx).
    /// `headers` are sent as they are: the caller has chosen them.
    ///
    /// # Errors
    /// [`Error::Redirect`] when the cookies do not suffice to tell; else see [`Error`].
    pub async fn user_info(&self, id: &str, headers: HeaderMap) -> Result<Option<User>, Error> {
        match self.call("user-info", id, headers).await {
            Ok(body) => messages::user(&body).map(Some).map_err(Error::Shape),
            Err(Error::Status(status)) if status.is_client_error() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn call(&self, what: &'static str, id: &str, headers: HeaderMap) -> Result<Bytes, Error> {
        let inner = &*self.inner;
        let request = inner.request(what, id, headers)?;
        let started = Instant::now();
        let answer = timeout(inner.total, self.exchange(request)).await;
        let answer = answer.unwrap_or(Err(Error::TimedOut));
        let outcome = answer.as_ref().map_or_else(Error::outcome, |_| "ok");
        metrics().nextcloud_called(what, outcome, started.elapsed());
        inner.note(what, answer.as_ref().err());
        answer
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Bytes, Error> {
        let inner = &*self.inner;
        // Never closed, so waiting for a place cannot fail.
        let _place = inner.in_flight.acquire().await.map_err(|_closed| Error::TimedOut)?;
        let response = inner.client.send(&inner.target, request).await.map_err(Error::Call)?;
        let (head, body) = response.into_parts();
        if head.status.is_redirection() {
            return Err(Error::Redirect(head.status));
        }
        if !head.status.is_success() {
            // Read to the end, else the connection is lost to the pool.
            let _ = read(body).await;
            return Err(Error::Status(head.status));
        }
        if !head.headers.get(CONTENT_TYPE).is_some_and(is_json) {
            return Err(Error::NotJson);
        }
        read(body).await.map_err(Error::Answer)
    }
}

async fn read(body: Body) -> Result<Bytes, Box<dyn StdError + Send + Sync>> {
    Ok(http_body_util::Limited::new(body, MAX_ANSWER).collect().await?.to_bytes())
}

impl Inner {
    /// Says that Nextcloud is away or back when that changes, not with every request.
    fn note(&self, what: &str, error: Option<&Error>) {
        match error.filter(|error| error.is_outage()) {
            Some(error) => {
                if !self.out.swap(true, Ordering::Relaxed) {
                    let error: &(dyn StdError + 'static) = error;
                    tracing::warn!(call = what, error, "Nextcloud does not answer");
                }
            }
            None => {
                if self.out.load(Ordering::Relaxed) && self.out.swap(false, Ordering::Relaxed) {
                    tracing::info!("Nextcloud answers again");
                }
            }
        }
    }

    fn request(&self, what: &str, id: &str, headers: HeaderMap) -> Result<Request<Body>, Error> {
        let path =
            format!("{}/index.php/apps/app_api/harp/{what}?appId={}", self.base, query_value(id));
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = Uri::from_str(&path).map_err(|_bad| Error::Url(path))?;
        *request.headers_mut() = headers;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.entry(USER_AGENT).or_insert(AGENT);
        headers.insert(SHARED_KEY, self.key.clone());
        Ok(request)
    }
}

/// What the configured URL says.
#[derive(Clone, Debug)]
pub struct Place {
    /// Whether it is https.
    pub tls: bool,
    /// Name or address of the host, without brackets.
    pub name: String,
    /// TCP port.
    pub port: u16,
    /// Value of the `Host` header.
    pub host: HeaderValue,
    /// Path in front of `/index.php/...`, without a trailing slash.
    pub base: String,
}

impl Place {
    /// Takes an `http(s)` URL apart; `None` for anything else.
    pub fn parse(url: &str) -> Option<Self> {
        let url = url.strip_suffix('/').unwrap_or(url);
        let url = url.strip_suffix("/index.php").unwrap_or(url);
        let uri = Uri::from_str(url).ok()?;
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = uri.authority()?;
        if uri.query().is_some() || authority.as_str().contains('@') {
            return None;
        }
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Some(Self {
            tls,
            name,
            port,
            host: HeaderValue::from_str(authority.as_str()).ok()?,
            base: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

/// TLS over TCP, verified against the system's CA certificates.
struct TlsDial {
    tcp: TcpDial,
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl TlsDial {
    fn new(tcp: TcpDial, name: String) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(Error::Tls)?
            .with_no_client_auth();
        Self::with_config(tcp, name, config)
    }

    fn with_config(tcp: TcpDial, name: String, config: ClientConfig) -> Result<Self, Error> {
        let name = ServerName::try_from(name.clone()).map_err(|_bad| Error::Url(name))?;
        Ok(Self { tcp, name, connector: TlsConnector::from(Arc::new(config)) })
    }
}

impl Dial for TlsDial {
    fn dial<'a>(&'a self, to: &'a Target) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let tcp = self.tcp.dial(to).await?;
            Ok(Stream::new(self.connector.connect(self.name.clone(), tcp).await?))
        })
    }
}

fn is_json(content_type: &HeaderValue) -> bool {
    let essence = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// Percent-encodes everything outside RFC 3986's unreserved set; an id is the visitor's text.
fn query_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn the_url_is_cut_back_to_its_base() {
        for (url, target, base) in [
            ("http://nc.example", "nc.example:80", ""),
            ("http://nc.example/", "nc.example:80", ""),
            ("https://nc.example/index.php", "nc.example:443", ""),
            ("https://nc.example/index.php/", "nc.example:443", ""),
            ("http://nc.example:8080/cloud/index.php", "nc.example:8080", "/cloud"),
            ("http://[2001:db8::1]:81/a", "2001:db8::1:81", "/a"),
        ] {
            let place = Place::parse(url).unwrap();
            let found = format!("{}:{}", place.name, place.port);
            assert_eq!((found.as_str(), place.base.as_str()), (target, base));
        }
        for bad in ["", "nc.example", "ftp://nc.example", "http://u:p@nc.example", "http://x/?a"] {
            assert!(Place::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_id_cannot_break_out_of_the_query() {
        assert_eq!(query_value("my_app-1.x"), "my_app-1.x");
        assert_eq!(query_value("a&b=c%6f é"), "a%26b%3Dc%256f%20%C3%A9");
    }

    /// A TLS server on loopback that says hello, and the roots that vouch for it as `name`.
    async fn tls_server(name: &str) -> (Target, rustls::RootCertStore) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                if let Ok(mut tls) = acceptor.accept(tcp).await {
                    tls.write_all(b"hello").await.unwrap();
                    tls.shutdown().await.unwrap();
                }
            }
        });
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        (Target::Tcp { host: "127.0.0.1".into(), port }, roots)
    }

    #[tokio::test]
    async fn tls_reaches_the_named_server_and_nobody_else() {
        let tcp = TcpDial { within: Duration::from_secs(5), refuse_loopback: false };
        let (target, roots) = tls_server("nc.example").await;
        let trusting = |name: &str, roots: rustls::RootCertStore| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            TlsDial::with_config(tcp.clone(), name.to_owned(), config).unwrap()
        };
        let mut stream = trusting("nc.example", roots.clone()).dial(&target).await.unwrap();
        let mut hello = String::new();
        stream.read_to_string(&mut hello).await.unwrap();
        assert_eq!(hello, "hello");
        assert!(trusting("other.example", roots).dial(&target).await.is_err());
        let (_, strangers) = tls_server("nc.example").await;
        assert!(trusting("nc.example", strangers).dial(&target).await.is_err());
    }
}
