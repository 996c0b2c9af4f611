//! A stand-in for Nextcloud: the two calls a proxy makes to AppAPI, answered as the real server
//! (32.x) answers them, from tables a test can change at any time.
//!
//! `GET …/app_api/harp/exapp-meta` tells an ExApp's record, `…/harp/user-info` who the visitor
//! is, `/status.php` that this is Nextcloud. Everything else is 404. Not imitated: compression and
//! the login itself. Faults are told per ExApp ([`Faults`]), so that tests beside each other do not
//! meet each other's.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpListener;

use super::journal::Journal;
use crate::net::listen::accept;
use crate::secret::Secret;

const META: &str = "/index.php/apps/app_api/harp/exapp-meta";
const USER: &str = "/index.php/apps/app_api/harp/user-info";
/// Where it says that it is Nextcloud.
pub(super) const STATUS: &str = "/status.php";
const WRONG_KEY: &str = "Harp shared key is not valid";
const PASSPHRASE: &str = "oc_sessionPassphrase";
const SAME_SITE: &str = "nc_sameSiteCookielax";

/// What this Nextcloud knows. Access levels: 0 PUBLIC, 1 USER, 2 ADMIN.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The key the proxy has to show.
    pub shared_key: Secret,
    /// ExApps by their exact id.
    pub apps: HashMap<String, App>,
    /// Logged-in visitors by the value of the cookie `oc_sessionPassphrase`.
    pub sessions: HashMap<String, User>,
    /// Visitors by `user:password`, for HTTP Basic.
    pub passwords: HashMap<String, User>,
    /// Visitors by app password, for HTTP Bearer.
    pub tokens: HashMap<String, User>,
    /// Answers 503 to everything, as Nextcloud 32 does.
    pub maintenance: bool,
    /// Redirects a session without the cookie `nc_sameSiteCookielax` to where it came from, for
    /// ever, as the real server does.
    pub same_site: bool,
    /// What to answer in place of the truth, by the ExApp asked about.
    pub faults: HashMap<String, Faults>,
}

/// What goes wrong when Nextcloud is asked on behalf of one ExApp.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// In place of its record.
    pub exapp_meta: Option<Canned>,
    /// In place of the visitor.
    pub user_info: Option<Canned>,
}

/// An answer without a thought.
#[derive(Clone, Debug)]
pub struct Canned {
    /// Its status.
    pub status: u16,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its body.
    pub body: String,
}

impl Directory {
    /// Knows the key and nobody.
    pub fn new(shared_key: Secret) -> Self {
        Self {
            shared_key,
            apps: HashMap::new(),
            sessions: HashMap::new(),
            passwords: HashMap::new(),
            tokens: HashMap::new(),
            maintenance: false,
            same_site: false,
            faults: HashMap::new(),
        }
    }
}

/// An ExApp's record, in the shape Nextcloud sends it.
#[derive(Clone, Debug, Serialize)]
pub struct App {
    /// The ExApp's secret.
    pub exapp_token: String,
    /// Its version.
    pub exapp_version: String,
    /// `127.0.0.1` behind a tunnel.
    pub host: String,
    /// The tunnel's remote port, 23000 to 23999.
    pub port: u16,
    /// In the order they are tried.
    pub routes: Vec<Route>,
}

impl App {
    /// One behind the tunnel of `port` that lets everybody see everything.
    pub fn open(port: u16) -> Self {
        let everything =
            Route { url: "^/.*$".into(), access_level: 0, bruteforce_protection: Vec::new() };
        Self {
            exapp_token: "secret".into(),
            exapp_version: "1.0.0".into(),
            host: "127.0.0.1".into(),
            port,
            routes: vec![everything],
        }
    }
}

/// One route of an ExApp.
#[derive(Clone, Debug, Serialize)]
pub struct Route {
    /// A regular expression on the path, leading slash included.
    pub url: String,
    /// 0, 1 or 2.
    pub access_level: u8,
    /// Answer statuses that count as an attempt.
    pub bruteforce_protection: Vec<u16>,
}

/// A visitor.
#[derive(Clone, Debug, Serialize)]
pub struct User {
    /// Empty for nobody.
    pub user_id: String,
    /// 0 for nobody and for disabled accounts.
    pub access_level: u8,
}

