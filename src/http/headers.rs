//! Which headers travel on: hop-by-hop ones do not (RFC 9110 section 7.6.1), AppAPI's secrets do
//! not reach an ExApp, and Nextcloud is told only what identifies a visitor. Sans-io.
//!
//! Call these before setting headers of one's own: a sender may name any header in `Connection`,
//! and what it names is removed. The true client is found in `client_ip`, also before.

use std::net::IpAddr;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use http::{HeaderMap, StatusCode, Uri, Version};

/// Headers that concern one connection only, named in `Connection` or not.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers `Connection` must not take away: without them the message means something else.
const END_TO_END: [HeaderName; 2] = [HOST, CONTENT_LENGTH];

/// What AppAPI tells the proxy and HaRP let through to ExApps. The shared key makes its holder
/// the administrator of every ExApp (weakness W3).
const FOR_THE_PROXY_ONLY: [HeaderName; 3] = [
    HeaderName::from_static("harp-shared-key"),
    HeaderName::from_static("ex-app-host"),
    HeaderName::from_static("ex-app-port"),
];

/// What `user-info` needs to recognise a visitor, besides cookies (weakness W14).
const IDENTIFYING: [HeaderName; 8] = [
    AUTHORIZATION,
    USER_AGENT,
    HeaderName::from_static("accept-language"),
    HeaderName::from_static("x-requested-with"),
    HeaderName::from_static("requesttoken"),
    HeaderName::from_static("ocs-apirequest"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-host"),
];

/// Prepares a visitor's headers for an ExApp.
pub fn towards_exapp(headers: &mut HeaderMap) {
    towards_upstream(headers);
    for name in &FOR_THE_PROXY_ONLY {
        headers.remove(name);
    }
}

/// Takes away what a visitor is logged in to Nextcloud with: its cookies and `Authorization`
/// (weakness W24). An ExApp knows its visitor by what the proxy tells it.
pub fn strip_session(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    let Some(cookies) = joined_cookies(headers) else { return };
    let pairs = cookies.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let kept: Vec<&[u8]> = pairs.filter(|pair| !pair.is_empty() && !is_session(pair)).collect();
    headers.remove(COOKIE);
    if !kept.is_empty()
        && let Ok(kept) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
    {
        headers.insert(COOKIE, kept);
    }
}

/// Whether a cookie is part of a Nextcloud login: the session, its passphrase and the remember-me
/// trio, with the prefixes browsers know. The session is called like the instance: `oc` and ten
/// lower-case letters or digits.
fn is_session(pair: &[u8]) -> bool {
    const FIXED: [&[u8]; 4] =
        [b"oc_sessionPassphrase", b"nc_session_id", b"nc_token", b"nc_username"];
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or(pair).trim_ascii();
    let name = name.strip_prefix(b"__Host-").unwrap_or(name);
    let name = name.strip_prefix(b"__Secure-").unwrap_or(name);
    let instance = name.strip_prefix(b"oc").is_some_and(|id| {
        id.len() == 10 && id.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    });
    instance || FIXED.contains(&name)
}

/// Prepares a client's headers for any upstream. A requested upgrade stays one, a client that
/// takes trailers is said to, and nothing else of the connection stays.
pub fn towards_upstream(headers: &mut HeaderMap) {
    let upgrade = requested_upgrade(headers);
    let trailers = upgrade.is_none() && takes_trailers(headers);
    strip_hop_by_hop(headers);
    for name in [CONTENT_LENGTH, CONTENT_TYPE] {
        if headers.get(&name).is_some_and(HeaderValue::is_empty) {
            headers.remove(&name);
        }
    }
    // HTTP/2 clients send a line for each cookie (RFC 9113 section 8.2.3).
    if headers.get_all(COOKIE).iter().nth(1).is_some()
        && let Some(cookies) = joined_cookies(headers)
    {
        headers.insert(COOKIE, cookies);
    }
    keep_upgrade(headers, upgrade);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
}

/// Gives a request the `Host` that HTTP/1.1 wants (RFC 9112 sections 3.2 and 3.2.2): a target in
/// absolute form overrules the line, and where a client of another version named none it stays
/// empty.
pub fn complete_host(headers: &mut HeaderMap, uri: &Uri, version: Version) {
    let named = uri.authority().map(|authority| {
        let text = authority.as_str();
        HeaderValue::from_str(text.rsplit_once('@').map_or(text, |(_user, host)| host))
    });
    if let Some(Ok(host)) = named {
        headers.insert(HOST, host);
    } else if version != Version::HTTP_11 {
        headers.entry(HOST).or_insert(HeaderValue::from_static(""));
    }
}

/// Prepares an upstream's response headers for the client. Only a 101 keeps its upgrade.
pub fn towards_client(status: StatusCode, headers: &mut HeaderMap) {
    let switching = status == StatusCode::SWITCHING_PROTOCOLS;
    let upgrade = requested_upgrade(headers).filter(|_| switching);
    strip_hop_by_hop(headers);
    keep_upgrade(headers, upgrade);
}

/// The protocol a message asks or agrees to switch to: `Upgrade`, if `Connection` names it.
///
/// Another version of HTTP is none: what follows the switch is not looked at any more, and a
/// visitor that got through to HTTP/2 (`h2c`) could ask the ExApp for anything.
pub fn requested_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    connection_tokens(headers).any(|token| token.eq_ignore_ascii_case(b"upgrade")).then_some(())?;
    let mut lines = headers.get_all(UPGRADE).iter();
    let protocol = lines.next().filter(|protocol| !protocol.is_empty())?;
    let mut named = protocol.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let is_one_line = lines.next().is_none();
    (is_one_line && !named.any(is_http)).then(|| protocol.clone())
}

