//! The sections `[galera]` and `[[galera.nodes]]`.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::Section;
use crate::database::{Config, NodeConfig};
use crate::secret::Secret;

/// Longest wait that makes sense: PHP gives up after a minute by itself.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Shortest and longest time between two questions.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_secs(10);

/// None without the section.
pub(super) fn read(mut section: Section<'_, '_>) -> Option<Config> {
    if !section.is_present() {
        return None;
    }
    let listen = section.optional::<SocketAddr>("listen");
    let reader_listen = section.optional::<SocketAddr>("reader_listen");
    let user = read_user(&mut section);
    let password = read_password(&mut section);
    let nodes = read_nodes(&mut section);
    let is_whole = user.is_some() && password.is_some();
    let password = password.unwrap_or_else(|| Secret::new(""));
    let mut config = Config::new(user.unwrap_or_default(), password, nodes);
    config.listen = listen.unwrap_or(config.listen);
    config.reader_listen = reader_listen;
    if reader_listen == Some(config.listen) {
        section.wrong(
            "reader_listen",
            config.listen.to_string(),
            "another port than galera.listen",
        );
    }
    config.interval = section.optional("check_interval").unwrap_or(config.interval);
    if !INTERVALS.contains(&config.interval) {
        section.wrong("check_interval", format!("{:?}", config.interval), "\"50ms\" to \"10s\"");
    }
    config.timeout = section.positive("check_timeout").unwrap_or(config.timeout);
    config.max_sessions = section.positive("max_sessions").unwrap_or(config.max_sessions);
    let per_node = section.positive("max_node_sessions");
    config.max_node_sessions = per_node.unwrap_or(config.max_node_sessions);
    config.idle = section.positive("idle_timeout").unwrap_or(config.idle);
    config.wait = section.optional("wait").unwrap_or(config.wait);
    if config.wait > LONGEST_WAIT {
        section.wrong("wait", format!("{:?}", config.wait), "at most \"60s\"");
    }
    config.most_queued = section.optional("max_queue").unwrap_or(config.most_queued);
    section.finish();
    is_whole.then_some(config)
}

/// A writer port without a user that asks the nodes would send writes to nodes that cannot take
/// them, so there is none.
fn read_user(section: &mut Section<'_, '_>) -> Option<String> {
    let user = section.optional::<String>("user");
    match &user {
        None => {
            let expected = "a database user without rights who asks the nodes how they are, such \
                            as \"trigon\": without one nobody knows which node can be written to";
            section.wrong("user", "no monitor user", expected);
        }
        Some(user) if user.contains('\0') => {
            section.wrong("user", "a zero byte", "the name of a database user");
        }
        Some(_) => {}
    }
    user
}

/// Nobody but its owner may read it. An empty file is a user without a password.
fn read_password(section: &mut Section<'_, '_>) -> Option<Secret> {
    let path = section.required::<PathBuf>("password_file")?;
    match password(&path) {
        Ok(password) => Some(password),
        Err((found, expected)) => {
            section.wrong("password_file", format!("{}: {found}", path.display()), expected);
            None
        }
    }
}

fn password(path: &Path) -> Result<Secret, (String, &'static str)> {
    let expected = "a file this user can read, holding the monitor user's password on one line";
    let unreadable = |error: std::io::Error| (error.to_string(), expected);
    let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err((format!("mode {mode:04o}"), "0600: only its owner may read it"));
    }
    let mut bytes = std::fs::read(path).map_err(unreadable)?;
    while bytes.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        bytes.pop();
    }
    if bytes.contains(&b'\n') {
        return Err(("more than one line".to_owned(), expected));
    }
    Ok(Secret::new(bytes))
}

/// In the order in which they are preferred, which must be the same on all load balancers, however
/// their files are ordered.
fn read_nodes(section: &mut Section<'_, '_>) -> Vec<NodeConfig> {
    let mut nodes: Vec<(Reverse<u8>, NodeConfig)> = Vec::new();
    let sections = section.sections("nodes");
    if sections.is_empty() {
        section.wrong("nodes", "no node", "a section [[galera.nodes]] for each database node");
    }
    for mut one in sections {
        let name = one.required::<String>("name");
        let address = one.required::<SocketAddr>("address");
        let priority = one.optional("priority").unwrap_or(100);
        if let Some(name) = &name {
            let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if name.len() > cluster::record::MAX_WRITER_NAME || !name.bytes().all(is_fine) {
                let expected = "1 to 64 letters, digits, hyphens, dots and underscores";
                one.wrong("name", format!("\"{name}\""), expected);
            }
            if nodes.iter().any(|(_, known)| known.name == *name) {
                one.wrong("name", format!("\"{name}\" again"), "a name of its own");
            }
        }
        if let Some(address) = &address
            && nodes.iter().any(|(_, known)| known.address == *address)
        {
            one.wrong("address", format!("\"{address}\" again"), "an address of its own");
        }
        one.finish();
        if let (Some(name), Some(address)) = (name, address) {
            nodes.push((Reverse(priority), NodeConfig { name, address }));
        }
    }
    if let [(_, only)] = &*nodes {
        let text = "nothing takes over when it fails; a Galera cluster has three nodes or more";
        section.hint("nodes", format!("only {}: {text}", only.name));
    }
    nodes.sort_by(|(a, one), (b, other)| (a, &one.name).cmp(&(b, &other.name)));
    nodes.into_iter().map(|(_, node)| node).collect()
}