/// How often the proxy asked, and what it cost it.
#[derive(Debug, Default)]
struct Counters {
    exapp_meta: AtomicU64,
    user_info: AtomicU64,
    attempts: AtomicU64,
}

/// A reading of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Calls of `exapp-meta`.
    pub exapp_meta: u64,
    /// Calls of `user-info`.
    pub user_info: u64,
    /// Brute-force attempts Nextcloud booked on the caller's address.
    pub attempts: u64,
}

/// One call, as a test may want to look at it.
#[derive(Clone, Debug)]
pub struct Call {
    /// `exapp-meta`, else `user-info`.
    pub meta: bool,
    /// The ExApp it is about, decoded.
    pub app_id: String,
    /// Its headers.
    pub headers: HeaderMap,
}

/// The stand-in. Clones share everything.
#[derive(Clone)]
pub struct Nextcloud {
    directory: Arc<ArcSwap<Directory>>,
    /// Held while the directory is changed, or two changes at once would be one.
    changing: Arc<Mutex<()>>,
    counters: Arc<Counters>,
    journal: Option<Journal<Call>>,
}

impl Nextcloud {
    /// Answers from `directory`.
    pub fn new(directory: Directory) -> Self {
        Self {
            directory: Arc::new(ArcSwap::from_pointee(directory)),
            changing: Arc::default(),
            counters: Arc::new(Counters::default()),
            journal: None,
        }
    }

    /// The same, and notes every call.
    pub fn noting(directory: Directory, journal: Journal<Call>) -> Self {
        Self { journal: Some(journal), ..Self::new(directory) }
    }

    /// Changes what it knows; the next call sees it.
    pub fn change(&self, edit: impl FnOnce(&mut Directory)) {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut directory = (**self.directory.load()).clone();
        edit(&mut directory);
        self.directory.store(Arc::new(directory));
    }

    /// The counters so far.
    pub fn calls(&self) -> Calls {
        Calls {
            exapp_meta: self.counters.exapp_meta.load(Ordering::Relaxed),
            user_info: self.counters.user_info.load(Ordering::Relaxed),
            attempts: self.counters.attempts.load(Ordering::Relaxed),
        }
    }

