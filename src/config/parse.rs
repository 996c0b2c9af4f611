//! From the file to finished values: the sections in order, and `[node]` and `[log]` themselves.
//! The others have a file each. Reads the files a key points to; nothing else is touched.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::changes::Written;
use super::file::{File, Section};
use super::members;
use super::problem::{Problem, Problems};
use super::routers;
use super::serve::{self, Serve};
use crate::observe;
use crate::secret::Secret;

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
    /// What the file says, for comparison with a later one.
    pub written: Written,
    /// What is allowed in it and still may be a mistake.
    pub hints: Vec<Problem>,
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
    /// Where metrics and health are told; nowhere when there is none.
    pub metrics: Option<SocketAddr>,
}

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
pub fn load_routers(path: &Path) -> Result<Vec<vrrp::RouterConfig>, Problems> {
    let (name, text) = read_text(path)?;
    let file = File::new(&name, &text);
    let document = file.parse()?;
    // Neither priority nor state directory matters to addresses.
    let alone = cluster::Config::single(1, PathBuf::new());
    let sections = file.root(&document).sections("vrrp");
    let routers = routers::read(sections, &alone, routers::Purpose::Release).routers;
    drop(document);
    match file.into_problems() {
        problems if problems.is_empty() => Ok(routers),
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
    parse_with_key(name, text, None)
}

/// The same with the shared key from elsewhere: then no file has to be named for it.
///
/// # Errors
/// Every problem at once.
pub fn parse_with_key(name: &str, text: &str, key: Option<Secret>) -> Result<Config, Problems> {
    let file = File::new(name, text);
    let document = file.parse()?;
    let config = read(file.root(&document), key, Written::new(document.get_ref()));
    drop(document);
    let hints = file.hints();
    match (config, file.into_problems()) {
        (Some(config), problems) if problems.is_empty() => Ok(Config { hints, ..config }),
        (_, problems) => Err(Problems(problems)),
    }
}

fn read(mut root: Section<'_, '_>, key: Option<Secret>, written: Written) -> Option<Config> {
    let mut section = root.section("node");
    let id = section.optional("id").unwrap_or(1);
    let witness = section.choice("role", &[("node", false), ("witness", true)], false);
    let default_dir = || PathBuf::from("/var/lib/trigon");
    let default_socket = || PathBuf::from("/run/trigon/admin.sock");
    let mut metrics = root.section("metrics");
    let listen = metrics.optional("listen");
    metrics.finish();
    let node = Node {
        metrics: listen,
        name: section.optional("name").unwrap_or_else(|| format!("node-{id}")),
        state_dir: section.optional("state_dir").unwrap_or_else(default_dir),
        admin_socket: section.optional("admin_socket").unwrap_or_else(default_socket),
    };
    section.finish();
    let log = read_log(root.section("log"));
    let cluster = members::read(root.section("cluster"), id, &node.state_dir, witness);
    let serve = if witness {
        for key in ["nextcloud", "tenants", "exapps", "docker", "frp", "failover", "vrrp"] {
            root.refuse(
                key,
                "a section a witness has no use for",
                "only [node], [log], [metrics], [cluster]",
            );
        }
        None
    } else {
        serve::read(&mut root, &cluster, key)
    };
    root.finish();
    let hints = Vec::new();
    (witness || serve.is_some()).then_some(Config { node, log, cluster, serve, written, hints })
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
