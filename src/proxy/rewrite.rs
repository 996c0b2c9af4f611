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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cluster::record::ExApp;

    use super::*;
    use crate::access::Upstream;

    fn grant<'r>(app_id: &'r str, path: &'r str, version: &str) -> Grant<'r> {
        let app = ExApp {
            id: app_id.to_lowercase(),
            token: "secret".to_owned(),
            version: version.to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 23001,
            routes: Vec::new(),
        };
        Grant {
            app_id,
            path,
            upstream: Upstream::Known(Arc::new(app)),
            authorization: Authorization::Visitor { user_id: "zoë".to_owned() },
            bruteforce_statuses: Vec::new(),
        }
    }

    fn applied(grant: &Grant<'_>, query: Option<&str>, headers: &mut HeaderMap) -> String {
        let mut uri = Uri::from_static("/exapps/Demo/old?old");
        Rewrite::new(grant, query).unwrap().apply(&mut uri, headers);
        uri.to_string()
    }

    #[test]
    fn path_and_query_arrive_as_typed() {
        for (path, query, expected) in [
            ("/", None, "/"),
            ("/a%2Fb", Some("x=%20&x"), "/a%2Fb?x=%20&x"),
            ("//a", Some(""), "//a?"),
            ("/a", Some("b?c"), "/a?b?c"),
        ] {
            let grant = grant("Demo", path, "1");
            assert_eq!(applied(&grant, query, &mut HeaderMap::new()), expected);
        }
    }

    #[test]
    fn a_visitor_cannot_speak_for_the_proxy() {
        let mut headers = HeaderMap::new();
        for name in [EX_APP_ID, EX_APP_VERSION, AA_VERSION, AUTHORIZATION_APP_API] {
            headers.append(&name, HeaderValue::from_static("forged"));
            headers.append(&name, HeaderValue::from_static("twice"));
        }
        applied(&grant("Demo", "/", "1.2.3"), None, &mut headers);
        let all = |name: HeaderName| headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all(EX_APP_ID), ["Demo"]);
        assert_eq!(all(EX_APP_VERSION), ["1.2.3"]);
        assert_eq!(all(AA_VERSION), ["32"]);
        assert_eq!(all(AUTHORIZATION_APP_API), [&STANDARD.encode("zoë:secret")]);
    }

    #[test]
    fn appapis_signature_is_left_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION_APP_API, HeaderValue::from_static("signed"));
        let signed =
            Grant { authorization: Authorization::AsSigned, ..grant("demo", "/heartbeat", "1") };
        applied(&signed, None, &mut headers);
        assert_eq!(headers[AUTHORIZATION_APP_API], "signed");
    }

    #[test]
    fn a_version_that_would_split_the_head_is_refused() {
        let grant = grant("demo", "/", "1\r\nx: y");
        assert!(matches!(Rewrite::new(&grant, None), Err(Error::Header(_))));
    }
}
