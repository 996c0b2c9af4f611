//! From the file to finished values: which key belongs to which room, the defaults, and the
//! checks between keys. Reads the key file a key points to; nothing else is touched.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{File, Section};
use super::problem::{Problem, Problems};
use crate::secret::Secret;
use crate::{frontend, frp, guard, nextcloud, observe};

/// Everything a process is started with.
#[derive(Debug)]
pub struct Config {
    /// Who this is.
    pub node: Node,
    /// What it logs.
    pub log: observe::log::Config,
    /// How it takes part in the cluster.
    pub cluster: cluster::Config,
    /// What it serves; nothing on a witness.
    pub serve: Option<Serve>,
}

/// Identity and places of a node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name in logs and status.
    pub name: String,
    /// Directory for everything that must survive a restart.
    pub state_dir: PathBuf,
    /// Socket of the admin API.
    pub admin_socket: PathBuf,
}

/// What a node with the role `node` serves.
#[derive(Clone, Debug)]
pub struct Serve {
    /// Failures and bans, and the shared key.
    pub guard: guard::Config,
    /// How Nextcloud is asked.
    pub nextcloud: nextcloud::Config,
    /// The FRP port.
    pub frp: frp::Config,
    /// The HTTP port and the way to the ExApps.
    pub frontend: frontend::Config,
    /// Virtual routers.
    pub speakers: Speakers,
}

/// Virtual routers by interface.
pub type Speakers = BTreeMap<String, Vec<vrrp::RouterConfig>>;

/// Reads and checks a configuration file.
///
/// # Errors
/// Every problem at once.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let (name, text) = read_text(path)?;
    parse(&name, &text)
}

/// Reads nothing but the virtual routers: for cleaning up, which must work although a key file is
/// gone or another section is broken.
///
/// # Errors
/// Every problem of that part.
pub fn load_speakers(path: &Path) -> Result<Speakers, Problems> {
    let (name, text) = read_text(path)?;
    let file = File::new(&name, &text);
    let document = file.parse()?;
    // Neither priority nor state directory matters to addresses.
    let alone = cluster::Config::single(1, PathBuf::new());
    let speakers = read_speakers(file.root(&document).sections("vrrp"), &alone);
    drop(document);
    match file.into_problems() {
        problems if problems.is_empty() => Ok(speakers),
        problems => Err(Problems(problems)),
    }
}

fn read_text(path: &Path) -> Result<(String, String), Problems> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(Problems(vec![Problem {
            file: name,
            line: 0,
            key: "--config".into(),
            found: error.to_string(),
            expected: "a readable TOML file".into(),
        }])),
    }
}

/// The same for a text already read; `name` is used in messages.
///
/// # Errors
/// Every problem at once.
pub fn parse(name: &str, text: &str) -> Result<Config, Problems> {
    let file = File::new(name, text);
    let document = file.parse()?;
    let config = read(file.root(&document));
    drop(document);
    match (config, file.into_problems()) {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(Problems(problems)),
    }
}

fn read(mut root: Section<'_, '_>) -> Option<Config> {
    let mut section = root.section("node");
    let id = section.optional("id").unwrap_or(1);
    let witness = section.choice("role", &[("node", false), ("witness", true)], false);
    let default_dir = || PathBuf::from("/var/lib/trigon");
    let default_socket = || PathBuf::from("/run/trigon/admin.sock");
    let node = Node {
        name: section.optional("name").unwrap_or_else(|| format!("node-{id}")),
        state_dir: section.optional("state_dir").unwrap_or_else(default_dir),
        admin_socket: section.optional("admin_socket").unwrap_or_else(default_socket),
    };
    section.finish();
    let log = read_log(root.section("log"));
    let cluster = read_cluster(root.section("cluster"), id, &node.state_dir, witness);
    let serve = if witness {
        for key in ["nextcloud", "exapps", "frp", "vrrp"] {
            root.refuse(key, "a section a witness has no use for", "only [node], [log], [cluster]");
        }
        None
    } else {
        read_serve(&mut root, &cluster)
    };
    root.finish();
    (witness || serve.is_some()).then_some(Config { node, log, cluster, serve })
}

fn read_log(mut section: Section<'_, '_>) -> observe::log::Config {
    use observe::log::Format;
    let mut config = observe::log::Config::default();
    if let Some(filter) = section.optional::<String>("level") {
        if !observe::log::is_filter(&filter) {
            section.wrong("level", format!("\"{filter}\""), observe::log::EXPECTED);
        }
        config.filter = filter;
    }
    let formats = [("text", Format::Text), ("json", Format::Json)];
    config.format = section.choice("format", &formats, config.format);
    section.finish();
    config
}

fn read_cluster(
    mut section: Section<'_, '_>,
    node_id: u64,
    state_dir: &Path,
    witness: bool,
) -> cluster::Config {
    let mut config = cluster::Config::single(node_id, state_dir.join("cluster"));
    if !section.is_present() {
        if witness {
            let expected = "a [cluster] section: a witness alone has nothing to vote on";
            section.wrong("listen", "nothing", expected);
        }
        return config;
    }
    if let Some(name) = section.optional("name") {
        config.cluster_name = name;
    }
    if let Some(listen) = section.required("listen") {
        config.listen = listen;
    }
    let files = (section.required("ca"), section.required("certificate"), section.required("key"));
    if let (Some(ca), Some(certificate), Some(key)) = files {
        config.tls = Some(cluster::TlsFiles { ca, certificate, key });
    }
    for mut member in section.sections("members") {
        let id = member.required("id");
        let address = member.required::<SocketAddr>("address");
        let roles = [("node", cluster::Role::Node), ("witness", cluster::Role::Witness)];
        let role = member.choice("role", &roles, cluster::Role::Node);
        member.finish();
        if let (Some(id), Some(address)) = (id, address) {
            config.members.push(cluster::Member { id, address, role });
        }
    }
    check_cluster(&section, &config, witness);
    section.finish();
    config
}

