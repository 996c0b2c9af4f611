//! What a node serves: `[nextcloud]`, `[exapps]`, `[web]`, `[docker]`, `[frp]` and `[failover]`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use super::failover;
use super::file::Section;
use super::galera;
use super::public;
use super::routers::{self, Purpose, Routers};
use super::tenants::{self, TenantConfig};
use super::web;
use crate::failover::trackers;
use crate::http::tls::{Certificate, Files};
use crate::secret::Secret;
use crate::{database, docker, frontend, frp, guard, nextcloud};

/// What a node with the role `node` serves.
#[derive(Clone, Debug)]
pub struct Serve {
    /// Failures and bans, and the shared keys.
    pub guard: guard::Config,
    /// The key of the default Nextcloud.
    pub shared_key: Secret,
    /// How the default Nextcloud is asked.
    pub nextcloud: nextcloud::Config,
    /// Further Nextclouds.
    pub tenants: Vec<TenantConfig>,
    /// Docker engines.
    pub docker: docker::Config,
    /// The FRP port.
    pub frp: frp::Config,
    /// The HTTP port and the way to the ExApps.
    pub frontend: frontend::Config,
    /// The front of a Galera cluster, if there is one.
    pub galera: Option<database::Config>,
    /// Who may hold an address.
    pub failover: crate::failover::Config,
    /// Virtual routers.
    pub routers: Vec<vrrp::RouterConfig>,
    /// What their priorities depend on.
    pub trackers: Vec<trackers::Tracker>,
}

/// With `key`, the shared key is known already and `exapps.shared_key_file` may be left out. `rank`
/// counts the load balancers before this one.
pub(super) fn read(root: &mut Section<'_, '_>, rank: usize, key: Option<Secret>) -> Option<Serve> {
    let mut section = root.section("nextcloud");
    let url = read_url(&mut section);
    section.finish();

    let mut section = root.section("exapps");
    let shared_key = key.or_else(|| read_key(&mut section));
    let (count, window, never_ban) = read_bans(&mut section);
    let mut frontend = read_frontend(&mut section);
    section.finish();

    frontend.public = public::read(root.section("public"), &frontend);
    frontend.web = web::read(root.section("web"), url.as_deref());
    let docker = read_docker(root.section("docker"));
    let frp = read_frp(root.section("frp"));
    frontend.announced_hosts.app_ports = frp.apps.clone();
    let tenants = tenants::read(root.sections("tenants"), shared_key.as_ref());
    let galera = galera::read(root.section("galera"));
    let failover = failover::read(root.section("failover"));
    let Routers { routers, trackers } = routers::read(root.sections("vrrp"), rank, Purpose::Run);
    let shared_key = shared_key?;
    let keys = tenants.iter().fold(guard::SharedKeys::new(shared_key.clone()), |keys, one| {
        keys.with(one.tenant.clone(), one.shared_key.clone())
    });
    let guard = guard::Config { keys, count, window, never_ban };
    let nextcloud = nextcloud::Config::new(url?, shared_key.clone());
    Some(Serve {
        guard,
        shared_key,
        nextcloud,
        tenants,
        docker,
        frp,
        frontend,
        galera,
        failover,
        routers,
        trackers,
    })
}

/// Where a Nextcloud is.
pub(super) fn read_url(section: &mut Section<'_, '_>) -> Option<String> {
    let url = section.required::<String>("url")?;
    if nextcloud::Config::is_usable_url(&url) {
        return Some(url);
    }
    let expected = "a URL such as \"https://cloud.example.org\"";
    section.wrong("url", format!("\"{url}\""), expected);
    None
}

/// The shared key, with HaRP's rules: trailing newlines are dropped, the rest must be printable
/// ASCII, because it travels in a header.
pub(super) fn read_key(section: &mut Section<'_, '_>) -> Option<Secret> {
    let path = section.required::<PathBuf>("shared_key_file")?;
    let wrong = |found: String, expected: &str| {
        section.wrong("shared_key_file", format!("{}: {found}", path.display()), expected);
    };
    let mut bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            wrong(error.to_string(), "a file this user can read, holding the shared key");
            return None;
        }
    };
    while bytes.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        bytes.pop();
    }
    if bytes.is_empty() {
        wrong("an empty file".into(), "the shared key on one line");
        return None;
    }
    if !bytes.iter().all(|byte| (0x20..0x7f).contains(byte)) {
        wrong("bytes other than printable ASCII".into(), "the shared key on one line");
        return None;
    }
    Some(Secret::new(bytes))
}