    /// Serves until dropped.
    pub async fn serve(self, listener: TcpListener) -> Infallible {
        loop {
            let (stream, _peer) = accept(&listener).await;
            let nextcloud = self.clone();
            let service = service_fn(move |request| {
                let answer = nextcloud.answer(&request);
                async move { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let directory = self.directory.load();
        let meta = match request.uri().path() {
            META => true,
            USER => false,
            STATUS => return json(StatusCode::OK, &status(directory.maintenance)),
            _ => return page(StatusCode::NOT_FOUND, "Page not found"),
        };
        let counter = if meta { &self.counters.exapp_meta } else { &self.counters.user_info };
        counter.fetch_add(1, Ordering::Relaxed);
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return page(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
        }
        if directory.maintenance {
            let mut answer = page(StatusCode::SERVICE_UNAVAILABLE, "Maintenance mode");
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("120"));
            return answer;
        }
        let Some(app_id) = app_id(request.uri().query()) else {
            return message(StatusCode::BAD_REQUEST, "Missing parameter appId");
        };
        if let Some(journal) = &self.journal {
            let headers = request.headers().clone();
            journal.note(Call { meta, app_id: app_id.clone(), headers });
        }
        let faults = directory.faults.get(&app_id);
        let canned = faults
            .and_then(|faults| if meta { &faults.exapp_meta } else { &faults.user_info }.as_ref());
        if let Some(canned) = canned {
            return canned.answer();
        }
        let right_key = request
            .headers()
            .get("harp-shared-key")
            .is_some_and(|offered| directory.shared_key.matches(offered.as_bytes()));
        let app = directory.apps.get(&app_id);
        if meta {
            self.exapp_meta(app, right_key)
        } else {
            self.user_info(&directory, app.is_some() && right_key, request)
        }
    }

    /// An unknown app and a wrong key read the same; only the wrong key costs attempts.
    fn exapp_meta(&self, app: Option<&App>, right_key: bool) -> Response<Full<Bytes>> {
        match app {
            Some(app) if right_key => json(StatusCode::OK, app),
            Some(_) => {
                self.book(2);
                message(StatusCode::UNAUTHORIZED, WRONG_KEY)
            }
            None => message(StatusCode::UNAUTHORIZED, WRONG_KEY),
        }
    }

    fn user_info(
        &self,
        directory: &Directory,
        trusted: bool,
        request: &Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        if !trusted {
            self.book(1);
            return message(StatusCode::UNAUTHORIZED, WRONG_KEY);
        }
        let headers = request.headers();
        if directory.same_site
            && cookie(headers, PASSPHRASE).is_some()
            && cookie(headers, SAME_SITE).is_none()
        {
            return redirect(request.uri());
        }
        match visitor(directory, request.headers()) {
            Visitor::Known(user) => json(StatusCode::OK, user),
            Visitor::Nobody => {
                let nobody = User { user_id: String::new(), access_level: 0 };
                let mut answer = json(StatusCode::OK, &nobody);
                for cookie in [
                    "oc_sessionPassphrase=fresh; path=/; HttpOnly; SameSite=Lax",
                    "oc_instance=fresh; path=/; HttpOnly; SameSite=Lax",
                    "nc_sameSiteCookielax=true; path=/; HttpOnly; SameSite=Lax",
                    "nc_sameSiteCookiestrict=true; path=/; HttpOnly; SameSite=Strict",
                ] {
                    let value = HeaderValue::from_static(cookie);
                    answer.headers_mut().append(header::SET_COOKIE, value);
                }
                answer
            }
            Visitor::Refused => {
                self.book(1);
                message(StatusCode::UNAUTHORIZED, "")
            }
        }
    }

    fn book(&self, attempts: u64) {
        self.counters.attempts.fetch_add(attempts, Ordering::Relaxed);
    }
}

enum Visitor<'a> {
    Known(&'a User),
    Nobody,
    /// Credentials that are wrong, as opposed to a session that has ended.
    Refused,
}

fn visitor<'a>(directory: &'a Directory, headers: &HeaderMap) -> Visitor<'a> {
    let passphrase = cookie(headers, PASSPHRASE);
    if let Some(user) = passphrase.and_then(|value| directory.sessions.get(value)) {
        return Visitor::Known(user);
    }
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Visitor::Nobody };
    let value = value.to_str().unwrap_or_default();
    let user = match value.split_once(' ') {
        Some(("Basic", encoded)) => STANDARD
            .decode(encoded)
            .ok()
            .and_then(|pair| String::from_utf8(pair).ok())
            .and_then(|pair| directory.passwords.get(&pair)),
        Some(("Bearer", token)) => directory.tokens.get(token),
        _ => return Visitor::Nobody,
    };
    user.map_or(Visitor::Refused, Visitor::Known)
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE);
    let pairs = lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).rfind(|(key, _)| *key == name).map(|p| p.1)
}

fn app_id(query: Option<&str>) -> Option<String> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix("appId="))?;
    Some(percent_decoded(value)).filter(|id| !id.is_empty())
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match digits.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Canned {
    fn answer(&self) -> Response<Full<Bytes>> {
        // A status no server can send is the test's mistake, and shows as one.
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::IM_A_TEAPOT);
        answer(status, self.content_type, self.body.clone().into())
    }
}

fn redirect(to: &Uri) -> Response<Full<Bytes>> {
    let mut answer = page(StatusCode::FOUND, "Redirecting");
    if let Ok(location) = HeaderValue::from_str(&to.to_string()) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

/// What [`STATUS`] answers on an ordinary day.
pub(super) fn status_page() -> Bytes {
    status(false).to_string().into()
}

fn status(maintenance: bool) -> serde_json::Value {
    serde_json::json!({
        "installed": true, "maintenance": maintenance, "needsDbUpgrade": false,
        "version": "32.0.1.2", "versionstring": "32.0.1", "edition": "",
        "productname": "Nextcloud", "extendedSupport": false,
    })
}

fn message(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    json(status, &serde_json::json!({ "message": text }))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    // Plain structs and strings always have a JSON form.
    let text = serde_json::to_vec(value).unwrap_or_default();
    answer(status, "application/json; charset=utf-8", text.into())
}

fn page(status: StatusCode, title: &str) -> Response<Full<Bytes>> {
    let text = format!("<!DOCTYPE html><html><head><title>{title}</title></head></html>\n");
    answer(status, "text/html; charset=UTF-8", text.into())
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

#[cfg(test)]
mod tests;
