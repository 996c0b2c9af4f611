//! What the decision needs to know of a request, borrowed from it. Sans-io.
//!
//! Repeated header lines count as HaRP's agent counts them: the last line wins. A value that is
//! not visible ASCII is treated as if it were empty.

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};

/// Cookie that makes a visitor worth asking Nextcloud about; `nc_session_id` alone does not.
const PASSPHRASE_COOKIE: &[u8] = b"oc_sessionPassphrase";

/// The facts of a request the decision starts from.
#[derive(Clone, Copy, Debug)]
pub struct AccessRequest<'r> {
    /// Path as received: no query, no decoding, no normalisation.
    pub path: &'r str,
    /// Whether `harp-shared-key` carries the shared key, compared in constant time by the caller.
    pub key_valid: bool,
    /// AppAPI's headers, when all six are present (contract 1.2, step 6).
    pub signed: Option<Signed<'r>>,
    /// Value of `docker-engine-port`, when present.
    pub docker_engine_port: Option<&'r str>,
    /// Whether the request carries anything Nextcloud could recognise a user by.
    pub has_credentials: bool,
}

/// What AppAPI says about the ExApp it calls.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'r> {
    /// Value of `ex-app-version`.
    pub version: &'r str,
    /// Value of `ex-app-host`.
    pub host: &'r str,
    /// Value of `ex-app-port`, not checked yet.
    pub port: &'r str,
    /// Whether `authorization-app-api` has a value; without one the routes apply after all.
    pub has_authorization: bool,
}

impl<'r> AccessRequest<'r> {
    /// Reads the facts from a request's path (without query) and headers. `key_valid` is the
    /// guard's opinion of [`offered_key`].
    pub fn new(path: &'r str, headers: &'r HeaderMap, key_valid: bool) -> Self {
        Self {
            path,
            key_valid,
            signed: signed(headers),
            docker_engine_port: last(headers, "docker-engine-port"),
            has_credentials: headers.contains_key(AUTHORIZATION) || has_passphrase(headers),
        }
    }
}

/// The key a request offers, for the guard to compare. `None` can never be valid.
pub fn offered_key(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get_all("harp-shared-key").iter().next_back().map(|value| value.as_bytes().trim_ascii())
}

fn signed(headers: &HeaderMap) -> Option<Signed<'_>> {
    if !headers.contains_key("ex-app-id") || !headers.contains_key("harp-shared-key") {
        return None;
    }
    Some(Signed {
        version: last(headers, "ex-app-version")?,
        host: last(headers, "ex-app-host")?,
        port: last(headers, "ex-app-port")?,
        has_authorization: !last_bytes(headers, "authorization-app-api")?.is_empty(),
    })
}

fn last<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let value = last_bytes(headers, name)?;
    Some(std::str::from_utf8(value).ok().filter(|text| text.is_ascii()).unwrap_or_default())
}

fn last_bytes<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    headers.get_all(name).iter().next_back().map(|value| value.as_bytes().trim_ascii())
}

/// Whether the last `oc_sessionPassphrase` cookie, over all cookie lines, is not empty.
fn has_passphrase(headers: &HeaderMap) -> bool {
    let mut has = false;
    for pair in
        headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|b| *b == b';'))
    {
        let mut parts = pair.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
        if parts.next() == Some(PASSPHRASE_COOKIE) {
            has = parts.next().is_some_and(|value| !value.is_empty());
        }
    }
    has
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn values_beyond_ascii_are_empty_and_harm_nothing_else() {
        let mut headers = HeaderMap::new();
        let odd = HeaderValue::from_bytes(b"caf\xe9").unwrap();
        for name in ["ex-app-version", "ex-app-host", "authorization-app-api", "harp-shared-key"] {
            headers.insert(name, odd.clone());
        }
        headers.insert("ex-app-id", odd.clone());
        headers.insert("ex-app-port", HeaderValue::from_static("23001"));
        headers.insert(
            COOKIE,
            HeaderValue::from_bytes(b"\xe9=\xe9; oc_sessionPassphrase=\xe9").unwrap(),
        );
        let request = AccessRequest::new("/", &headers, false);
        let signed = request.signed.unwrap();
        assert_eq!((signed.version, signed.host, signed.port), ("", "", "23001"));
        assert!(signed.has_authorization && request.has_credentials);
        assert_eq!(offered_key(&headers), Some(&b"caf\xe9"[..]));
    }

    #[test]
    fn no_key_header_is_no_offer() {
        assert_eq!(offered_key(&HeaderMap::new()), None);
    }
}
