//! Which proxies may have which port: types, allowed ranges, one port per client, conflicts, and
//! who wins a contested port. Sans-io.
//!
//! The texts are frps's own, in its order of checks, because operators search for them. Clients
//! react to none of them: any refusal parks the proxy for 30 s, so a client that comes back is
//! never refused; it takes over (a living rival that would do so in turns is stopped by
//! `registry.rs`). Who is connected at all is `tunnels.rs`'s business.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use cluster::record::{Tenant, TunnelKey};

use super::entitlement::Denied;

/// Identifies one login for the life of the process.
pub type SessionId = u64;

/// What a client asks for with `NewProxy`.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Whose client it is; each tenant has names and ports of its own.
    pub tenant: &'a Tenant,
    /// Proxy name, unique over all clients of the tenant.
    pub name: &'a str,
    /// `tcp`, also when empty; nothing else is offered.
    pub kind: &'a str,
    /// Remote port.
    pub port: u16,
    /// `use_encryption` or `use_compression`: the payload would be transformed once more.
    pub transformed: bool,
}

/// A port somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who.
    pub session: SessionId,
    /// Under which proxy name.
    pub name: String,
}

/// How a claim went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// The port was free.
    New,
    /// The session had it already (a client repeats `NewProxy` after 20 s without an answer).
    Again,
    /// It was taken from this session, which must be dropped as a whole.
    From(SessionId),
}

/// Why a proxy cannot be had; the text goes to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The login does not entitle to it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A type frps does not know either.
    #[error("unknown proxy type: {0}")]
    UnknownType(String),
    /// Virtual hosts are not offered.
    #[error("type [{0}] not supported when vhost {0} port is not set")]
    VirtualHost(&'static str),
    /// CONNECT multiplexing is not offered.
    #[error(
        "tcpmux with multiplexer httpconnect not supported because this feature is not enabled \
         in server"
    )]
    TcpMux,
    /// A type frps has and this server has not.
    #[error("type [{0}] not supported by this server")]
    NotOffered(&'static str),
    /// The payload would have to be transformed.
    #[error("use_encryption and use_compression are not supported by this server; TLS encrypts")]
    Transformed,
    /// One port per client.
    #[error("exceed the max_ports_per_client")]
    TooMany,
    /// The name is held by another client on another port.
    #[error("proxy [{0}] already exists")]
    NameTaken(String),
    /// The port is held by another proxy.
    #[error("port already used")]
    PortTaken,
    /// The port is outside the allowed ranges.
    #[error("port not allowed")]
    NotAllowed,
    /// Port 0 asks for any port; Nextcloud could not know which one it got.
    #[error("no available port")]
    NoneAvailable,
}

/// The table of claimed ports.
#[derive(Debug)]
pub struct Ports {
    allowed: Vec<RangeInclusive<u16>>,
    by_port: HashMap<TunnelKey, Claim>,
    by_name: HashMap<(Tenant, String), u16>,
}

impl Ports {
    /// An empty table over the allowed ranges.
    pub fn new(allowed: impl IntoIterator<Item = RangeInclusive<u16>>) -> Self {
        Self {
            allowed: allowed.into_iter().collect(),
            by_port: HashMap::new(),
            by_name: HashMap::new(),
        }
    }

    /// Claims what is wanted for `session`. Same name and same port as another session means the
    /// client was restarted and its old session is a ghost: the newest wins.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed then.
    pub fn claim(&mut self, session: SessionId, wanted: Wanted<'_>) -> Result<Granted, Refusal> {
        check_type(wanted.kind)?;
        if wanted.transformed {
            return Err(Refusal::Transformed);
        }
        let key = TunnelKey { tenant: wanted.tenant.clone(), port: wanted.port };
        let ghost = match self.by_port.get(&key) {
            Some(claim) if claim.name == wanted.name => {
                if claim.session == session {
                    return Ok(Granted::Again);
                }
                Some(claim.session)
            }
            _ => None,
        };
        if self.by_port.values().any(|claim| claim.session == session) {
            return Err(Refusal::TooMany);
        }
        if let Some(ghost) = ghost {
            self.insert(session, key, wanted.name);
            return Ok(Granted::From(ghost));
        }
        if self.by_name.contains_key(&(key.tenant.clone(), wanted.name.to_owned())) {
            return Err(Refusal::NameTaken(wanted.name.to_owned()));
        }
        if self.by_port.contains_key(&key) {
            return Err(Refusal::PortTaken);
        }
        if wanted.port == 0 {
            return Err(Refusal::NoneAvailable);
        }
        if !self.allowed.iter().any(|range| range.contains(&wanted.port)) {
            return Err(Refusal::NotAllowed);
        }
        self.insert(session, key, wanted.name);
        Ok(Granted::New)
    }