fn is_http(protocol: &[u8]) -> bool {
    let starts = |with: &[u8]| {
        protocol.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    starts(b"h2") || starts(b"http")
}

/// The headers of a `user-info` call on behalf of a visitor whose true address is `client`.
/// Cookie lines are joined; `X-Forwarded-For` names the client alone, so that Nextcloud's
/// throttling meets it and not this proxy. The caller adds the shared key.
pub fn for_user_info(visitor: &HeaderMap, client: IpAddr) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in &IDENTIFYING {
        if let Some(value) = visitor.get_all(name).iter().next_back() {
            headers.insert(name, value.clone());
        }
    }
    if let Some(cookies) = joined_cookies(visitor) {
        headers.insert(COOKIE, cookies);
    }
    if let Ok(address) = HeaderValue::from_str(&client.to_canonical().to_string()) {
        headers.insert("x-forwarded-for", address);
    }
    headers
}

/// All cookie lines as one, as HTTP/1.1 wants them (RFC 9113 section 8.2.3).
fn joined_cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    match lines.as_slice() {
        [] => None,
        lines => HeaderValue::from_bytes(&lines.join(&b"; "[..])).ok(),
    }
}

/// Whether the client can be sent trailers (RFC 9110 section 10.1.4).
fn takes_trailers(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(TE).iter().flat_map(|line| line.as_bytes().split(|b| *b == b','));
    codings.map(<[u8]>::trim_ascii).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = connection_tokens(headers)
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| !END_TO_END.contains(name))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn keep_upgrade(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

fn connection_tokens(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn after(
        change: impl Fn(&mut HeaderMap),
        lines: &[(&'static str, &'static str)],
    ) -> Vec<String> {
        let mut map = headers(lines);
        change(&mut map);
        let mut left: Vec<String> = map
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        left.sort();
        left
    }

    #[test]
    fn hop_by_hop_headers_end_here() {
        let left = after(
            towards_upstream,
            &[
                ("host", "cloud.example"),
                ("connection", "close, X-Secret-Hop"),
                ("connection", "x-other-hop"),
                ("x-secret-hop", "1"),
                ("x-other-hop", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("proxy-authorization", "Basic eDp5"),
                ("te", "gzip"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "h2c"),
                ("accept", "*/*"),
            ],
        );
        assert_eq!(left, ["accept: */*", "host: cloud.example"]);
    }

    #[test]
    fn trailers_are_announced_to_the_other_side() {
        let lines = [("te", "gzip, Trailers"), ("connection", "te, x"), ("trailer", "x-sum")];
        assert_eq!(
            after(towards_upstream, &lines),
            ["connection: te", "te: trailers", "trailer: x-sum"]
        );
        let lines = [("trailer", "x-sum"), ("te", "trailers")];
        assert_eq!(after(|h| towards_client(StatusCode::OK, h), &lines), ["trailer: x-sum"]);
    }

    #[test]
    fn cookie_crumbs_become_one_line() {
        let lines = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3")];
        assert_eq!(after(towards_upstream, &lines), ["cookie: a=1; b=2; c=3", "x: y"]);
        assert_eq!(after(towards_upstream, &[("cookie", "a=1")]), ["cookie: a=1"]);
    }

    #[test]
    fn connection_cannot_take_host_or_length_away() {
        let lines =
            [("host", "h"), ("content-length", "3"), ("connection", "host, Content-Length")];
        assert_eq!(after(towards_upstream, &lines), ["content-length: 3", "host: h"]);
    }

    #[test]
    fn an_upgrade_stays_an_upgrade_and_loses_the_rest_of_connection() {
        let lines = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "k"),
        ];
        assert_eq!(
            after(towards_upstream, &lines),
            ["connection: upgrade", "sec-websocket-key: k", "upgrade: websocket"]
        );
    }

    #[test]
    fn upgrade_without_connection_is_no_upgrade() {
        assert!(requested_upgrade(&headers(&[("upgrade", "websocket")])).is_none());
        assert!(requested_upgrade(&headers(&[("connection", "upgrade")])).is_none());
        let both = headers(&[("connection", "close,UPGRADE"), ("upgrade", "websocket")]);
        assert_eq!(requested_upgrade(&both).unwrap(), "websocket");
    }

    #[test]
    fn another_version_of_http_is_no_upgrade() {
        for protocol in ["h2c", "H2C", "HTTP/2.0", "websocket, h2c", "h2"] {
            let lines = [("connection", "upgrade, http2-settings"), ("upgrade", protocol)];
            let lines = [&lines[..], &[("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA")]].concat();
            assert_eq!(after(towards_upstream, &lines), [""; 0], "{protocol}");
        }
        let two = [("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")];
        assert_eq!(after(towards_upstream, &two), [""; 0]);
        let own = [("connection", "upgrade"), ("upgrade", "own/2, websocket")];
        assert_eq!(
            after(towards_upstream, &own),
            ["connection: upgrade", "upgrade: own/2, websocket"]
        );
    }

    #[test]
    fn only_a_101_keeps_its_upgrade_on_the_way_back() {
        let lines = [("connection", "Upgrade"), ("upgrade", "websocket"), ("x-app", "1")];
        assert_eq!(
            after(|h| towards_client(StatusCode::SWITCHING_PROTOCOLS, h), &lines),
            ["connection: upgrade", "upgrade: websocket", "x-app: 1"]
        );
        assert_eq!(after(|h| towards_client(StatusCode::OK, h), &lines), ["x-app: 1"]);
    }

    #[test]
    fn responses_keep_their_length_and_every_cookie() {
        let lines = [
            ("content-length", "12"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("connection", "keep-alive"),
        ];
        assert_eq!(
            after(|h| towards_client(StatusCode::OK, h), &lines),
            ["content-length: 12", "set-cookie: a=1", "set-cookie: b=2"]
        );
    }

    #[test]
    fn a_request_is_for_the_host_its_target_names() {
        let host = |uri: &'static str, version, lines: &[(&'static str, &'static str)]| {
            let mut map = headers(lines);
            complete_host(&mut map, &Uri::from_static(uri), version);
            map.get(HOST).map(|host| host.to_str().unwrap().to_owned())
        };
        let line = [("host", "h")];
        assert_eq!(host("/x", Version::HTTP_11, &line).as_deref(), Some("h"));
        assert_eq!(host("http://a:1/x", Version::HTTP_11, &line).as_deref(), Some("a:1"));
        assert_eq!(host("http://u:p@a/x", Version::HTTP_11, &line).as_deref(), Some("a"));
        assert_eq!(host("/x", Version::HTTP_10, &line).as_deref(), Some("h"));
        assert_eq!(host("/x", Version::HTTP_10, &[]).as_deref(), Some(""));
        assert_eq!(host("/x", Version::HTTP_11, &[]), None);
        assert_eq!(host("https://a/x", Version::HTTP_2, &line).as_deref(), Some("a"));
        assert_eq!(host("/x", Version::HTTP_2, &[]).as_deref(), Some(""));
    }

    #[test]
    fn exapps_never_see_the_shared_key() {
        let lines = [
            ("harp-shared-key", "k"),
            ("ex-app-host", "127.0.0.1"),
            ("ex-app-port", "23000"),
            ("ex-app-id", "demo"),
            ("authorization-app-api", "x"),
            ("cookie", "c=1"),
            ("authorization", "Bearer t"),
        ];
        assert_eq!(
            after(towards_exapp, &lines),
            [
                "authorization-app-api: x",
                "authorization: Bearer t",
                "cookie: c=1",
                "ex-app-id: demo"
            ]
        );
    }

    #[test]
    fn w24_a_stripped_visitor_keeps_every_cookie_that_is_no_login() {
        let lines = [
            ("authorization", "Basic eDp5"),
            ("cookie", "theme=dark; oc_sessionPassphrase=p;ocabc123def4=s; oc_locale=de"),
            ("cookie", "__Host-nc_sameSiteCookielax=true; nc_session_id=s; nc_token=t"),
            ("cookie", "__Secure-nc_username=alice; ocrstate=1; ; octopus12345x=1"),
            ("x-app", "1"),
        ];
        assert_eq!(
            after(strip_session, &lines),
            [
                "cookie: theme=dark; oc_locale=de; __Host-nc_sameSiteCookielax=true; \
                 ocrstate=1; octopus12345x=1",
                "x-app: 1"
            ]
        );
        assert_eq!(after(strip_session, &[("cookie", "nc_session_id=s")]), [""; 0]);
    }

    #[test]
    fn empty_content_headers_are_not_passed_on() {
        let lines = [("content-length", ""), ("content-type", ""), ("accept", "")];
        assert_eq!(after(towards_exapp, &lines), ["accept: "]);
    }

    #[test]
    fn user_info_is_asked_with_what_identifies_the_visitor_and_nothing_else() {
        let visitor = headers(&[
            ("host", "cloud.example"),
            ("cookie", "oc_sessionPassphrase=p"),
            ("cookie", "nc_session_id=s"),
            ("authorization", "Bearer t"),
            ("user-agent", "UA"),
            ("accept-language", "de"),
            ("x-requested-with", "XMLHttpRequest"),
            ("requesttoken", "r"),
            ("ocs-apirequest", "true"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "203.0.113.5"),
            ("harp-shared-key", "guess"),
            ("transfer-encoding", "chunked"),
            ("content-length", "4"),
            ("expect", "100-continue"),
            ("upgrade", "websocket"),
            ("range", "bytes=0-"),
            ("if-none-match", "x"),
            ("accept-encoding", "br"),
        ]);
        let asked = for_user_info(&visitor, "198.51.100.9".parse().unwrap());
        let mut lines: Vec<String> =
            asked.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "accept-language: de",
                "authorization: Bearer t",
                "cookie: oc_sessionPassphrase=p; nc_session_id=s",
                "ocs-apirequest: true",
                "requesttoken: r",
                "user-agent: UA",
                "x-forwarded-for: 198.51.100.9",
                "x-forwarded-proto: https",
                "x-requested-with: XMLHttpRequest",
            ]
        );
    }
}
