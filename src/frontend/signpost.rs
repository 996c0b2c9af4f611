//! Which way a request to the public listener goes. Sans-io.
//!
//! Paths are compared byte for byte and never changed: what is not ours is Nextcloud's, as it came.

use http::header::{HOST, HeaderMap, HeaderName};
use http::request::Parts;

use crate::proxy::well_known;

/// Where a certificate authority looks for the answer to its challenge (RFC 8555 section 8.3).
const CHALLENGE: &str = "/.well-known/acme-challenge/";

const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What the operator decides about ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signpost {
    /// Whether plain HTTP is sent to HTTPS, at this port.
    pub(super) https_port: Option<u16>,
    /// Whether certificates are ordered here, so that challenges are ours to answer.
    pub(super) acme: bool,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way<'r> {
    /// To the ExApps and what else is below `/exapps/`.
    ExApps,
    /// The authority asks for the answer to this challenge.
    Challenge(&'r str),
    /// The client is told to go there.
    Elsewhere(String),
    /// To Nextcloud.
    Nextcloud,
    /// Over plain HTTP to nobody: there is no name to send the client to.
    Nameless,
}

impl Signpost {
    /// The way of a request that came over TLS (`secure`) or not.
    pub(super) fn way<'r>(&self, head: &'r Parts, secure: bool) -> Way<'r> {
        let path = head.uri.path();
        if let Some(token) = path.strip_prefix(CHALLENGE)
            && self.acme
        {
            return Way::Challenge(token);
        }
        if let Some(port) = self.https_port
            && !secure
        {
            let Some(host) = host(head) else { return Way::Nameless };
            let port = if port == 443 { String::new() } else { format!(":{port}") };
            let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
            // The asterisk of OPTIONS is no path.
            let target = if target.starts_with('/') { target } else { "/" };
            return Way::Elsewhere(format!("https://{host}{port}{target}"));
        }
        if path == "/exapps" || path.starts_with("/exapps/") {
            return Way::ExApps;
        }
        match well_known::redirect(path, head.uri.query()) {
            Some(target) => Way::Elsewhere(target),
            None => Way::Nextcloud,
        }
    }
}

/// Whether a trusted proxy says that its client spoke TLS with it.
pub(super) fn says_https(headers: &HeaderMap) -> bool {
    let said =
        headers.get(PROTO).and_then(|value| value.as_bytes().split(|byte| *byte == b',').next());
    said.is_some_and(|said| said.trim_ascii().eq_ignore_ascii_case(b"https"))
}

/// The host a request names, without its port; none where it is none a client could go to.
fn host(head: &Parts) -> Option<&str> {
    let named = match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => head.headers.get(HOST)?.to_str().ok()?,
    };
    let host = match named.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => named,
    };
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let plain = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    (plain && !host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    fn head(target: &str, host: Option<&str>) -> Parts {
        let mut request = Request::builder().uri(target);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn elsewhere(target: &str) -> Way<'static> {
        Way::Elsewhere(target.to_owned())
    }

    #[test]
    fn over_tls_a_path_says_whose_it_is() {
        let signpost = Signpost { https_port: Some(443), acme: true };
        for (target, way) in [
            ("/exapps/demo/a?b", Way::ExApps),
            ("/exapps", Way::ExApps),
            ("/exapps-of-mine", Way::Nextcloud),
            ("//exapps/demo", Way::Nextcloud),
            ("/%65xapps/demo", Way::Nextcloud),
            ("/.well-known/acme-challenge/tok", Way::Challenge("tok")),
            ("/.well-known/carddav", elsewhere("/remote.php/dav/")),
            ("/.well-known/caldav/", elsewhere("/remote.php/dav/")),
            ("/.well-known/caldav/x", Way::Nextcloud),
            (
                "/.well-known/webfinger?resource=acct:a%40b",
                elsewhere("/index.php/.well-known/webfinger?resource=acct:a%40b"),
            ),
            ("/.well-known/nodeinfo", elsewhere("/index.php/.well-known/nodeinfo")),
            ("/remote.php/dav/files/a/b%2Fc//d", Way::Nextcloud),
            ("*", Way::Nextcloud),
        ] {
            assert_eq!(signpost.way(&head(target, Some("h")), true), way, "{target}");
        }
    }

    #[test]
    fn plain_http_is_sent_to_the_same_place_over_tls() {
        let standard = Signpost { https_port: Some(443), acme: true };
        let other = Signpost { https_port: Some(8443), acme: true };
        let here = Signpost { https_port: None, acme: false };
        for (signpost, target, host, way) in [
            (
                standard,
                "/a%2Fb//c?d",
                Some("cloud.example"),
                elsewhere("https://cloud.example/a%2Fb//c?d"),
            ),
            (
                standard,
                "/exapps/x",
                Some("cloud.example:80"),
                elsewhere("https://cloud.example/exapps/x"),
            ),
            (standard, "http://c.example:81/x", Some("h"), elsewhere("https://c.example/x")),
            (standard, "*", Some("h"), elsewhere("https://h/")),
            (standard, "/", Some("[2001:db8::1]:80"), elsewhere("https://[2001:db8::1]/")),
            (other, "/", Some("h"), elsewhere("https://h:8443/")),
            (standard, "/", None, Way::Nameless),
            (standard, "/", Some("a b"), Way::Nameless),
            (standard, "/", Some("h@evil.example"), Way::Nameless),
            (standard, "/", Some(""), Way::Nameless),
            (standard, "/.well-known/acme-challenge/t", Some("h"), Way::Challenge("t")),
            (standard, "/.well-known/caldav", Some("h"), elsewhere("https://h/.well-known/caldav")),
            (here, "/.well-known/acme-challenge/t", Some("h"), Way::Nextcloud),
            (here, "/x", Some("h"), Way::Nextcloud),
            (here, "/exapps/x", Some("h"), Way::ExApps),
        ] {
            assert_eq!(signpost.way(&head(target, host), false), way, "{target} {host:?}");
        }
    }

    #[test]
    fn the_scheme_of_the_outermost_proxy_counts() {
        for (value, expected) in [("https", true), ("HTTPS, http", true), ("http, https", false)] {
            let headers = HeaderMap::from_iter([(PROTO, HeaderValue::from_static(value))]);
            assert_eq!(says_https(&headers), expected, "{value}");
        }
        assert!(!says_https(&HeaderMap::new()));
    }
}
