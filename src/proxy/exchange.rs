//! What one request leaves behind when it has ended: a count and, if asked for, a line in the log.
//!
//! The line is one event of the target `trigon::access` at `debug`. It holds no query, cookie,
//! token or key.

use std::net::IpAddr;
use std::time::Instant;

use http::header::{HeaderMap, HeaderName};
use http::{Method, Request, Response};
use hyper::body::Body as _;

use crate::access::Reason;
use crate::http::body::Body;
use crate::http::server::Abort;
use crate::observe::metrics::metrics;

/// Where AppAPI and proxies put a request's id.
const REQUEST_IDS: [HeaderName; 2] =
    [HeaderName::from_static("aa-request-id"), HeaderName::from_static("x-request-id")];

/// Longest request id and path repeated in the log.
const MAX_ID: usize = 64;
const MAX_PATH: usize = 1024;

/// One request from its head to the head of its answer.
pub struct Exchange {
    started: Instant,
    why: (usize, &'static str),
    line: Option<Line>,
}

/// What the log line repeats of the request.
struct Line {
    client: IpAddr,
    method: Method,
    path: String,
    request_id: Option<String>,
}

impl Exchange {
    /// Begins with the request's head; `client` is its TCP peer until more is known.
    pub fn begin<B>(request: &Request<B>, client: IpAddr) -> Self {
        let wanted = tracing::enabled!(target: "trigon::access", tracing::Level::DEBUG);
        let line = wanted.then(|| Line {
            client,
            method: request.method().clone(),
            path: request.uri().path().chars().take(MAX_PATH).collect(),
            request_id: request_id(request.headers()),
        });
        // Refused before anybody decided anything.
        Self { started: Instant::now(), why: (usize::MAX, "bad_request"), line }
    }

    /// Who asks, once the proxies in front are seen through.
    pub(super) fn from(&mut self, client: IpAddr) {
        if let Some(line) = &mut self.line {
            line.client = client;
        }
    }

    /// How it was decided.
    pub(super) fn decided(&mut self, reason: Reason) {
        self.why = (reason as usize, reason.as_str());
    }

    /// Ends with the head of the answer, or with none.
    pub fn end(self, answer: &Result<Response<Body>, Abort>) {
        let took = self.started.elapsed();
        let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
        let (number, reason) = self.why;
        metrics().requests.ended(number, reason, status, took);
        let Some(Line { client, method, path, request_id }) = self.line else { return };
        let bytes = answer.as_ref().ok().and_then(|answer| answer.body().size_hint().exact());
        tracing::debug!(
            target: "trigon::access",
            request_id,
            client.addr = %client,
            %method,
            path,
            app_id = app_id(&path),
            status,
            reason,
            bytes,
            elapsed_ms = took.as_secs_f64() * 1000.0,
            "request"
        );
    }
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
