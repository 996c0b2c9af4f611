//! Headers of any visitor. Nobody can talk a trusted proxy's word away; secrets and hop-by-hop
//! headers end here; Nextcloud is told nothing but what identifies a visitor.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use trigon::access::request::offered_key;
use trigon::http::client_ip::TrustedProxies;
use trigon::http::headers::{for_user_info, towards_client, towards_exapp};

const VISITOR: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9));
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

const KNOWN: [&str; 14] = [
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
    for name in ["harp-shared-key", "ex-app-host", "ex-app-port", "te", "transfer-encoding"] {
        assert!(!headers.contains_key(name), "{name}");
    }
    assert!(headers.get_all(HOST).iter().eq(before.get_all(HOST)), "the host stays");
    let length = before.get(CONTENT_LENGTH).filter(|value| !value.is_empty());
    assert!(length.is_none() || headers.get(CONTENT_LENGTH) == length, "the length stays");
    assert_eq!(headers.contains_key(CONNECTION), headers.contains_key(UPGRADE));
    assert!(headers.iter().all(|(name, value)| {
        name == CONNECTION || before.get_all(name).iter().any(|sent| sent == value)
    }));
    let once = headers.clone();
    towards_exapp(&mut headers);
    assert_eq!(headers, once, "nothing is left to be taken away");
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
