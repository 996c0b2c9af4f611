//! Which proxy and port a login may claim (weakness W18): frps lets any client that may log in
//! take any free port and name, that of a stopped ExApp with its secret and its users too. Sans-io.
//!
//! Whether the port is free is `ports.rs`'s question.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use cluster::record::{SealedExApp, Tenant};

use super::credential::AppCredential;

/// What a login has proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It knows the shared key of this tenant: stock frpc of Docker engines, manual installs, and
    /// ExApps that were deployed with the key in their environment.
    SharedKey(Tenant),
    /// It is the tunnel client of one ExApp.
    App(AppCredential),
}

impl Proof {
    /// The Nextcloud it belongs to.
    pub fn tenant(&self) -> &Tenant {
        match self {
            Self::SharedKey(tenant) => tenant,
            Self::App(credential) => &credential.tenant,
        }
    }
}

/// Why a login may not have a proxy. The text goes to the client; each begins as frps begins when
/// the same client meets a living holder, because operators search for those words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A token is for one proxy.
    #[error("port not allowed: this client's token is for proxy [{app}] on port {port} only")]
    OtherApp {
        /// Whom the token was made for.
        app: String,
        /// Its port.
        port: u16,
    },
    /// Docker engines prove themselves with the shared key.
    #[error("port not allowed: port {0} is for Docker engines, which need the shared key")]
    Engine(u16),
    /// Nextcloud has given the app another port.
    #[error("proxy [{app}] already exists: Nextcloud has given this app port {port}")]
    OtherPort {
        /// The app.
        app: String,
        /// Its port.
        port: u16,
    },
    /// Nextcloud has given the port to another app.
    #[error("port already used: Nextcloud has given port {port} to app [{app}]")]
    OtherOwner {
        /// Whose it is.
        app: String,
        /// The port.
        port: u16,
    },
}

/// Whether `proof` entitles to the proxy `name` on `port`, as far as the login alone can tell.
///
/// # Errors
/// [`Denied::OtherApp`] and [`Denied::Engine`].
pub fn check_proof(
    proof: &Proof,
    name: &str,
    port: u16,
    engines: &RangeInclusive<u16>,
) -> Result<(), Denied> {
    let Proof::App(credential) = proof else { return Ok(()) };
    if credential.app != name || credential.port != port {
        return Err(Denied::OtherApp { app: credential.app.clone(), port: credential.port });
    }
    if engines.contains(&port) {
        return Err(Denied::Engine(port));
    }
    Ok(())
}

/// Whether the records of the tenant speak against proxy `name` on `port`. What no record knows
/// is allowed: an ExApp dials in before Nextcloud describes it.
///
/// # Errors
/// [`Denied::OtherPort`] and [`Denied::OtherOwner`].
pub fn check_records<'r>(
    records: impl Iterator<Item = &'r SealedExApp>,
    name: &str,
    port: u16,
) -> Result<(), Denied> {
    let id = name.to_lowercase();
    let mut owner = None;
    for record in records.filter(|record| is_tunnelled(record)) {
        if record.id == id {
            if record.port == port {
                return Ok(());
            }
            return Err(Denied::OtherPort { app: record.id.clone(), port: record.port });
        }
        if record.port == port {
            owner = Some(record.id.clone());
        }
    }
    match owner {
        Some(app) => Err(Denied::OtherOwner { app, port }),
        None => Ok(()),
    }
}

/// Whether the record's port is a tunnel's: elsewhere it says nothing about ours.
fn is_tunnelled(record: &SealedExApp) -> bool {
    record.host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINES: RangeInclusive<u16> = 24000..=24099;

    fn app(app: &str, port: u16) -> Proof {
        Proof::App(AppCredential { tenant: Tenant::default(), app: app.into(), port })
    }

    #[test]
    fn w18_a_token_opens_its_own_tunnel_and_no_other() {
        let mine = "port not allowed: this client's token is for proxy [demo] on port 23000 only";
        let engine =
            "port not allowed: port 24000 is for Docker engines, which need the shared key";
        let key = Proof::SharedKey(Tenant::default());
        let demo = app("demo", 23000);
        for (proof, name, port, expected) in [
            (&demo, "demo", 23000, None),
            (&demo, "demo", 23001, Some(mine)),
            (&demo, "other", 23000, Some(mine)),
            (&demo, "Demo", 23000, Some(mine)),
            (&demo, "demo", 24000, Some(mine)),
            (&app("engine", 24000), "engine", 24000, Some(engine)),
            (&key, "demo", 23000, None),
            (&key, "docker-engine", 24000, None),
        ] {
            let found = check_proof(proof, name, port, &ENGINES).err().map(|e| e.to_string());
            assert_eq!(found.as_deref(), expected, "{name} {port}");
        }
    }

    fn record(id: &str, host: &str, port: u16) -> SealedExApp {
        SealedExApp {
            id: id.into(),
            token: "secret".into(),
            version: "1".into(),
            host: host.into(),
            port,
            routes: Vec::new(),
        }
    }

    #[test]
    fn w18_what_nextcloud_gave_one_app_no_other_name_or_port_may_have() {
        let records = [
            record("demo", "127.0.0.1", 23000),
            record("stale", "127.0.0.1", 23001),
            record("moved", "127.0.0.1", 23001),
            record("direct", "direct", 23002),
        ];
        for (name, port, expected) in [
            ("demo", 23000, None),
            ("Demo", 23000, None),
            ("moved", 23001, None),
            ("direct", 23009, None),
            ("new", 23002, None),
            ("new", 23009, None),
            (
                "demo",
                23009,
                Some("proxy [demo] already exists: Nextcloud has given this app port 23000"),
            ),
            (
                "thief",
                23000,
                Some("port already used: Nextcloud has given port 23000 to app [demo]"),
            ),
        ] {
            let found = check_records(records.iter(), name, port).err().map(|e| e.to_string());
            assert_eq!(found.as_deref(), expected, "{name} {port}");
        }
    }
}
