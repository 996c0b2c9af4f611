//! What one request leaves behind when its answer has begun: a count and, if asked for, a line in
//! the log. Its [`Transfer`] goes on with the answer and counts, and writes the access log, when
//! that has ended.
//!
//! The line is one event of the target `trigon::access` at `debug`. It holds no query, cookie,
//! token or key.

use std::net::IpAddr;

use aws_lc_rs::hmac;
use http::header::{HeaderMap, HeaderName};
use http::{Method, Request, Response};
use hyper::body::Body as _;

use crate::access::Reason;
use crate::guard::Guard;
use crate::http::answer_body::AnswerBody;
use crate::http::body::Body;
use crate::http::client;
use crate::http::server::{Abort, Connection};
use crate::http::tls::TlsVersion;
use crate::http::upgrade::Heir;
use crate::net::Target;
use crate::observe::metrics::metrics;
use crate::observe::metrics::requests::Route;
use crate::observe::transfer::{End, Transfer};

/// Where AppAPI and proxies put a request's id.
const REQUEST_IDS: [HeaderName; 2] =
    [HeaderName::from_static("aa-request-id"), HeaderName::from_static("x-request-id")];

/// Longest request id and path repeated in the log.
const MAX_ID: usize = 64;
const MAX_PATH: usize = 1024;

/// What the digest of a user begins with, so that no other use of the key makes the same one.
const LABEL: &[u8] = b"trigon/access-log/v1\0";

/// One request from its head to the head of its answer.
pub struct Exchange {
    transfer: Transfer,
    is_head: bool,
    /// How its access was decided; nobody decides about requests for Nextcloud itself.
    why: Option<(usize, &'static str)>,
    line: Option<Box<Line>>,
}

/// What the log line repeats of the request.
struct Line {
    client: IpAddr,
    method: Method,
    path: String,
    request_id: Option<String>,
}

impl Exchange {
    /// Begins with the request's head; its client is the TCP peer until more is known.
    pub fn begin<B>(request: &mut Request<B>, connection: &Connection) -> Self {
        let wanted = tracing::enabled!(target: "trigon::access", tracing::Level::DEBUG);
        let line = wanted.then(|| {
            Box::new(Line {
                client: connection.peer.ip(),
                method: request.method().clone(),
                path: request.uri().path().chars().take(MAX_PATH).collect(),
                request_id: request_id(request.headers()),
            })
        });
        let mut transfer = Transfer::begin(
            request,
            connection.peer,
            connection.tls.map(TlsVersion::as_str),
            request_id,
        );
        let path = request.uri().path();
        transfer.note(|record| record.exapp = app_id(path).map(ToOwned::to_owned));
        // Refused before anybody decided anything.
        let why = Some((usize::MAX, "bad_request"));
        Self { transfer, is_head: request.method() == Method::HEAD, why, line }
    }

    /// Who asks, once the proxies in front are seen through.
    pub fn from(&mut self, client: IpAddr) {
        self.transfer.client(client);
        if let Some(line) = &mut self.line {
            line.client = client;
        }
    }

    /// How it was decided.
    pub(super) fn decided(&mut self, reason: Reason) {
        self.why = Some((reason as usize, reason.as_str()));
        self.transfer.note(|record| record.reason = reason.as_str());
    }

    /// What it is for.
    pub fn route(&mut self, route: Route) {
        self.transfer.route(route);
    }

    /// Where it goes, and for whom; an anonymous visitor has an empty id.
    pub(super) fn goes(&mut self, to: &Target, user: Option<&str>, guard: &Guard) {
        self.transfer.route(Route::ExApp);
        self.transfer.note(|record| {
            record.upstream = Some(to.to_string());
            record.user = user.filter(|user| !user.is_empty()).and_then(|user| digest(user, guard));
        });
    }

    /// Makes what the ExApp does a part of the request's trace.
    pub(super) fn trace_into(&self, headers: &mut HeaderMap) {
        self.transfer.trace_into(headers);
    }

