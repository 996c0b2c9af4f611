//! The true client of a request behind trusted proxies (contract 1.2, step 1). Sans-io.
//!
//! `X-Forwarded-For` is read from the right, past the hops that are trusted: everything left of
//! the first untrusted one was written by it. HaRP takes the leftmost entry of the last line,
//! which any visitor of an appending proxy can choose (weakness W6).

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// The proxies whose word about their clients is taken. Empty: nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
}

impl TrustedProxies {
    /// Trusts every address in `networks`.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self { networks: networks.into_iter().collect() }
    }

    /// Whether the address belongs to a trusted proxy. IPv4 mapped into IPv6 is IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The address a request came from, seen through the trusted proxies.
    ///
    /// The peer itself unless it is trusted. Else the rightmost untrusted entry of all
    /// `X-Forwarded-For` lines, or the leftmost one when every hop is trusted. When the list is
    /// absent or an entry on the way cannot be read, `X-Real-IP`; failing that, the peer.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.contains(peer) {
            return peer;
        }
        self.forwarded_for(headers).or_else(|| real_ip(headers)).unwrap_or(peer)
    }

    fn forwarded_for(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let mut leftmost = None;
        for line in headers.get_all("x-forwarded-for").iter().rev() {
            // Each hop by itself: a visitor must not make the whole line, and with it the entry
            // its proxy appended, unreadable by a byte that is no text.
            let hops = line.as_bytes().rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            for hop in hops.filter(|hop| !hop.is_empty()) {
                let address = parse_hop(std::str::from_utf8(hop).ok()?)?;
                if !self.contains(address) {
                    return Some(address);
                }
                leftmost = Some(address);
            }
        }
        leftmost
    }
}

/// An address as proxies write it: bare, or with a port, or in brackets.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let with_port = || hop.parse().map(|address: SocketAddr| address.ip());
    bare.parse().or_else(|_| with_port()).ok().map(|address: IpAddr| address.to_canonical())
}

fn real_ip(headers: &HeaderMap) -> Option<IpAddr> {
    parse_hop(headers.get_all("x-real-ip").iter().next_back()?.to_str().ok()?.trim())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn trusted() -> TrustedProxies {
        TrustedProxies::new(["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()))
    }

    fn client(proxies: &TrustedProxies, peer: &str, lines: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn w06_the_client_is_whom_the_trusted_hops_name() {
        const XFF: &str = "x-forwarded-for";
        const REAL: &str = "x-real-ip";
        type Row<'a> = (&'a str, &'a [(&'static str, &'a str)], &'a str);
        let rows: &[Row<'_>] = &[
            // An untrusted peer is the client, whatever it says.
            ("192.0.2.1", &[], "192.0.2.1"),
            ("192.0.2.1", &[(XFF, "198.51.100.9")], "192.0.2.1"),
            ("192.0.2.1", &[(REAL, "198.51.100.9")], "192.0.2.1"),
            ("::ffff:192.0.2.1", &[], "192.0.2.1"),
            // One trusted hop.
            ("10.0.0.1", &[(XFF, "198.51.100.9")], "198.51.100.9"),
            ("::ffff:10.0.0.1", &[(XFF, "198.51.100.9")], "198.51.100.9"),
            ("10.0.0.1", &[(XFF, "2001:db8::1")], "2001:db8::1"),
            ("fd00::1", &[(XFF, "::ffff:198.51.100.9")], "198.51.100.9"),
            // What stands left of the first untrusted hop was written by it.
            ("10.0.0.1", &[(XFF, "203.0.113.5, 198.51.100.9")], "198.51.100.9"),
            ("10.0.0.1", &[(XFF, "garbage, 198.51.100.9")], "198.51.100.9"),
            ("10.0.0.1", &[(XFF, "10.9.9.9, 198.51.100.9")], "198.51.100.9"),
            // Trusted hops are walked past, over all lines.
            ("10.0.0.1", &[(XFF, "198.51.100.9, 10.0.0.2")], "198.51.100.9"),
            ("10.0.0.1", &[(XFF, "198.51.100.9,10.0.0.2 ,10.0.0.3")], "198.51.100.9"),
            ("10.0.0.1", &[(XFF, "203.0.113.5, 198.51.100.9"), (XFF, "10.0.0.2")], "198.51.100.9"),
            ("10.0.0.1", &[(XFF, "203.0.113.5"), (XFF, "198.51.100.9")], "198.51.100.9"),
            // Only trusted hops: the request began at the first of them.
            ("10.0.0.1", &[(XFF, "10.0.0.7, 10.0.0.2")], "10.0.0.7"),
            // Spellings proxies use.
            ("10.0.0.1", &[(XFF, "198.51.100.9:4711")], "198.51.100.9"),
            ("10.0.0.1", &[(XFF, "[2001:db8::1]")], "2001:db8::1"),
            ("10.0.0.1", &[(XFF, "[2001:db8::1]:4711")], "2001:db8::1"),
            ("10.0.0.1", &[(XFF, " , 198.51.100.9, ,")], "198.51.100.9"),
            // Unreadable or absent: X-Real-IP, then the peer.
            ("10.0.0.1", &[(XFF, "unknown"), (REAL, "198.51.100.9")], "198.51.100.9"),
            ("10.0.0.1", &[(XFF, "198.51.100.9, unknown")], "10.0.0.1"),
            ("10.0.0.1", &[(XFF, ""), (REAL, "198.51.100.9")], "198.51.100.9"),
            ("10.0.0.1", &[(XFF, "198.51.100.\u{e9}"), (REAL, "203.0.113.5")], "203.0.113.5"),
            ("10.0.0.1", &[(REAL, " 198.51.100.9 ")], "198.51.100.9"),
            ("10.0.0.1", &[(REAL, "203.0.113.5"), (REAL, "198.51.100.9")], "198.51.100.9"),
            ("10.0.0.1", &[(REAL, "nonsense")], "10.0.0.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            // `Forwarded` is not read.
            ("10.0.0.1", &[("forwarded", "for=198.51.100.9")], "10.0.0.1"),
        ];
        for (peer, lines, expected) in rows {
            assert_eq!(client(&trusted(), peer, lines), *expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hide_the_hop_behind_them() {
        let mut headers = HeaderMap::new();
        let line = HeaderValue::from_bytes(b"\xfc\xff, 198.51.100.9").unwrap();
        headers.append("x-forwarded-for", line);
        let client = trusted().client("10.0.0.1".parse().unwrap(), &headers);
        assert_eq!(client.to_string(), "198.51.100.9");
    }

    #[test]
    fn nobody_is_trusted_by_default() {
        let lines = [("x-forwarded-for", "198.51.100.9")];
        assert_eq!(client(&TrustedProxies::default(), "10.0.0.1", &lines), "10.0.0.1");
    }
}