fn check_cluster(section: &Section<'_, '_>, config: &cluster::Config, witness: bool) {
    if config.members.is_empty() {
        let expected = "one [[cluster.members]] for every member, this node included";
        section.wrong("members", "nothing", expected);
        return;
    }
    let is_member = config.members.iter().any(|member| member.id == config.node_id);
    if is_member && (config.role() == cluster::Role::Witness) != witness {
        let expected = "the same role in [node] and in this node's [[cluster.members]]";
        section.wrong("members", "two different roles", expected);
    }
    for problem in config.problems() {
        section.complaint(problem.key, problem.text);
    }
    let Some(files) = &config.tls else { return };
    let loaded = cluster::identity::Identity::load(files, &config.cluster_name, config.node_id);
    if let Err(error) = loaded {
        let (key, text) = (error.key(), error.to_string());
        let text = text.strip_prefix(key).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&text);
        section.complaint(key, format!("{text} (`trigon certs` makes all three files)"));
    }
}

fn read_serve(root: &mut Section<'_, '_>, cluster: &cluster::Config) -> Option<Serve> {
    let mut section = root.section("nextcloud");
    let url = section.required::<String>("url");
    let url = url.filter(|url| {
        let fine = nextcloud::Config::is_usable_url(url);
        if !fine {
            let expected = "a URL such as \"https://cloud.example.org\"";
            section.wrong("url", format!("\"{url}\""), expected);
        }
        fine
    });
    section.finish();

    let mut section = root.section("exapps");
    let shared_key = read_key(&mut section);
    let guard = read_guard(&mut section, shared_key.clone());
    let frontend = read_frontend(&mut section);
    section.finish();

    let frp = read_frp(root.section("frp"));
    let speakers = read_speakers(root.sections("vrrp"), cluster);
    let nextcloud = nextcloud::Config::new(url?, shared_key?);
    Some(Serve { guard: guard?, nextcloud, frp, frontend, speakers })
}

/// The shared key, with HaRP's rules: trailing newlines are dropped, the rest must be printable
/// ASCII, because it travels in a header.
fn read_key(section: &mut Section<'_, '_>) -> Option<Secret> {
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

fn read_guard(section: &mut Section<'_, '_>, shared_key: Option<Secret>) -> Option<guard::Config> {
    let count = section.positive("ban_count").unwrap_or(10);
    let window = section.positive("ban_window").unwrap_or(Duration::from_secs(300));
    Some(guard::Config { shared_key: shared_key?, count, window })
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
    config.trusted_proxies = section.list("trusted_proxies");
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

fn read_frp(mut section: Section<'_, '_>) -> frp::Config {
    let mut config = frp::Config::default();
    config.listen = section.optional("listen").unwrap_or(config.listen);
    if section.optional::<bool>("tls") == Some(false) {
        config.tls = frp::TlsMode::Optional;
    }
    if let Some(days) = section.positive("certificate_days") {
        config.certificate_days = days;
    }
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

fn read_speakers(sections: Vec<Section<'_, '_>>, cluster: &cluster::Config) -> Speakers {
    let mut speakers = Speakers::new();
    for mut section in sections {
        let interface = section.required::<String>("interface");
        let router = read_router(&mut section, default_priority(cluster));
        let (Some(interface), Some(router)) = (interface, router) else {
            section.finish();
            continue;
        };
        let routers = speakers.entry(interface.clone()).or_default();
        routers.push(router);
        if let Err(error) = vrrp::SpeakerConfig::new(interface, routers.clone()) {
            complain(&section, &error);
        }
        section.finish();
    }
    speakers
}

fn read_router(section: &mut Section<'_, '_>, priority: u8) -> Option<vrrp::RouterConfig> {
    let vrid = section.required("vrid");
    let addresses = section.list::<Ipv4Addr>("addresses");
    let priority = section.optional("priority").unwrap_or(priority);
    let interval = section.optional("advert_interval").unwrap_or(Duration::from_millis(100));
    let preempt = section.optional("preempt").unwrap_or(true);
    let built = vrrp::RouterConfig::new(vrid?, addresses)
        .and_then(|router| router.with_priority(priority))
        .and_then(|router| router.with_interval(interval));
    match built {
        // The address comes only once this node can serve it.
        Ok(router) => Some(router.with_preempt(preempt).with_permission(false)),
        Err(error) => {
            complain(section, &error);
            None
        }
    }
}

/// The texts of this room begin with the value they are about.
fn complain(section: &Section<'_, '_>, error: &vrrp::ConfigError) {
    let text = error.to_string();
    let (key, text) = text.split_once(": ").unwrap_or(("vrid", &text));
    let key = if key == "interval" { "advert_interval" } else { key };
    section.wrong(key, text, "");
}

/// Near the top Skew_Time all but vanishes, and equal priorities are a trap: the lowest id gets
/// 254, each next one less. Witnesses have no virtual router and are not counted.
fn default_priority(cluster: &cluster::Config) -> u8 {
    let before = cluster
        .members
        .iter()
        .filter(|member| member.role == cluster::Role::Node && member.id < cluster.node_id);
    254_u8.saturating_sub(u8::try_from(before.count()).unwrap_or(u8::MAX)).max(1)
}
