//! One request to one target: bodies stream both ways, a 101 leaves HTTP behind.

use aws_lc_rs::rand;
use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;

use super::answer;
use crate::http::body::Body;
use crate::http::client::{Client, Error};
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
        mut head: Parts,
        body: Incoming,
        slot: Slot,
    ) -> Result<Response<Body>, Error> {
        let bridge = Bridge::build(&mut head, nonce);
        let asked = headers::requested_upgrade(&head.headers).is_some();
        let ours = head.extensions.remove::<OnUpgrade>().filter(|_| asked);
        // The ExApp's connection is ours and pooled, whatever the visitor speaks.
        head.version = Version::HTTP_11;
        if !body.is_end_stream() && !head.headers.contains_key(CONTENT_LENGTH) {
            // Said explicitly, because a GET with a chunked body would lose it otherwise.
            head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let notes = head.extensions.get::<Notes>().cloned();
        let body = Body::upload(body, self.client.config().request_body, notes);
        let mut response = self.client.send(to, Request::from_parts(head, body)).await?;

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
            let heir = self.upgrades.join(ours, hyper::upgrade::on(&mut response), slot);
            response.extensions_mut().insert(heir);
        }
        *response.version_mut() = Version::HTTP_11;
        Ok(response)
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
