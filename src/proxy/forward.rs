//! One request to one target: bodies stream both ways, a 101 leaves HTTP behind.

use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;

use super::answer;
use crate::http::body::Body;
use crate::http::client::{Client, Error};
use crate::http::headers;
use crate::http::server::Slot;
use crate::http::upgrade::Upgrades;
use crate::net::Target;

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
        let asked = headers::requested_upgrade(&head.headers).is_some();
        let ours = head.extensions.remove::<OnUpgrade>().filter(|_| asked);
        // The ExApp's connection is ours and pooled, whatever the visitor speaks.
        head.version = Version::HTTP_11;
        if !body.is_end_stream() && !head.headers.contains_key(CONTENT_LENGTH) {
            // Said explicitly, because a GET with a chunked body would lose it otherwise.
            head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let body = Body::stream(body, self.client.config().request_body);
        let mut response = self.client.send(to, Request::from_parts(head, body)).await?;

        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(ours) = ours else {
                return Ok(answer::bad_gateway());
            };
            self.upgrades.join(ours, hyper::upgrade::on(&mut response), slot);
        }
        headers::towards_client(response.status(), response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        Ok(response)
    }
}
