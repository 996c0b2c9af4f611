//! The Nextclouds served side by side: which one a request is about, and what belongs to each.
//!
//! A right shared key names the Nextcloud that calls. A visitor's is named by the host the request
//! is for; the default one answers for every other host.

use cluster::record::Tenant;
use http::header::HOST;
use http::request::Parts;

use super::forward::Forward;
use crate::exapps::{Directory, Sessions};

/// Everything that is one Nextcloud's own.
pub struct Realm {
    /// Its name.
    pub tenant: Tenant,
    /// Public host names it is visited under, lower-cased, without ports.
    pub hosts: Vec<String>,
    /// Its ExApps' records.
    pub directory: Directory,
    /// Its visitors.
    pub sessions: Sessions,
    /// The way to its ExApps.
    pub forward: Forward,
}

/// The default Nextcloud and the others, of which there are few.
pub struct Realms {
    /// Answers for every host that is nobody else's.
    pub default: Realm,
    /// The others.
    pub others: Vec<Realm>,
}

impl Realms {
    /// All of them, the default one first.
    pub fn iter(&self) -> impl Iterator<Item = &Realm> {
        std::iter::once(&self.default).chain(&self.others)
    }

    /// The realm of a tenant; the default one for names there are not.
    pub fn of(&self, tenant: &Tenant) -> &Realm {
        self.others.iter().find(|realm| realm.tenant == *tenant).unwrap_or(&self.default)
    }

    /// The realm whose visitors use the request's host.
    pub fn of_visitor(&self, head: &Parts) -> &Realm {
        if self.others.is_empty() {
            return &self.default;
        }
        let named = head.uri.host().or_else(|| {
            let line = head.headers.get(HOST)?.to_str().ok()?;
            Some(without_port(line))
        });
        let Some(named) = named else { return &self.default };
        let named = named.strip_suffix('.').unwrap_or(named);
        let is_theirs =
            |realm: &&Realm| realm.hosts.iter().any(|host| host.eq_ignore_ascii_case(named));
        self.others.iter().find(is_theirs).unwrap_or(&self.default)
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_part_of_the_host() {
        for (authority, host) in [
            ("cloud.example", "cloud.example"),
            ("cloud.example:8780", "cloud.example"),
            ("cloud.example:", "cloud.example"),
            ("[2001:db8::1]:80", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(without_port(authority), host);
        }
    }
}
