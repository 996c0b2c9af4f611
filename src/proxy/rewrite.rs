//! What an ExApp is told beyond the visitor's own words: path, id, version and credentials
//! (contract 1.4). What it is not told is in `http::headers`. Sans-io.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use http::uri::{InvalidUri, PathAndQuery, Uri};

use crate::access::{Authorization, Grant};

const AA_VERSION: HeaderName = HeaderName::from_static("aa-version");
const AUTHORIZATION_APP_API: HeaderName = HeaderName::from_static("authorization-app-api");
const EX_APP_ID: HeaderName = HeaderName::from_static("ex-app-id");
const EX_APP_VERSION: HeaderName = HeaderName::from_static("ex-app-version");

/// The version of AppAPI's protocol that HaRP names, whatever AppAPI sent.
const PROTOCOL: HeaderValue = HeaderValue::from_static("32");

/// The parts of a request that are replaced; owned, so that the request they were made from can
/// be changed.
#[derive(Debug)]
pub struct Rewrite {
    uri: Uri,
    id: HeaderValue,
    version: HeaderValue,
    authorization: Option<HeaderValue>,
}

/// The record holds what cannot stand in a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An id or version with control characters.
    #[error("rewrite: the ExApp's id or version cannot stand in a header")]
    Header(#[from] InvalidHeaderValue),
    /// Does not happen for a path that came in a request.
    #[error("rewrite: the target path is not valid")]
    Path(#[from] InvalidUri),
}

impl Rewrite {
    /// What `grant` demands, with the visitor's query appended unchanged.
    ///
    /// # Errors
    /// [`Error`]: such a request cannot be sent.
    pub fn new(grant: &Grant<'_>, query: Option<&str>) -> Result<Self, Error> {
        let path = match query {
            Some(query) => PathAndQuery::from_maybe_shared([grant.path, query].join("?"))?,
            None => PathAndQuery::try_from(grant.path)?,
        };
        Ok(Self {
            uri: Uri::from(path),
            id: HeaderValue::from_str(grant.app_id)?,
            version: HeaderValue::from_str(grant.upstream.version())?,
            authorization: match &grant.authorization {
                Authorization::AsSigned => None,
                Authorization::Visitor { user_id } => {
                    Some(credentials(user_id, grant.upstream.token())?)
                }
            },
        })
    }

    /// Changes the request head, whose headers `http::headers::towards_exapp` has been over: the
    /// visitor's `Connection` line must not be able to take these away.
    pub fn apply(self, uri: &mut Uri, headers: &mut HeaderMap) {
        *uri = self.uri;
        headers.insert(EX_APP_ID, self.id);
        headers.insert(EX_APP_VERSION, self.version);
        headers.insert(AA_VERSION, PROTOCOL);
        if let Some(authorization) = self.authorization {
            headers.insert(AUTHORIZATION_APP_API, authorization);
        }
    }
}

fn credentials(user: &str, token: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(STANDARD.encode([user, token].join(":")))?;
    value.set_sensitive(true);
    Ok(value)
}
