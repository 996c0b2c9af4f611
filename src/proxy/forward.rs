//! One request to one target: bodies stream both ways, a 101 leaves HTTP behind.

use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
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

    /// Sends the request, already rewritten for the target, and returns the response for the
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
        let client_upgrade = head.extensions.remove::<OnUpgrade>();
        let upgrade = headers::wanted_upgrade(&head.headers);
        headers::strip_hop_by_hop(&mut head.headers);
        if let Some(protocol) = upgrade.clone() {
            ask_upgrade(&mut head.headers, protocol);
        }
        // The ExApp's connection is ours and pooled, whatever the visitor speaks.
        head.version = Version::HTTP_11;
        let body = Body::stream(body, self.client.config().request_body);
        let mut response = self.client.send(to, Request::from_parts(head, body)).await?;

        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(ours), Some(_asked)) = (client_upgrade, upgrade) else {
                return Ok(answer::bad_gateway());
            };
            let theirs = hyper::upgrade::on(&mut response);
            self.upgrades.join(ours, theirs, slot);
            let protocol = response.headers().get(UPGRADE).cloned();
            headers::strip_hop_by_hop(response.headers_mut());
            if let Some(protocol) = protocol {
                ask_upgrade(response.headers_mut(), protocol);
            }
        } else {
            headers::strip_hop_by_hop(response.headers_mut());
        }
        *response.version_mut() = Version::HTTP_11;
        Ok(response)
    }
}

fn ask_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}