    /// Gives back the port `session` holds under `name`.
    pub fn release(&mut self, session: SessionId, name: &str) -> Option<TunnelKey> {
        let ours = |claim: &Claim| claim.session == session && claim.name == name;
        let (key, _) = self.by_port.iter().find(|(_, claim)| ours(claim))?;
        let key = key.clone();
        self.remove(&key);
        Some(key)
    }

    /// Gives back everything `session` holds.
    pub fn release_all(&mut self, session: SessionId) -> Vec<TunnelKey> {
        let keys: Vec<TunnelKey> = self
            .by_port
            .iter()
            .filter(|(_, claim)| claim.session == session)
            .map(|(key, _)| key.clone())
            .collect();
        for key in &keys {
            self.remove(key);
        }
        keys
    }

    /// Who holds the port.
    pub fn holder(&self, key: &TunnelKey) -> Option<&Claim> {
        self.by_port.get(key)
    }

    fn insert(&mut self, session: SessionId, key: TunnelKey, name: &str) {
        let name = name.to_owned();
        self.by_name.insert((key.tenant.clone(), name.clone()), key.port);
        self.by_port.insert(key, Claim { session, name });
    }

    fn remove(&mut self, key: &TunnelKey) {
        if let Some(claim) = self.by_port.remove(key) {
            self.by_name.remove(&(key.tenant.clone(), claim.name));
        }
    }
}

