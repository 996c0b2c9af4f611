//! Headers of any visitor. Nobody can talk a trusted proxy's word away; secrets and hop-by-hop
//! headers end here; the ExApp is told who the visitor is by nobody but us; Nextcloud is told
//! nothing but what identifies a visitor.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use cluster::record::ExApp;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use trigon::access::request::offered_key;
use trigon::access::{Authorization, Grant, Upstream};
use trigon::http::client_ip::TrustedProxies;
use trigon::http::headers::{complete_host, for_user_info, towards_client, towards_exapp};
use trigon::proxy::rewrite::Rewrite;

const VISITOR: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9));
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

const KNOWN: [&str; 18] = [
    "ex-app-id",
    "ex-app-version",
    "aa-version",
    "authorization-app-api",
    "x-forwarded-for",
    "x-real-ip",
    "connection",
    "upgrade",
    "host",
    "content-length",
    "transfer-encoding",
    "te",
    "cookie",
    "authorization",
    "harp-shared-key",
    "ex-app-host",
    "ex-app-port",
    "proxy-authorization",
];

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    peer: [u8; 16],
    switching: bool,
    path: &'a str,
    query: Option<&'a str>,
    headers: Vec<(Result<u8, &'a [u8]>, &'a [u8])>,
}

fuzz_target!(|input: Input<'_>| {
    let mut headers = HeaderMap::new();
    for (name, value) in input.headers.iter().take(64) {
        let name = match name {
            Ok(index) => Ok(HeaderName::from_static(KNOWN[usize::from(*index) % KNOWN.len()])),
            Err(bytes) => HeaderName::from_bytes(bytes),
        };
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network"));
    let proxies = TrustedProxies::new(networks);
    client(&proxies, input.peer.into(), &headers);
    appended(&proxies, &headers);
    let _ = offered_key(&headers);
    for_the_exapp(headers.clone());
    in_our_name(headers.clone(), &format!("/{}", input.path), input.query);
    for_the_client(input.switching, headers.clone());
    for_nextcloud(&headers);
});

fn client(proxies: &TrustedProxies, peer: IpAddr, headers: &HeaderMap) {
    let client = proxies.client(peer, headers);
    assert_eq!(client, client.to_canonical());
    assert!(proxies.contains(peer) || client == peer.to_canonical(), "a stranger is believed");
}

/// Whatever a visitor sends, the address its proxy appends is the one that counts: on a line of
/// its own, or on the visitor's last one.
fn appended(proxies: &TrustedProxies, headers: &HeaderMap) {
    const NAME: &str = "x-forwarded-for";
    let mut own_line = headers.clone();
    own_line.append(NAME, HeaderValue::from_static("198.51.100.9"));
    assert_eq!(proxies.client(PROXY, &own_line), VISITOR);
    let mut lines: Vec<_> = headers.get_all(NAME).iter().cloned().collect();
    let Some(last) = lines.pop() else { return };
    let joined = [last.as_bytes(), b", 198.51.100.9"].concat();
    let mut same_line = headers.clone();
    same_line.remove(NAME);
    for line in lines {
        same_line.append(NAME, line);
    }
    same_line.append(NAME, HeaderValue::from_bytes(&joined).expect("both parts were values"));
    assert_eq!(proxies.client(PROXY, &same_line), VISITOR);
}

fn for_the_exapp(mut headers: HeaderMap) {
    let before = headers.clone();
    towards_exapp(&mut headers);
    for name in ["harp-shared-key", "ex-app-host", "ex-app-port", "transfer-encoding"] {
        assert!(!headers.contains_key(name), "{name}");
    }
    assert!(headers.get_all(TE).iter().all(|coding| coding == "trailers"));
    assert!(headers.get_all(COOKIE).iter().count() <= 1);
    assert!(headers.get_all(HOST).iter().eq(before.get_all(HOST)), "the host stays");
    let length = before.get(CONTENT_LENGTH).filter(|value| !value.is_empty());
    assert!(length.is_none() || headers.get(CONTENT_LENGTH) == length, "the length stays");
    let hop = headers.contains_key(UPGRADE) || headers.contains_key(TE);
    assert_eq!(headers.contains_key(CONNECTION), hop);
    assert!(headers.iter().all(|(name, value)| {
        [CONNECTION, TE, COOKIE].contains(name)
            || before.get_all(name).iter().any(|sent| sent == value)
    }));
    let once = headers.clone();
    towards_exapp(&mut headers);
    assert_eq!(headers, once, "nothing is left to be taken away");
}

/// The four headers an ExApp believes, whatever the visitor sent under these names or named in
/// `Connection`.
fn in_our_name(mut headers: HeaderMap, path: &str, query: Option<&str>) {
    // A request's path ends where its query begins, and what a request line could not hold is
    // refused.
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let app = ExApp {
        id: "app".into(),
        token: "token".into(),
        version: "1.2.3".into(),
        host: "127.0.0.1".into(),
        port: 23_000,
        routes: Vec::new(),
    };
    let grant = Grant {
        app_id: "App",
        path,
        upstream: Upstream::Known(Arc::new(app)),
        authorization: Authorization::Visitor { user_id: "alice".into() },
        bruteforce_statuses: Vec::new(),
    };
    let Ok(rewrite) = Rewrite::new(&grant, query) else { return };
    let mut uri = Uri::from_static("/exapps/App/x");
    towards_exapp(&mut headers);
    complete_host(&mut headers, &uri, Version::HTTP_11);
    rewrite.apply(&mut uri, &mut headers);
    for (name, value) in [
        ("ex-app-id", "App"),
        ("ex-app-version", "1.2.3"),
        ("aa-version", "32"),
        ("authorization-app-api", "YWxpY2U6dG9rZW4="),
    ] {
        assert!(headers.get_all(name).iter().eq([value]), "{name}");
    }
    assert!(uri.scheme().is_none() && uri.authority().is_none(), "the ExApp gets a path");
    assert!(uri.query().is_none_or(|sent| query.is_some_and(|query| query.starts_with(sent))));
}

fn for_the_client(switching: bool, mut headers: HeaderMap) {
    let status = if switching { StatusCode::SWITCHING_PROTOCOLS } else { StatusCode::OK };
    towards_client(status, &mut headers);
    assert!(switching || !headers.contains_key(CONNECTION));
    assert!(switching || !headers.contains_key(UPGRADE));
}

fn for_nextcloud(visitor: &HeaderMap) {
    let asked = for_user_info(visitor, VISITOR);
    assert_eq!(asked.get_all("x-forwarded-for").iter().collect::<Vec<_>>(), ["198.51.100.9"]);
    assert!(asked.get_all(COOKIE).iter().count() <= 1);
    for name in ["harp-shared-key", "host", "connection", "content-length", "ex-app-host"] {
        assert!(!asked.contains_key(name), "{name}");
    }
}
