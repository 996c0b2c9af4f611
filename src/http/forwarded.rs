//! What an upstream is told about where a request came from: `X-Forwarded-For`, `-Proto`,
//! `-Host`, `-Port` and `X-Real-IP`. Sans-io.
//!
//! A stranger's words are replaced by one value each, because upstreams differ in which entry of a
//! list they believe. The words of a trusted proxy stay, and its address is appended to its list:
//! whoever reads that from the right, past all that are trusted, comes to the client.

use std::fmt::Display;
use std::net::IpAddr;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const NAMED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Other headers that speak of the same; an upstream may read them, so a stranger must not.
const OTHERS: [HeaderName; 3] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-ssl"),
];

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The TCP peer.
    pub peer: IpAddr,
    /// Whether its word is taken.
    pub is_trusted: bool,
    /// The client, seen through trusted proxies.
    pub client: IpAddr,
    /// Whether it came within TLS.
    pub is_tls: bool,
}

/// Tells the upstream. Call it after `headers` has been over the head and `Host` is complete.
pub fn tell(headers: &mut HeaderMap, origin: Origin) {
    drop_look_alikes(headers);
    let peer = origin.peer.to_canonical();
    if origin.is_trusted {
        let mut list: Vec<u8> = Vec::new();
        for line in headers.get_all(&FOR) {
            let line = line.as_bytes().trim_ascii();
            if !line.is_empty() {
                list.extend_from_slice(line);
                list.extend_from_slice(b", ");
            }
        }
        list.extend_from_slice(peer.to_string().as_bytes());
        if let Ok(list) = HeaderValue::from_bytes(&list) {
            headers.insert(FOR, list);
        }
    } else {
        for name in OTHERS.iter().chain([&PROTO, &NAMED_HOST, &PORT]) {
            headers.remove(name);
        }
        set(headers, FOR, peer);
    }
    set(headers, REAL_IP, origin.client.to_canonical());
    // Those who are trusted have said it, or leave it to us.
    if !headers.contains_key(&PROTO) {
        let scheme = if origin.is_tls { "https" } else { "http" };
        headers.insert(PROTO, HeaderValue::from_static(scheme));
    }
    if !headers.contains_key(&NAMED_HOST)
        && let Some(host) = headers.get(HOST).filter(|host| !host.is_empty())
    {
        let host = host.clone();
        headers.insert(NAMED_HOST, host);
    }
    if !headers.contains_key(&PORT) {
        let https = headers.get(&PROTO).is_some_and(|proto| proto.as_bytes() == b"https");
        let named = headers.get(HOST).and_then(|host| port(host.to_str().ok()?));
        set(headers, PORT, named.unwrap_or(if https { 443 } else { 80 }));
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: impl Display) {
    if let Ok(value) = HeaderValue::from_str(&value.to_string()) {
        headers.insert(name, value);
    }
}

/// CGI, and PHP with it, makes the same variable of `X_Forwarded_For` as of `X-Forwarded-For`.
fn drop_look_alikes(headers: &mut HeaderMap) {
    let is_meant = |name: &HeaderName| {
        let told = [&FOR, &PROTO, &NAMED_HOST, &PORT, &REAL_IP];
        let dashed = name.as_str().replace('_', "-");
        told.into_iter().chain(&OTHERS).any(|known| known.as_str() == dashed)
    };
    let look_alikes: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().contains('_') && is_meant(name))
        .cloned()
        .collect();
    for name in look_alikes {
        headers.remove(name);
    }
}

/// The port a `Host` names.
fn port(host: &str) -> Option<u16> {
    let (_, port) = host.rsplit_once(':')?;
    port.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRANGER: &str = "192.0.2.1";
    const PROXY: &str = "10.0.0.1";

    fn told(peer: &str, is_tls: bool, lines: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers: HeaderMap = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        // Repeated lines are appended, as `collect` does.
        let is_trusted = peer != STRANGER;
        let client = if is_trusted { "198.51.100.9" } else { STRANGER };
        let origin = Origin {
            peer: peer.parse().unwrap(),
            is_trusted,
            client: client.parse().unwrap(),
            is_tls,
        };
        tell(&mut headers, origin);
        let line = |name: &HeaderName| {
            let values = headers.get_all(name).iter().map(|value| value.to_str().unwrap());
            values.collect::<Vec<_>>().join(" | ")
        };
        let mut all: Vec<String> =
            [&FOR, &PROTO, &NAMED_HOST, &PORT, &REAL_IP].map(line).into_iter().collect();
        let rest = headers.keys().filter(|name| name.as_str().contains("orwarded"));
        let told = |name: &&HeaderName| ![&FOR, &PROTO, &NAMED_HOST, &PORT].contains(name);
        all.extend(rest.filter(told).map(ToString::to_string));
        all
    }

    #[test]
    fn a_strangers_words_are_replaced() {
        let plain = ["192.0.2.1", "http", "cloud.example", "80", "192.0.2.1"];
        let tls = ["192.0.2.1", "https", "cloud.example", "443", "192.0.2.1"];
        let host = ("host", "cloud.example");
        assert_eq!(told(STRANGER, false, &[host]), plain);
        assert_eq!(told(STRANGER, true, &[host]), tls);
        for lie in [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4, 10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-port", "8443"),
            ("x-real-ip", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4;proto=https"),
            ("x-forwarded-server", "evil.example"),
            ("x_forwarded_for", "1.2.3.4"),
            ("x-forwarded_proto", "https"),
            ("x_real_ip", "1.2.3.4"),
        ] {
            assert_eq!(told(STRANGER, false, &[host, lie]), plain, "{lie:?}");
            assert_eq!(told(STRANGER, false, &[host, lie, lie]), plain, "{lie:?} twice");
        }
    }

    #[test]
    fn a_trusted_proxys_words_stay_and_its_address_is_appended() {
        let host = ("host", "cloud.example");
        for (lines, expected) in [
            (&[host][..], ["10.0.0.1", "http", "cloud.example", "80", "198.51.100.9"]),
            (
                &[host, ("x-forwarded-for", "198.51.100.9")],
                ["198.51.100.9, 10.0.0.1", "http", "cloud.example", "80", "198.51.100.9"],
            ),
            (
                &[host, ("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "198.51.100.9")],
                ["1.2.3.4, 198.51.100.9, 10.0.0.1", "http", "cloud.example", "80", "198.51.100.9"],
            ),
            (
                &[
                    host,
                    ("x-forwarded-proto", "https"),
                    ("x-forwarded-host", "other.example"),
                    ("x-real-ip", "203.0.113.7"),
                ],
                ["10.0.0.1", "https", "other.example", "443", "198.51.100.9"],
            ),
            (
                &[host, ("x-forwarded-port", "8443"), ("x_forwarded_for", "1.2.3.4")],
                ["10.0.0.1", "http", "cloud.example", "8443", "198.51.100.9"],
            ),
        ] {
            assert_eq!(told(PROXY, false, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn addresses_are_bare_and_ports_are_those_of_the_host() {
        let told = told("fd00::1", true, &[("host", "[2001:db8::1]:8443")]);
        assert_eq!(told, ["fd00::1", "https", "[2001:db8::1]:8443", "8443", "198.51.100.9"]);
        let mapped = self::told("::ffff:10.0.0.1", true, &[("host", "[2001:db8::1]")]);
        assert_eq!(mapped, ["10.0.0.1", "https", "[2001:db8::1]", "443", "198.51.100.9"]);
    }
}
