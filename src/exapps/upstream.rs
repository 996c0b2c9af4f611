//! Where a record's host and port lead. Sans-io.
//!
//! In FRP mode every record says `127.0.0.1` and the tunnel's port, and a manually installed
//! ExApp says the same. Loopback therefore always means "the tunnel of that port" and never a
//! service of this node, which a record could otherwise name at will (contract 10.1, pitfalls).

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::net::Target;

/// Which hosts AppAPI's headers may name while Nextcloud describes no such ExApp. With HaRP the
/// holder of the key reaches any host and port through them (weakness W3).
///
/// Tunnels always, and in direct mode the container, which is called as the app, on the ports
/// AppAPI gives to apps; everything else only when it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncedHosts {
    /// Ports AppAPI gives to apps.
    pub app_ports: RangeInclusive<u16>,
    /// Hosts that may be named besides, with any port.
    pub listed: Vec<HostPattern>,
}

/// An entry of [`AnnouncedHosts::listed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Every host, as with HaRP.
    Any,
    /// Addresses written as such; names are not resolved for it.
    Network(IpNet),
    /// This name, lower-cased.
    Name(String),
}

impl HostPattern {
    /// Reads `*`, an address or network, or a name.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let network = text.parse::<IpNet>().ok();
        if let Some(network) = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)) {
            return Some(Self::Network(network));
        }
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (!text.is_empty() && text.bytes().all(fine)).then(|| Self::Name(text.to_ascii_lowercase()))
    }

    fn covers(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Network(network) => host
                .parse::<IpAddr>()
                .is_ok_and(|address| network.contains(&address.to_canonical())),
            Self::Name(name) => host.eq_ignore_ascii_case(name),
        }
    }
}

impl AnnouncedHosts {
    /// The target AppAPI's headers name for the app, if they may.
    pub fn target(&self, app: &str, host: &str, port: u16) -> Option<Target> {
        let to = target(host, port);
        let container = host.eq_ignore_ascii_case(app) && self.app_ports.contains(&port);
        let listed = || self.listed.iter().any(|pattern| pattern.covers(bare(host)));
        (matches!(to, Target::Tunnel(_)) || container || listed()).then_some(to)
    }
}

/// The target for the host and port of a record or of AppAPI's headers.
pub fn target(host: &str, port: u16) -> Target {
    if is_here(host) { Target::Tunnel(port) } else { Target::Tcp { host: bare(host).into(), port } }
}

/// Whether the host names this machine: loopback or unspecified addresses, mapped ones included.
fn is_here(host: &str) -> bool {
    if let Ok(address) = bare(host).parse::<IpAddr>() {
        let address = address.to_canonical();
        return address.is_loopback() || address.is_unspecified();
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    // RFC 6761 section 6.3: every name under localhost is loopback. Resolvers also take shorthand
    // such as 127.1 or 0x7f000001 for an address, which no real host is called.
    let last = name.rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost") || name.split('.').all(is_number)
}

fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    hex.map_or_else(
        || label.bytes().all(|byte| byte.is_ascii_digit()),
        |digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
    )
}

/// An IPv6 literal without its brackets.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w03_headers_reach_tunnels_and_containers_and_nothing_else_unless_it_is_listed() {
        let strict = |listed: &[&str]| AnnouncedHosts {
            app_ports: 23000..=23999,
            listed: listed.iter().map(|text| HostPattern::parse(text).unwrap()).collect(),
        };
        for (listed, host, port, allowed) in [
            (&[][..], "127.0.0.1", 23000, true),
            (&[], "localhost", 5432, true),
            (&[], "demo", 23000, true),
            (&[], "Demo", 23999, true),
            (&[], "demo", 5432, false),
            (&[], "database", 23000, false),
            (&[], "10.0.0.5", 23000, false),
            (&["10.0.0.0/8", "Apps.Example.org"], "10.0.0.5", 80, true),
            (&["10.0.0.0/8", "Apps.Example.org"], "apps.example.org", 80, true),
            (&["10.0.0.0/8", "Apps.Example.org"], "192.0.2.1", 80, false),
            (&["2001:db8::5"], "[2001:db8::5]", 80, true),
            (&["*"], "anything", 1, true),
        ] {
            let found = strict(listed).target("demo", host, port).is_some();
            assert_eq!(found, allowed, "{listed:?} {host}:{port}");
        }
        assert_eq!(HostPattern::parse("a b"), None);
        assert_eq!(HostPattern::parse(""), None);
    }

    #[test]
    fn loopback_in_any_spelling_is_the_tunnel() {
        for host in [
            "127.0.0.1",
            "127.8.8.8",
            "localhost",
            "LocalHost.",
            "app.localhost",
            "::1",
            "[::1]",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
        ] {
            assert_eq!(target(host, 23001), Target::Tunnel(23001), "{host}");
        }
    }

    #[test]
    fn any_other_host_is_dialled() {
        for (host, bare) in
            [("10.0.0.9", "10.0.0.9"), ("app_x", "app_x"), ("[2001:db8::9]", "2001:db8::9")]
        {
            assert_eq!(target(host, 80), Target::Tcp { host: bare.into(), port: 80 });
        }
    }

    /// A container made anew has another address, and its old one may be another app's, which
    /// would then be shown the secret. So names are resolved for each connection, by `net::dial`.
    #[test]
    fn w17_a_name_stays_a_name_until_it_is_dialled() {
        for host in ["app_x", "exapp.internal", "Exapp.Internal."] {
            assert_eq!(target(host, 80), Target::Tcp { host: host.into(), port: 80 });
        }
    }
}
