//! A request for Nextcloud itself, or for a server beside it: to the least busy web node, and to
//! the next one if that fails and it can do no harm.
//!
//! The path arrives byte for byte, but for the prefix of a route that takes its own away; of the
//! headers only those of this connection and the forwarded ones change. Bodies stream both ways,
//! except for the small one of a query (`PROPFIND`, `REPORT`): it is read first, so that the query
//! can be repeated.

use std::error::Error as StdError;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};

use super::answer;
use super::exchange::Exchange;
use super::forward::{Forward, Letter, Returned};
use super::well_known;
use crate::balance::budget::{self, Nature, Reached};
use crate::balance::pool::{Nobody, Outcome};
use crate::http::body::{Body, BodyError};
use crate::http::client::Error;
use crate::http::client_ip::TrustedProxies;
use crate::http::extended_connect::is_websocket;
use crate::http::forwarded::{self, Origin};
use crate::http::headers;
use crate::http::server::Connection;
use crate::http::upgrade::Upgrades;
use crate::observe::metrics::metrics;
use crate::web::{Place, Pool, Pools, judge};

/// Longest body of a query that is read before it is sent on.
const SMALL: u64 = 64 * 1024;

/// Carries requests to the pools.
pub struct Nextcloud {
    pools: Arc<Pools>,
    forward: Forward,
}

/// Why a server did not give the answer a client gets.
enum Miss {
    /// It gave none.
    Failed(Returned),
    /// One that another server's may replace.
    Replaceable(Response<Body>),
    /// Its checks fail, and the request can be repeated.
    Lost,
}

impl Nextcloud {
    /// Over the pools' connections; upgraded ones end up in `upgrades`.
    pub fn new(pools: Arc<Pools>, upgrades: Upgrades) -> Self {
        let forward = Forward::new(pools.client().clone(), upgrades);
        Self { pools, forward }
    }

    /// The pools behind it.
    pub fn pools(&self) -> &Arc<Pools> {
        &self.pools
    }

    /// Handles one request up to the response head.
    pub async fn handle(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
        exchange: &mut Exchange,
        trusted: &TrustedProxies,
    ) -> Response<Body> {
        let peer = connection.peer.ip();
        let client = trusted.client(peer, request.headers());
        exchange.for_web(client);
        let (mut head, body) = request.into_parts();
        if head.method == Method::OPTIONS && head.uri.path() == "*" {
            return answer::no_content();
        }
        if head.method == Method::CONNECT && !is_websocket(&head) {
            return answer::not_implemented();
        }
        if let Some(elsewhere) = well_known::redirect(head.uri.path(), head.uri.query()) {
            return moved(&elsewhere);
        }
        let found = self.pools.find(head.uri.path());
        headers::towards_upstream(&mut head.headers);
        headers::complete_host(&mut head.headers, &head.uri, head.version);
        let is_tls = connection.tls.is_some();
        let is_trusted = trusted.contains(peer);
        forwarded::tell(&mut head.headers, Origin { peer, is_trusted, client, is_tls });
        let Some(uri) = origin_form(&head.uri, found.strip) else {
            return answer::bad_request();
        };
        head.uri = uri;
        let is_safe = budget::is_safe(head.method.as_str());
        let body = match self.take(&head, body, is_safe).await {
            Ok(body) => body,
            Err(BodyError::Idle(_)) => return answer::web_failed(&Error::RequestStalled),
            Err(_) => return answer::web_failed(&Error::RequestBroken),
        };
        self.deliver(found.pool, Letter::new(head, body), is_safe, connection, exchange).await
    }

    /// The body as it will be sent: that of a small query is at hand whole.
    async fn take(&self, head: &Parts, body: Incoming, is_safe: bool) -> Result<Body, BodyError> {
        let is_small =
            !body.is_end_stream() && body.size_hint().exact().is_some_and(|l| l <= SMALL);
        let upload = self.forward.upload(head, body);
        if is_safe && is_small && head.headers.contains_key(CONTENT_LENGTH) {
            return Ok(Body::full(upload.collect().await?.to_bytes()));
        }
        Ok(upload)
    }

