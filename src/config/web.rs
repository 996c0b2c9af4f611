//! The section `[web]`: Nextcloud's web nodes, and what else stands behind the same name.

use std::time::Duration;

use super::file::Section;
use crate::balance::pool::Terms;
use crate::balance::{ejection, health};
use crate::net::Target;
use crate::web::{Check, Checks, Config, PoolConfig, RouteConfig, ServerConfig};

/// What pools and servers may be called: their names stand in labels, logs and orders.
const NAMES: &str = "letters, digits, dots, hyphens and underscores";

/// None without the section. `url` is where Nextcloud is.
pub(super) fn read(mut section: Section<'_, '_>, url: Option<&str>) -> Option<Config> {
    if !section.is_present() {
        return None;
    }
    let own = url.and_then(|url| url.parse::<http::Uri>().ok());
    let own = own.and_then(|url| url.authority().map(ToString::to_string));
    let host = section.optional::<String>("host").or(own).unwrap_or_default();
    if !host.is_empty() && http::HeaderValue::from_str(&host).is_err() {
        section.wrong("host", format!("{host:?}"), "a host name that is one of trusted_domains");
    }
    let words = [
        ("status.php", Check::Nextcloud { host: host.clone() }),
        ("tcp", Check::Tcp),
        ("off", Check::Off),
    ];
    let word = section.optional::<String>("check").unwrap_or_else(|| words[0].0.to_owned());
    let check = words.iter().find(|(known, _)| *known == word).map(|(_, check)| check.clone());
    if check.is_none() {
        let expected = "\"status.php\" or \"tcp\" or \"off\"";
        section.wrong("check", format!("\"{word}\""), expected);
    }
    warn_unchecked(&section, "check", check.as_ref());
    let checks = Checks::default();
    let checks = Checks {
        interval: section.positive("check_interval").unwrap_or(checks.interval),
        timeout: section.positive("check_timeout").unwrap_or(checks.timeout),
    };
    let terms = read_terms(&mut section);
    let connect = section.positive("timeout_connect").unwrap_or(Duration::from_secs(3));
    let response = section.positive("timeout_response").unwrap_or(Duration::from_secs(3600));
    let request_body = section.positive("timeout_upload").unwrap_or(Duration::from_secs(60));
    let queue = section.positive("timeout_queue").unwrap_or(Duration::from_secs(10));
    let retry_percent = section.optional("retry_percent").unwrap_or(20);
    if retry_percent > 100 {
        section.wrong("retry_percent", retry_percent.to_string(), "0 to 100");
    }
    let servers = read_backends(&mut section);
    let mut routes: Vec<RouteConfig> = Vec::new();
    for route in section.sections("routes") {
        if let Some(route) = read_route(route, &terms, &host, &routes) {
            routes.push(route);
        }
    }
    section.finish();
    let pool = PoolConfig { name: "web".to_owned(), servers, check: check?, terms };
    Some(Config { pool, routes, checks, connect, response, request_body, queue, retry_percent })
}

fn warn_unchecked(section: &Section<'_, '_>, key: &str, check: Option<&Check>) {
    if check == Some(&Check::Off) {
        let text = "nobody checks these backends: one that is dead or frozen keeps its part of \
                    the requests until they fail";
        section.hint(key, text.to_owned());
    }
}

fn read_terms(section: &mut Section<'_, '_>) -> Terms {
    let default = Terms::default();
    Terms {
        health: health::Terms {
            rise: section.positive("rise").unwrap_or(default.health.rise),
            fall: section.positive("fall").unwrap_or(default.health.fall),
        },
        ejection: ejection::Terms {
            failures: section.optional("eject_after").unwrap_or(default.ejection.failures),
            ..default.ejection
        },
        slow_start: section.optional("slow_start").unwrap_or(default.slow_start),
        most: section.positive("max_requests"),
    }
}

fn read_backends(section: &mut Section<'_, '_>) -> Vec<ServerConfig> {
    let mut servers: Vec<ServerConfig> = Vec::new();
    for mut backend in section.sections("backends") {
        let name = backend.required::<String>("name");
        let target = backend.required::<Target>("address");
        if let Some(name) = &name {
            check_name(&backend, name);
            if servers.iter().any(|known| known.name == *name) {
                backend.wrong("name", format!("\"{name}\" again"), "a name of its own");
            }
        }
        if servers.iter().any(|known| Some(&known.target) == target.as_ref()) {
            backend.wrong("address", "that of another backend", "an address of its own");
        }
        backend.finish();
        if let (Some(name), Some(target)) = (name, target) {
            servers.push(ServerConfig { name, target });
        }
    }
    if servers.is_empty() {
        section.wrong("backends", "none", "a section [[web.backends]] for each web node");
    }
    servers
}

fn check_name(section: &Section<'_, '_>, name: &str) {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.len() > 64 || !name.bytes().all(fine) {
        section.wrong("name", format!("\"{name}\""), &format!("1 to 64 {NAMES}"));
    }
}

fn read_route(
    mut section: Section<'_, '_>,
    terms: &Terms,
    host: &str,
    before: &[RouteConfig],
) -> Option<RouteConfig> {
    let path = section.required::<String>("path");
    if let Some(path) = &path {
        let is_whole = path.len() > 2 && path.starts_with('/') && path.ends_with('/');
        if !is_whole || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            section.wrong("path", format!("\"{path}\""), "a path between slashes, like \"/push/\"");
        }
        if path.starts_with("/exapps/") {
            section.wrong("path", format!("\"{path}\""), "another path: this is the ExApps'");
        }
        if before.iter().any(|known| known.path == *path) {
            section.wrong("path", format!("\"{path}\" again"), "a path that stands once");
        }
    }
    let derived = path.as_deref().map(|path| path.trim_matches('/').replace('/', "-"));
    let name = section.optional::<String>("name").or(derived);
    if let Some(name) = &name {
        check_name(&section, name);
        if name == "web" || before.iter().any(|known| known.pool.name == *name) {
            section.wrong("name", format!("\"{name}\" again"), "a name of its own");
        }
    }
    let strip_prefix = section.optional("strip_prefix").unwrap_or(true);
    let word = section.optional::<String>("check").unwrap_or_else(|| "tcp".to_owned());
    let check = match word.as_str() {
        "tcp" => Some(Check::Tcp),
        "off" => Some(Check::Off),
        path if path.starts_with('/') && path.parse::<http::Uri>().is_ok() => {
            Some(Check::Path { host: host.to_owned(), path: path.to_owned() })
        }
        other => {
            let expected = "\"tcp\" or \"off\" or a path such as \"/ping\"";
            section.wrong("check", format!("\"{other}\""), expected);
            None
        }
    };
    warn_unchecked(&section, "check", check.as_ref());
    let targets = section.list::<Target>("backends");
    if targets.is_empty() {
        section.wrong("backends", "none", "the servers' addresses, such as [\"10.0.0.5:7867\"]");
    }
    section.finish();
    let server = |target: Target| ServerConfig { name: target.to_string(), target };
    let servers = targets.into_iter().map(server).collect();
    let pool = PoolConfig { name: name?, servers, check: check?, terms: terms.clone() };
    Some(RouteConfig { path: path?, strip_prefix, pool })
}
