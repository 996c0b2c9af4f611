//! From the file to finished values: the sections in order, and `[log]` itself. The others have a
//! file each. Reads the files a key points to and the passport; nothing else is touched.

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cluster::{Passport, Role};

use super::changes::Written;
use super::file::{File, Section};
use super::home;
use super::members::{self, Otherwise};
use super::page;
use super::problem::{Problem, Problems};
use super::routers;
use super::serve::{self, Serve};
use crate::observe;
use crate::secret::Secret;

/// Sections of nodes that serve.
const SERVING: [&str; 10] = [
    "nextcloud",
    "tenants",
    "exapps",
    "public",
    "web",
    "docker",
    "frp",
    "galera",
    "failover",
    "vrrp",
];

/// Everything a process is started with.
#[derive(Debug)]
pub struct Config {
    /// Who this is.
    pub node: Node,
    /// What it logs.
    pub log: observe::log::Config,
    /// How it takes part in the cluster.
    pub cluster: cluster::Config,
    /// Which member it is; none before it was in any cluster.
    pub passport: Option<Passport>,
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
    /// The status page; none: nothing listens.
    pub page: Option<crate::page::Config>,
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
    // The priority does not matter to addresses.
    let sections = file.root(&document).sections("vrrp");
    let routers = routers::read(sections, 0, routers::Purpose::Release).routers;
    drop(document);
    match file.into_problems() {
        problems if problems.is_empty() => Ok(routers),
        problems => Err(Problems(problems)),
    }
}

pub(super) fn read_text(path: &Path) -> Result<(String, String), Problems> {
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
    let home = home::read(root.section("node"));
    let passport = read_passport(&root, &home);
    let mut metrics = root.section("metrics");
    let listen = metrics.optional("listen");
    metrics.finish();
    let page = page::read(root.section("status_page"));
    let log = read_log(root.section("log"));
    let section = root.section("cluster");
    let alone = !section.is_present();
    let known = passport.as_ref().and_then(|passport| passport.advertise);
    let cluster = members::read(section, &home.state_dir, Otherwise::Passport(known));
    if passport.is_none() && !alone {
        let text = "this machine is in no cluster yet: `trigon init` makes it the first node, \
                    `trigon join` a member of a cluster that exists";
        root.hint("cluster", text.to_owned());
    }
    let role = home.role.or(passport.as_ref().map(|passport| passport.role));
    let serve = if role == Some(Role::Witness) {
        if alone {
            let expected = "a section [cluster]: a witness alone has nothing to vote on";
            root.wrong("cluster", "nothing", expected);
        }
        for key in SERVING {
            root.refuse(
                key,
                "a section a witness has no use for",
                "only [node], [log], [metrics], [status_page], [cluster]",
            );
        }
        None
    } else {
        serve::read(&mut root, passport.as_ref().map_or(0, rank), key)
    };
    root.finish();
    let told = passport.as_ref().map(|passport| passport.node_name.clone());
    let node = Node {
        metrics: listen,
        page,
        name: home.name.or(told).unwrap_or_else(home::host_name),
        state_dir: home.state_dir,
        admin_socket: home.admin_socket,
    };
    let hints = Vec::new();
    let is_whole = role == Some(Role::Witness) || serve.is_some();
    is_whole.then_some(Config { node, log, cluster, passport, serve, written, hints })
}

/// The passport in the state directory, which must fit what the file says.
fn read_passport(root: &Section<'_, '_>, home: &home::Home) -> Option<Passport> {
    let passport = match Passport::load(&home.state_dir) {
        Ok(passport) => passport?,
        Err(error) => {
            let why = error.source().map(|why| format!(": {why}")).unwrap_or_default();
            root.complaint("node.state_dir", format!("{error}{why}"));
            return None;
        }
    };
    if home.role.is_some_and(|role| role != passport.role) {
        let (is, dir) = (passport.role, home.state_dir.display());
        root.complaint(
            "node.role",
            format!(
                "{dir} belongs to a {is}, node {} of cluster {:?}; write \"{is}\", or move the \
                 directory away and join with a token for the other role",
                passport.number, passport.cluster_name
            ),
        );
    }
    Some(passport)
}

/// How many load balancers of the cluster have a lower number than this member.
fn rank(passport: &Passport) -> usize {
    let is_before =
        |seed: &&cluster::Seed| seed.role == Role::Node && seed.number < passport.number;
    passport.seeds.iter().filter(is_before).count()
}

fn read_log(mut section: Section<'_, '_>) -> observe::log::Config {
    use observe::access::{Config as Access, Style};
    use observe::log::Format;
    let mut config = observe::log::Config::default();
    if let Some(filter) = section.optional::<String>("level") {
        if !observe::log::is_filter(&filter) {
            section.wrong("level", format!("\"{filter}\""), observe::log::EXPECTED);
        }
        config.filter = filter;
    }
    let formats = [("auto", Format::Auto), ("text", Format::Text), ("json", Format::Json)];
    config.format = section.choice("format", &formats, config.format);
    let styles = [("off", None), ("json", Some(Style::Json)), ("combined", Some(Style::Combined))];
    let style = section.choice("access", &styles, None);
    let file = section.optional::<PathBuf>("access_file");
    match style {
        Some(style) => config.access = Some(Access { style, file }),
        None if file.is_some() => {
            section.wrong(
                "access_file",
                "a file for a log that is off",
                "`access = \"json\"` or none",
            );
        }
        None => {}
    }
    section.finish();
    config
}