fn check_type(kind: &str) -> Result<(), Refusal> {
    Err(match kind {
        "" | "tcp" => return Ok(()),
        "http" => Refusal::VirtualHost("http"),
        "https" => Refusal::VirtualHost("https"),
        "tcpmux" => Refusal::TcpMux,
        "udp" => Refusal::NotOffered("udp"),
        "stcp" => Refusal::NotOffered("stcp"),
        "sudp" => Refusal::NotOffered("sudp"),
        "xtcp" => Refusal::NotOffered("xtcp"),
        // Cut short: it is the client's text, and it goes back to the client and into the log.
        other => Refusal::UnknownType(other.chars().take(32).collect()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table() -> Ports {
        Ports::new([23000..=23999, 24000..=24099])
    }

    fn ours() -> &'static Tenant {
        static OURS: std::sync::LazyLock<Tenant> = std::sync::LazyLock::new(Tenant::default);
        &OURS
    }

    fn key(port: u16) -> TunnelKey {
        TunnelKey { tenant: Tenant::default(), port }
    }

    fn tcp(name: &str, port: u16) -> Wanted<'_> {
        Wanted { tenant: ours(), name, kind: "tcp", port, transformed: false }
    }

    #[test]
    fn refusals_are_in_frps_words() {
        let cases = [
            ("quic", 23000, "unknown proxy type: quic"),
            ("http", 23000, "type [http] not supported when vhost http port is not set"),
            ("https", 23000, "type [https] not supported when vhost https port is not set"),
            (
                "tcpmux",
                23000,
                "tcpmux with multiplexer httpconnect not supported because this feature is not \
                 enabled in server",
            ),
            ("udp", 23000, "type [udp] not supported by this server"),
            ("tcp", 22999, "port not allowed"),
            ("tcp", 24100, "port not allowed"),
            ("", 80, "port not allowed"),
            ("tcp", 0, "no available port"),
            ("tcp", 23001, "port already used"),
        ];
        for (kind, port, text) in cases {
            let mut ports = table();
            ports.claim(1, tcp("held", 23001)).unwrap();
            let refusal = ports.claim(2, Wanted { kind, ..tcp("new", port) }).unwrap_err();
            assert_eq!(refusal.to_string(), text);
        }
    }

    #[test]
    fn payload_that_would_arrive_garbled_is_refused_instead() {
        let wanted = Wanted { transformed: true, ..tcp("a", 23001) };
        assert_eq!(table().claim(1, wanted), Err(Refusal::Transformed));
    }

    #[test]
    fn both_ends_of_both_ranges_are_allowed_and_an_empty_type_is_tcp() {
        for port in [23000, 23999, 24000, 24099] {
            let wanted = Wanted { kind: "", ..tcp("a", port) };
            assert_eq!(table().claim(1, wanted), Ok(Granted::New));
        }
    }

    #[test]
    fn a_client_gets_one_port() {
        let mut ports = table();
        ports.claim(1, tcp("a", 23001)).unwrap();
        let error = ports.claim(1, tcp("b", 23002)).unwrap_err();
        assert_eq!(error.to_string(), "exceed the max_ports_per_client");
        assert_eq!(ports.release(1, "a"), Some(key(23001)));
        assert_eq!(ports.claim(1, tcp("b", 23002)), Ok(Granted::New));
    }

    #[test]
    fn a_repeated_request_is_granted_again() {
        let mut ports = table();
        ports.claim(1, tcp("a", 23001)).unwrap();
        assert_eq!(ports.claim(1, tcp("a", 23001)), Ok(Granted::Again));
    }

    #[test]
    fn a_restarted_client_takes_its_name_and_port_from_its_ghost() {
        let mut ports = table();
        ports.claim(1, tcp("a", 23001)).unwrap();
        assert_eq!(ports.claim(2, tcp("a", 23001)), Ok(Granted::From(1)));
        assert_eq!(ports.holder(&key(23001)).unwrap().session, 2);
        assert!(ports.release_all(1).is_empty(), "the ghost has nothing left to give back");
        assert_eq!(ports.holder(&key(23001)).unwrap().session, 2);
    }

    #[test]
    fn a_living_clients_name_is_not_moved_to_another_port() {
        let mut ports = table();
        ports.claim(1, tcp("a", 23001)).unwrap();
        let error = ports.claim(2, tcp("a", 23002)).unwrap_err();
        assert_eq!(error.to_string(), "proxy [a] already exists");
    }

    #[test]
    fn only_the_holder_can_give_back() {
        let mut ports = table();
        ports.claim(1, tcp("a", 23001)).unwrap();
        assert_eq!(ports.release(2, "a"), None);
        assert_eq!(ports.release(1, "b"), None);
        assert_eq!(ports.release(1, "a"), Some(key(23001)));
        assert_eq!(ports.release(1, "a"), None);
    }

    #[test]
    fn tenants_may_use_the_same_name_and_port() {
        let second = Tenant::new("second");
        let mut ports = table();
        ports.claim(1, tcp("demo", 23000)).unwrap();
        let theirs = Wanted { tenant: &second, ..tcp("demo", 23000) };
        assert_eq!(ports.claim(2, theirs), Ok(Granted::New));
        assert_eq!(ports.release(2, "demo").unwrap().tenant, second);
        assert_eq!(ports.holder(&key(23000)).unwrap().session, 1);
    }

    proptest! {
        #[test]
        fn names_and_ports_stay_one_to_one(
            steps in proptest::collection::vec((0u8..3, 0u64..4, 0u8..4, 22998u16..23004), 0..200)
        ) {
            let mut ports = table();
            for (what, session, name, port) in steps {
                let name = name.to_string();
                match what {
                    0 => { let _ = ports.claim(session, tcp(&name, port)); }
                    1 => { let _ = ports.release(session, &name); }
                    _ => { ports.release_all(session); }
                }
                prop_assert_eq!(ports.by_port.len(), ports.by_name.len());
                for (key, claim) in &ports.by_port {
                    prop_assert!((23000..=23999).contains(&key.port));
                    let name = (key.tenant.clone(), claim.name.clone());
                    prop_assert_eq!(ports.by_name.get(&name), Some(&key.port));
                    let held = ports.by_port.values().filter(|c| c.session == claim.session);
                    prop_assert_eq!(held.count(), 1);
                }
            }
        }
    }
}
