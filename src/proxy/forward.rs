//! One request to one target: bodies stream both ways, a 101 leaves HTTP behind.

use aws_lc_rs::rand;
use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;

use super::answer;
use crate::http::body::Body;
use crate::http::client::{Client, Error, Failure};
use crate::http::extended_connect::Bridge;
use crate::http::headers;
use crate::http::server::Slot;
use crate::http::upgrade::Upgrades;
use crate::net::Target;
use crate::observe::transfer::Notes;

/// Carries requests to targets.
#[derive(Clone)]
pub struct Forward {
    client: Client,
    upgrades: Upgrades,
}

impl Forward {
    /// Over this client; upgraded connections end up in `upgrades`.
    pub fn new(client: Client, upgrades: Upgrades) -> Self {
        Self { client, upgrades }
    }

    /// Sends the request, whose head is ready for the target, and returns the response for the
    /// visitor.
    ///
    /// # Errors
    /// The client's, unchanged; nothing has been answered then.
    pub async fn send(
        &self,
        to: &Target,
        head: Parts,
        body: Incoming,
        slot: Slot,
    ) -> Result<Response<Body>, Error> {
        let body = self.upload(&head, body);
        // Boxed: a request's state is moved into its connection as a whole.
        let sent = Box::pin(self.try_send(to, Letter::new(head, body), slot));
        sent.await.map_err(|returned| returned.error)
    }

    /// A visitor's body on its way to an upstream.
    pub(super) fn upload(&self, head: &Parts, body: Incoming) -> Body {
        let notes = head.extensions.get::<Notes>().cloned();
        Body::upload(body, self.client.config().request_body, notes)
    }

    /// The same for callers who may send the request elsewhere. `places` are kept for as long as
    /// an upgraded connection lives.
    ///
    /// # Errors
    /// The client's, with the request if no byte of it was sent.
    pub(super) async fn try_send(
        &self,
        to: &Target,
        letter: Letter,
        places: impl Send + 'static,
    ) -> Result<Response<Body>, Returned> {
        let mut response = match self.client.try_send(to, letter.request).await {
            Ok(response) => response,
            Err(Failure { error, unsent }) => {
                let (bridge, ours) = (letter.bridge, letter.ours);
                let letter = unsent.map(|request| Letter { request: *request, bridge, ours });
                return Err(Returned { error, letter });
            }
        };
        let (bridge, ours) = (letter.bridge, letter.ours);
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        headers::towards_client(response.status(), response.headers_mut());
        if let Some(bridge) = bridge {
            let status = response.status();
            match bridge.answer(status, response.headers_mut()) {
                Ok(status) => *response.status_mut() = status,
                Err(_) => return Ok(answer::bad_gateway()),
            }
        }
        if switched {
            let Some(ours) = ours else {
                return Ok(answer::bad_gateway());
            };
            let heir = self.upgrades.join(ours, hyper::upgrade::on(&mut response), places);
            response.extensions_mut().insert(heir);
        }
        *response.version_mut() = Version::HTTP_11;
        Ok(response)
    }
}

/// A request ready to be sent, and what its answer will be made of.
pub(super) struct Letter {
    request: Request<Body>,
    bridge: Option<Bridge>,
    ours: Option<OnUpgrade>,
}

/// A request that was not answered.
pub(super) struct Returned {
    /// Why.
    pub(super) error: Error,
    /// The request, if no byte of it was sent.
    pub(super) letter: Option<Letter>,
}

impl Letter {
    /// From a head that is ready for the target.
    pub(super) fn new(mut head: Parts, body: Body) -> Self {
        let bridge = Bridge::build(&mut head, nonce);
        let asked = headers::requested_upgrade(&head.headers).is_some();
        let ours = head.extensions.remove::<OnUpgrade>().filter(|_| asked);
        // The upstream's connection is ours and pooled, whatever the visitor speaks.
        head.version = Version::HTTP_11;
        if !body.is_end_stream() && !head.headers.contains_key(CONTENT_LENGTH) {
            // Said explicitly, because a GET with a chunked body would lose it otherwise.
            head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Self { request: Request::from_parts(head, body), bridge, ours }
    }

    /// The same request once more, if its body is at hand whole.
    pub(super) fn again(&self) -> Option<Self> {
        let body = self.request.body().again()?;
        let mut request = Request::new(body);
        *request.method_mut() = self.request.method().clone();
        *request.uri_mut() = self.request.uri().clone();
        *request.headers_mut() = self.request.headers().clone();
        *request.extensions_mut() = self.request.extensions().clone();
        Some(Self { request, bridge: self.bridge.clone(), ours: self.ours.clone() })
    }
}

/// The random part of a WebSocket handshake (RFC 6455 section 4.1). It proves that the other side
/// read it and guards nothing, so numbers that are not random cost nothing but that proof.
fn nonce() -> [u8; 16] {
    let mut nonce = [0; 16];
    if rand::fill(&mut nonce).is_err() {
        tracing::warn!("no random numbers for a WebSocket handshake");
    }
    nonce
}