fn read_bans(section: &mut Section<'_, '_>) -> (usize, Duration, Vec<IpNet>) {
    let count = section.positive("ban_count").unwrap_or(10);
    let window = section.positive("ban_window").unwrap_or(Duration::from_secs(300));
    let never_ban = section.list("never_ban");
    (count, window, never_ban)
}

fn read_frontend(section: &mut Section<'_, '_>) -> frontend::Config {
    let mut config = frontend::Config::default();
    if let Some(lifetime) = section.optional::<Duration>("session_lifetime") {
        if lifetime > Duration::from_secs(10) {
            section.wrong("session_lifetime", format!("{lifetime:?}"), "at most \"10s\"");
        }
        config.session_lifetime = lifetime;
    }
    config.listen = section.optional("listen").unwrap_or(config.listen);
    config.tls = read_tls(section, config.listen);
    config.trusted_proxies = section.list("trusted_proxies");
    config.control_from = section.list("control_from");
    config.announced_hosts.listed = section.list("announced_hosts");
    config.strip_session = section.optional("strip_session").unwrap_or_default();
    let times = &mut config.timeouts;
    times.connect = section.positive("timeout_connect").unwrap_or(times.connect);
    times.client = section.positive("timeout_client").unwrap_or(times.client);
    times.server = section.positive("timeout_server").unwrap_or(times.server);
    times.tunnel = section.positive("timeout_tunnel").unwrap_or(times.server);
    if let Some(most) = section.positive("max_connections") {
        config.max_connections = most;
    }
    config
}

/// The listener with TLS exists when there is a certificate, as with HaRP.
fn read_tls(section: &mut Section<'_, '_>, plain: SocketAddr) -> Option<frontend::Tls> {
    let listen = section.optional("tls_listen").unwrap_or(frontend::Tls::LISTEN);
    let certificate = section.optional("tls_certificate");
    let key = section.optional("tls_key");
    let Some(certificate) = certificate else {
        section.refuse("tls_key", "a key without a certificate", "exapps.tls_certificate as well");
        return None;
    };
    if listen == plain {
        section.wrong("tls_listen", listen.to_string(), "another port than that of exapps.listen");
    }
    let files = Files { certificate, key };
    if let Err(error) = Certificate::open(files.clone()) {
        let of_key = error.is_key && files.key.is_some();
        let name = if of_key { "exapps.tls_key" } else { "exapps.tls_certificate" };
        section.complaint(name, error.to_string());
    }
    Some(frontend::Tls { listen, files })
}

fn read_docker(mut section: Section<'_, '_>) -> docker::Config {
    let mut config = docker::Config::default();
    if let Some(socket) = section.optional::<PathBuf>("socket") {
        if socket.is_relative() && socket != Path::new("off") {
            let expected = "an absolute path or \"off\"";
            section.wrong("socket", format!("\"{}\"", socket.display()), expected);
        }
        config.socket = (socket != Path::new("off")).then_some(socket);
    }
    let readable = section.optional("readable_client_key");
    config.readable_client_key = readable.unwrap_or(config.readable_client_key);
    section.finish();
    config
}

fn read_frp(mut section: Section<'_, '_>) -> frp::Config {
    let mut config = frp::Config::default();
    config.listen = section.optional("listen").unwrap_or(config.listen);
    if section.optional::<bool>("tls") == Some(false) {
        config.tls = frp::TlsMode::Optional;
    }
    if let Some(days) = section.positive("certificate_days") {
        config.certificate_days = days;
    }
    config.app_credentials = section.optional("app_credentials").unwrap_or(config.app_credentials);
    config.certificates_from = section.optional("certificates_from");
    config.tunnel_wait = section.optional("tunnel_wait").unwrap_or(config.tunnel_wait);
    if let Some(apps) = section.optional("app_ports") {
        config.apps = apps;
    }
    if let Some(engines) = section.optional("engine_ports") {
        config.engines = engines;
    }
    section.finish();
    config
}