    /// Sends the request from server to server until one answers or there is no sense in it.
    async fn deliver(
        &self,
        pool: &Arc<Pool>,
        mut letter: Letter,
        is_safe: bool,
        connection: &Connection,
        exchange: &mut Exchange,
    ) -> Response<Body> {
        pool.begun();
        let mut tried = Vec::new();
        // What the client gets when nobody does better.
        let mut so_far = None;
        loop {
            let place = match pool.place(&tried).await {
                Ok(place) => Arc::new(place),
                Err(nobody) => return so_far.unwrap_or_else(|| nobody_there(pool, nobody)),
            };
            tried.push(place.at());
            exchange.goes_on(place.target());
            let copy = letter.again();
            let nature = Nature { is_safe, is_whole: copy.is_some() };
            let repeatable = is_safe && copy.is_some();
            let miss = match self.try_one(&place, letter, repeatable, connection).await {
                Ok(response) => return response.map(|body| body.holding(place)),
                Err(miss) => miss,
            };
            let (next, reached) = match miss {
                Miss::Lost => {
                    so_far = Some(answer::web_failed(&Error::Silent));
                    (copy, Reached::Server)
                }
                Miss::Replaceable(response) => {
                    so_far = Some(response);
                    (copy, Reached::Server)
                }
                Miss::Failed(Returned { error, letter: unsent }) => {
                    let (outcome, reached) = judge::failed(&error, unsent.is_some());
                    place.judge(outcome);
                    let cause: &(dyn StdError + 'static) = &error;
                    let to = place.target();
                    tracing::debug!(upstream.addr = %to, error = cause, "web node failed");
                    metrics().upstream_failed(error.kind());
                    exchange.failed(&error);
                    so_far = Some(answer::web_failed(&error));
                    if outcome == Outcome::Neither {
                        (None, reached)
                    } else {
                        (unsent.or(copy), reached)
                    }
                }
            };
            let Some(next) = next.filter(|_| pool.may_retry(reached, nature)) else {
                return so_far.unwrap_or_else(answer::bad_request);
            };
            letter = next;
        }
    }

    /// Sends the request to one server. One that can be repeated does not wait for a server whose
    /// checks fail.
    async fn try_one(
        &self,
        place: &Arc<Place>,
        letter: Letter,
        repeatable: bool,
        connection: &Connection,
    ) -> Result<Response<Body>, Miss> {
        let places = (connection.slot.clone(), Arc::clone(place));
        let sent = self.forward.try_send(place.target(), letter, places);
        let lost = async {
            if repeatable {
                place.is_lost().await;
            } else {
                std::future::pending().await
            }
        };
        let response = tokio::select! {
            biased;
            sent = sent => sent.map_err(Miss::Failed)?,
            () = lost => return Err(Miss::Lost),
        };
        let (status, headers) = (response.status(), response.headers());
        place.judge(judge::answered(status, headers));
        if repeatable && judge::is_replaceable(status, headers) {
            return Err(Miss::Replaceable(response));
        }
        Ok(response)
    }
}

/// The target as a server gets it: without scheme and host, and without the first `strip` bytes of
/// its path.
fn origin_form(uri: &Uri, strip: usize) -> Option<Uri> {
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let target = target.get(strip..).filter(|rest| rest.starts_with('/'))?;
    PathAndQuery::try_from(target).ok().map(Uri::from)
}

fn moved(to: &str) -> Response<Body> {
    let Ok(location) = HeaderValue::from_str(to) else { return answer::bad_request() };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    *response.headers_mut() = HeaderMap::from_iter([(LOCATION, location)]);
    response
}

fn nobody_there(pool: &Pool, nobody: Nobody) -> Response<Body> {
    let kind = match nobody {
        Nobody::Fit => "no_backend",
        Nobody::Idle => "backends_busy",
    };
    metrics().upstream_failed(kind);
    tracing::debug!(pool = pool.name(), kind, "no web node for a request");
    answer::no_backend(nobody)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_stays_byte_for_byte_but_for_the_stripped_prefix() {
        for (uri, strip, expected) in [
            (
                "/remote.php/dav/files/a/x%2Fy%23%20z?a=%3F",
                0,
                "/remote.php/dav/files/a/x%2Fy%23%20z?a=%3F",
            ),
            ("//a//b/../c/./", 0, "//a//b/../c/./"),
            ("https://cloud.example/a?b", 0, "/a?b"),
            ("https://cloud.example", 0, "/"),
            ("/push/ws?x=1", 5, "/ws?x=1"),
            ("/push/", 5, "/"),
            ("/a?", 0, "/a?"),
        ] {
            let uri: Uri = uri.parse().unwrap();
            let found = origin_form(&uri, strip).unwrap();
            assert_eq!(found.path_and_query().unwrap().as_str(), expected, "{uri}");
        }
        let raw = Uri::from_maybe_shared(&b"/f/na\xc3\xafve"[..]).unwrap();
        let found = origin_form(&raw, 0).unwrap();
        assert_eq!(found.path().as_bytes(), b"/f/na\xc3\xafve");
    }
}
