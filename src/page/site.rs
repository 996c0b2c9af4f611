//! From a request to an answer: who may see what, which order is carried out. The only place that
//! knows the paths of the page.
//!
//! Every answer carries the same strict headers. A request that changes something has to come from
//! a page of this site, belong to an open session and bring that session's own word along; each of
//! the three is checked for itself.

use std::future::ready;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use http::header::SET_COOKIE;
use http::header::{
    ALLOW, CONTENT_TYPE, COOKIE, HOST, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use http::request::Parts as Head;
use http::{Method, Response, StatusCode};
use maud::Markup;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::doorman::Doorman;
use super::form::Form;
use super::live::Live;
use super::look::Look;
use super::orders::{self, Answer, Audit, Order};
use super::sessions::{self, Key, Sessions, Visitor};
use super::{frame, origin, parts};
use crate::admin::bans::Removal;
use crate::admin::server::Source;
use crate::admin::{drain, failover};
use crate::http::body::Body;
use crate::secret::Secret;

/// How long a page waits for an order to end; a drain may take longer and goes on.
const WAIT_FOR_ORDER: Duration = Duration::from_secs(3);

/// What every answer says to the browser.
const POLICY: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// Why a form is not looked at.
struct Refused {
    status: StatusCode,
    why: &'static str,
}

/// The page of one node.
pub struct Site {
    token: Secret,
    secure: bool,
    source: Source,
    audit: Audit,
    doorman: Mutex<Doorman>,
    sessions: Arc<Mutex<Sessions>>,
    live: Live,
}

impl Site {
    /// Shows what `source` tells; `audit` keeps every order.
    pub fn new(config: &Config, source: Source, audit: Audit, stop: CancellationToken) -> Self {
        let watched = source.clone();
        Self {
            token: config.token.clone(),
            secure: config.tls.is_some(),
            source,
            audit,
            doorman: Mutex::default(),
            sessions: Arc::default(),
            live: Live::new(move || parts::all(&Look::take(&watched)), stop),
        }
    }

    /// Tells open pages what has changed, until the stop.
    pub(super) async fn watch(&self) {
        self.live.run().await;
    }

    /// The answer to a request; `body` is what a POST brought.
    pub(super) async fn answer(&self, head: &Head, body: &[u8], peer: IpAddr) -> Response<Body> {
        let is_read = matches!(head.method, Method::GET | Method::HEAD);
        let is_post = head.method == Method::POST;
        let order = head.uri.path().strip_prefix("/orders/");
        let answer = match (head.uri.path(), order) {
            ("/page.css", _) if is_read => fixed(frame::STYLE, "text/css; charset=utf-8"),
            ("/page.js", _) if is_read => fixed(frame::SCRIPT, "text/javascript; charset=utf-8"),
            ("/", _) if is_read => self.page(head),
            ("/live", _) if is_read => self.stream(head),
            ("/login", _) if is_read => html(StatusCode::OK, &frame::login(None)),
            ("/login", _) if is_post => self.log_in(head, body, peer),
            ("/logout", _) if is_post => self.log_out(head, body),
            (_, Some(order)) if is_read => self.ask(head, order),
            (_, Some(order)) if is_post => self.order(head, order, body, peer).await,
            ("/page.css" | "/page.js" | "/" | "/live", _) => not_allowed("GET, HEAD"),
            ("/login", _) | (_, Some(_)) => not_allowed("GET, HEAD, POST"),
            ("/logout", _) => not_allowed("POST"),
            _ => refuse(StatusCode::NOT_FOUND, "There is no such page."),
        };
        strict(answer)
    }

    /// A form nobody of ours would send.
    pub(super) fn too_long(&self) -> Response<Body> {
        strict(refuse(StatusCode::PAYLOAD_TOO_LARGE, "The form is too long."))
    }

    /// A form that did not arrive.
    pub(super) fn broken_off(&self) -> Response<Body> {
        strict(refuse(StatusCode::BAD_REQUEST, "The form did not arrive whole."))
    }

    fn page(&self, head: &Head) -> Response<Body> {
        let Some(visitor) = self.visitor(head) else { return see("/login") };
        let note = self.sessions().note(visitor.key);
        let look = Look::take(&self.source);
        let parts = parts::all(&look);
        let orders = self.orders();
        html(StatusCode::OK, &frame::page(&look, &parts, &visitor.csrf, note.as_deref(), &orders))
    }

    fn stream(&self, head: &Head) -> Response<Body> {
        if head.headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin") {
            return refuse(StatusCode::FORBIDDEN, "The request comes from another site.");
        }
        let Some(visitor) = self.visitor(head) else {
            return refuse(StatusCode::UNAUTHORIZED, "Log in first.");
        };
        let sessions = Arc::clone(&self.sessions);
        let goes_on = move || lock(&sessions).is_open(visitor.key, Instant::now());
        match self.live.stream(goes_on) {
            Some(body) => typed(StatusCode::OK, "text/event-stream", body),
            None => refuse(StatusCode::SERVICE_UNAVAILABLE, "Too many pages are open."),
        }
    }

    fn log_in(&self, head: &Head, body: &[u8], peer: IpAddr) -> Response<Body> {
        if let Err(why) = origin::is_own(&head.headers, authority(head), self.secure) {
            return self.foreign(head, peer, why);
        }
        let form = match Form::posted(&head.headers, body) {
            Ok(form) => form,
            Err(why) => return refuse(StatusCode::BAD_REQUEST, why),
        };
        let now = Instant::now();
        {
            // Held from the question to the verdict: tries that come at once are judged in turn.
            let mut doorman = self.doorman.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(wait) = doorman.admit(peer, now) {
                return too_soon(wait);
            }
            if !self.token.matches(form.get("token").as_bytes()) {
                let failures = doorman.failed(peer, now);
                tracing::warn!(client.addr = %peer, failures, "wrong token at the status page");
                let problem = Some("This is not the token of this node.");
                return html(StatusCode::FORBIDDEN, &frame::login(problem));
            }
            doorman.passed(peer);
        }
        let (mut id, mut csrf) = ([0; 32], [0; 32]);
        if rand::fill(&mut id).and_then(|()| rand::fill(&mut csrf)).is_err() {
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, "There are no random numbers.");
        }
        let (id, csrf) = (sessions::text(id), sessions::text(csrf));
        let mut sessions = self.sessions();
        for cookie in self.cookies(head) {
            sessions.close(Key::of(cookie));
        }
        sessions.open(Key::of(&id), csrf, now);
        drop(sessions);
        tracing::info!(client.addr = %peer, "an admin has logged in to the status page");
        let mut answer = see("/");
        self.set_cookie(&mut answer, &id, "");
        answer
    }

    fn log_out(&self, head: &Head, body: &[u8]) -> Response<Body> {
        let visitor = match self.authorize(head, body) {
            Ok((visitor, _)) => visitor,
            Err(Refused { status, why }) => return refuse(status, why),
        };
        self.sessions().close(visitor.key);
        let mut answer = see("/login");
        self.set_cookie(&mut answer, "", "; Max-Age=0");
        answer
    }

    /// The question before an order.
    fn ask(&self, head: &Head, name: &str) -> Response<Body> {
        let Some(visitor) = self.visitor(head) else { return see("/login") };
        let form = match Form::query(head.uri.query()) {
            Ok(form) => form,
            Err(why) => return refuse(StatusCode::BAD_REQUEST, why),
        };
        match self.known(name, &form) {
            Some(order) => {
                let node = (self.source.status)().name;
                html(StatusCode::OK, &frame::confirm(&order, &node, &visitor.csrf, None))
            }
            None => refuse(StatusCode::NOT_FOUND, "There is no such order here."),
        }
    }

    async fn order(&self, head: &Head, name: &str, body: &[u8], peer: IpAddr) -> Response<Body> {
        let (visitor, form) = match self.authorize(head, body) {
            Ok(authorized) => authorized,
            Err(Refused { status, why }) => return refuse(status, why),
        };
        let Some(order) = self.known(name, &form) else {
            return refuse(StatusCode::NOT_FOUND, "There is no such order here.");
        };
        let reason = match orders::reason(&form) {
            Ok(reason) => reason.to_owned(),
            Err(problem) => {
                let node = (self.source.status)().name;
                let page = frame::confirm(&order, &node, &visitor.csrf, Some(&problem));
                return html(StatusCode::BAD_REQUEST, &page);
            }
        };
        let Some(answer) = self.begin(&order) else {
            return refuse(StatusCode::NOT_FOUND, "There is no such order here.");
        };
        let (what, target) = (order.name(), order.target().to_owned());
        tracing::info!(
            who = "admin",
            order = what,
            target,
            reason,
            client.addr = %peer,
            "order from the status page"
        );
        (self.audit)(format!("admin at {peer} orders: {order}; reason: {reason}"));
        // A task of its own: it goes on when the browser goes away.
        let mut task = tokio::spawn(async move {
            let outcome = answer.await;
            match &outcome {
                Ok(said) => tracing::info!(order = what, target, said, "order carried out"),
                Err(why) => tracing::warn!(order = what, target, why, "order not carried out"),
            }
            outcome
        });
        let note = match tokio::time::timeout(WAIT_FOR_ORDER, &mut task).await {
            Ok(Ok(Ok(said))) => format!("{order}: {said}"),
            Ok(Ok(Err(why))) => format!("{order}: refused, {why}"),
            Ok(Err(_panic)) => format!("{order}: broke, see the log"),
            Err(_elapsed) => format!("{order}: under way"),
        };
        self.sessions().leave(visitor.key, note);
        see("/")
    }

    /// The orders about the node that can be given here.
    fn orders(&self) -> Vec<Order> {
        match self.source.orders {
            Some(_) => vec![Order::Drain, Order::Undrain, Order::Failover],
            None => Vec::new(),
        }
    }

    /// An order by its name, if it can be given here.
    fn known(&self, name: &str, form: &Form) -> Option<Order> {
        let order = Order::read(name, form)?;
        let is_possible = match &order {
            Order::Unban(address) => self.source.desk.is_some() && !address.is_empty(),
            Order::Drain | Order::Undrain | Order::Failover => self.source.orders.is_some(),
        };
        is_possible.then_some(order)
    }

    fn begin(&self, order: &Order) -> Option<Answer> {
        let orders = self.source.orders.as_ref();
        match order {
            Order::Drain => {
                let begun = (orders?.drain)(drain::Order::default());
                let begun = begun.map(|far| far.to_string()).map_err(|why| why.to_string());
                Some(Box::pin(ready(begun)))
            }
            Order::Undrain => {
                let ended = (orders?.undrain)().was_draining;
                let said = if ended { "done" } else { "it was in service" };
                Some(Box::pin(ready(Ok(said.to_owned()))))
            }
            Order::Failover => {
                let moving = (orders?.failover)(failover::Order::default());
                Some(Box::pin(async {
                    let moved = moving.await.map_err(|why| why.to_string())?;
                    Ok(moved.to_string().trim_end().to_owned())
                }))
            }
            Order::Unban(address) => {
                let (desk, address) = (self.source.desk.clone()?, address.clone());
                Some(Box::pin(async move {
                    let removed = desk.remove(&Removal { address }).await;
                    let removed = removed.map_err(|refusal| refusal.to_string())?;
                    Ok(match (removed.still_banned_by, removed.found) {
                        (Some(wider), _) => format!("{wider} still keeps it out"),
                        (None, true) => "done".to_owned(),
                        (None, false) => "there was no ban and no failure".to_owned(),
                    })
                }))
            }
        }
    }

    /// Who sends this form, if it is really theirs.
    fn authorize(&self, head: &Head, body: &[u8]) -> Result<(Visitor, Form), Refused> {
        let forbidden = |why| Refused { status: StatusCode::FORBIDDEN, why };
        origin::is_own(&head.headers, authority(head), self.secure).map_err(forbidden)?;
        let ended = "The session has ended or never was; log in again.";
        let visitor = self.visitor(head).ok_or_else(|| forbidden(ended))?;
        let form = Form::posted(&head.headers, body)
            .map_err(|why| Refused { status: StatusCode::BAD_REQUEST, why })?;
        if !visitor.owns(form.get("csrf")) {
            return Err(forbidden(
                "The form does not belong to this session; load the page again.",
            ));
        }
        Ok((visitor, form))
    }

    /// Whoever is logged in and sends this.
    fn visitor(&self, head: &Head) -> Option<Visitor> {
        let (now, mut sessions) = (Instant::now(), self.sessions());
        self.cookies(head).find_map(|cookie| sessions.find(Key::of(cookie), now))
    }

    /// What the browser brings under the name of our cookie. Another service of this host may have
    /// set one of the same name, so there can be several.
    fn cookies<'h>(&self, head: &'h Head) -> impl Iterator<Item = &'h str> {
        let name = self.cookie();
        let lines = head.headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).take(64);
        pairs.filter_map(move |pair| {
            let (found, value) = pair.trim().split_once('=')?;
            (found == name).then_some(value)
        })
    }

    fn cookie(&self) -> &'static str {
        if self.secure { "__Host-trigon" } else { "trigon" }
    }

    fn set_cookie(&self, answer: &mut Response<Body>, value: &str, more: &str) {
        let secure = if self.secure { "; Secure" } else { "" };
        let name = self.cookie();
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{more}");
        if let Ok(value) = HeaderValue::try_from(text) {
            answer.headers_mut().insert(SET_COOKIE, value);
        }
    }

    fn foreign(&self, head: &Head, peer: IpAddr, why: &str) -> Response<Body> {
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        tracing::debug!(client.addr = %peer, host, why, "form refused at the status page");
        refuse(StatusCode::FORBIDDEN, why)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        lock(&self.sessions)
    }
}

