//! Where a record's host and port lead. Sans-io.
//!
//! In FRP mode every record says `127.0.0.1` and the tunnel's port, and a manually installed
//! ExApp says the same. Loopback therefore always means "the tunnel of that port" and never a
//! service of this node, which a record could otherwise name at will (contract 10.1, pitfalls).

use std::net::IpAddr;

use crate::net::Target;

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