    /// It is for Nextcloud itself.
    pub(super) fn for_web(&mut self, client: IpAddr) {
        self.from(client);
        self.route(Route::Web);
        self.why = None;
        self.transfer.note(|record| record.reason = "web");
    }

    /// The listener itself answers, for this reason.
    pub fn answered_here(&mut self, reason: &'static str) {
        self.route(Route::Listener);
        self.why = None;
        self.transfer.note(|record| record.reason = reason);
    }

    /// It goes to this web node; where it was before does not count any more.
    pub(super) fn goes_on(&mut self, to: &Target) {
        self.transfer.ends(End::ClientAbort);
        self.transfer.note(|record| record.upstream = Some(to.to_string()));
    }

    /// The upstream could not be reached.
    pub(super) fn failed(&mut self, error: &client::Error) {
        self.transfer.ends(error.end());
    }

    /// Ends with the head of the answer, or with none; the answer goes on.
    pub fn end(self, answer: Result<Response<Body>, Abort>) -> Result<Response<AnswerBody>, Abort> {
        let Self { mut transfer, is_head, why, line } = self;
        let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
        if let Some((number, reason)) = why {
            metrics().decisions.made(number, reason);
        }
        transfer.answered(status);
        if let Some(line) = line {
            let Line { client, method, path, request_id } = *line;
            let bytes = answer.as_ref().ok().and_then(|answer| answer.body().size_hint().exact());
            tracing::debug!(
                target: "trigon::access",
                request_id,
                client.addr = %client,
                %method,
                path,
                app_id = app_id(&path),
                status,
                reason = why.map(|(_, reason)| reason),
                bytes,
                elapsed_ms = transfer.elapsed().as_secs_f64() * 1000.0,
                "request"
            );
        }
        let mut answer = answer?;
        if is_head {
            // Nobody reads its body.
            transfer.finished();
        }
        match answer.extensions_mut().remove::<Heir>() {
            Some(heir) => {
                heir.inherit(transfer);
                Ok(answer.map(AnswerBody::from))
            }
            None => Ok(answer.map(|body| AnswerBody::new(body, transfer))),
        }
    }
}

/// The first 16 digits of a keyed digest: the same user is the same on every node, and nobody
/// without the shared key can try names.
fn digest(user: &str, guard: &Guard) -> Option<String> {
    let (_, key) = guard.keys().iter().next()?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let tag = hmac::sign(&key, &[LABEL, user.as_bytes()].concat());
    Some(tag.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// The id as typed; none when the path has none.
fn app_id(path: &str) -> Option<&str> {
    path.strip_prefix("/exapps/")?.split('/').next().filter(|id| !id.is_empty())
}

/// Only what cannot be mistaken for more of the line.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = REQUEST_IDS.iter().find_map(|name| headers.get(name))?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
    (!id.is_empty() && id.len() <= MAX_ID && id.bytes().all(plain)).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_request_id_is_repeated() {
        for (name, value, expected) in [
            ("aa-request-id", "4Vq9Zx-1", Some("4Vq9Zx-1")),
            ("x-request-id", "a/b.c:d", Some("a/b.c:d")),
            ("x-request-id", "a b", None),
            ("x-request-id", "", None),
            ("x-correlation-id", "a", None),
        ] {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )]);
            assert_eq!(request_id(&headers).as_deref(), expected, "{name}: {value}");
        }
        let long = http::HeaderValue::try_from("x".repeat(MAX_ID + 1)).unwrap();
        let headers = HeaderMap::from_iter([(REQUEST_IDS[0].clone(), long)]);
        assert_eq!(request_id(&headers), None);
    }

    #[test]
    fn the_app_is_read_from_the_path() {
        for (path, expected) in [
            ("/exapps/Demo/a", Some("Demo")),
            ("/exapps/demo", Some("demo")),
            ("/exapps/", None),
            ("/", None),
        ] {
            assert_eq!(app_id(path), expected, "{path}");
        }
    }
}