fn lock(sessions: &Mutex<Sessions>) -> MutexGuard<'_, Sessions> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

fn authority(head: &Head) -> Option<&str> {
    head.uri.authority().map(http::uri::Authority::as_str)
}

fn too_soon(wait: Duration) -> Response<Body> {
    let seconds = wait.as_secs() + 1;
    let problem = format!("Too many wrong tokens came from your address. Wait {seconds} seconds.");
    let mut answer = html(StatusCode::TOO_MANY_REQUESTS, &frame::login(Some(&problem)));
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    answer
}

fn strict(mut answer: Response<Body>) -> Response<Body> {
    for (name, value) in POLICY {
        let value = HeaderValue::from_static(value);
        answer.headers_mut().insert(HeaderName::from_static(name), value);
    }
    answer
}

fn typed(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn html(status: StatusCode, page: &Markup) -> Response<Body> {
    typed(status, "text/html; charset=utf-8", Body::full(page.0.clone()))
}

fn fixed(text: &'static str, kind: &'static str) -> Response<Body> {
    typed(StatusCode::OK, kind, Body::full(text))
}

fn refuse(status: StatusCode, why: &str) -> Response<Body> {
    html(status, &frame::refusal(why))
}

fn not_allowed(methods: &'static str) -> Response<Body> {
    let mut answer = refuse(StatusCode::METHOD_NOT_ALLOWED, "This is not how this page is used.");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

/// Sends the browser on, to be asked for with GET.
fn see(path: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SEE_OTHER;
    answer.headers_mut().insert(LOCATION, HeaderValue::from_static(path));
    answer
}

#[cfg(test)]
mod tests;
