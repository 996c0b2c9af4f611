//! `[[tenants]]`: further Nextclouds beside the one of `[nextcloud]`.

use cluster::record::Tenant;

use super::file::Section;
use super::serve::{read_key, read_url};
use crate::nextcloud;
use crate::secret::Secret;

/// One further Nextcloud.
#[derive(Clone, Debug)]
pub struct TenantConfig {
    /// Its name, the same on every node.
    pub tenant: Tenant,
    /// Public host names it is visited under, lower-cased.
    pub hosts: Vec<String>,
    /// The key it and its tunnel clients use.
    pub shared_key: Secret,
    /// How it is asked.
    pub nextcloud: nextcloud::Config,
}

/// Longest name: it stands in records, labels and logs.
const MAX_NAME: usize = 32;

pub(super) fn read(
    sections: Vec<Section<'_, '_>>,
    default_key: Option<&Secret>,
) -> Vec<TenantConfig> {
    let mut tenants: Vec<TenantConfig> = Vec::new();
    for section in sections {
        if let Some(tenant) = read_one(section, default_key, &tenants) {
            tenants.push(tenant);
        }
    }
    tenants
}

fn read_one(
    mut section: Section<'_, '_>,
    default_key: Option<&Secret>,
    before: &[TenantConfig],
) -> Option<TenantConfig> {
    let name = section.required::<String>("name");
    let url = read_url(&mut section);
    let shared_key = read_key(&mut section);
    let hosts = section.list::<String>("hosts");
    let hosts: Vec<String> = hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect();
    if let Some(name) = &name {
        let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.len() > MAX_NAME || !name.bytes().all(fine) {
            let expected = "1 to 32 lower-case letters, digits and hyphens";
            section.wrong("name", format!("\"{name}\""), expected);
        }
        if before.iter().any(|known| known.tenant.as_str() == name) {
            section.wrong("name", format!("\"{name}\" again"), "a name of its own");
        }
    }
    if let Some(key) = &shared_key {
        let others = before.iter().map(|known| &known.shared_key).chain(default_key);
        // All are compared, as where requests are judged.
        if others.filter(|other| other.matches(key.expose())).count() > 0 {
            let expected = "a key of its own: the key tells whose call or tunnel it is";
            section.wrong("shared_key_file", "the key of another Nextcloud", expected);
        }
    }
    if hosts.is_empty() {
        let expected = "the public host names of this Nextcloud, which tell its visitors apart";
        section.wrong("hosts", "none", expected);
    }
    for (index, host) in hosts.iter().enumerate() {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        let has_port = !host.ends_with(']') && host.contains(':');
        if has_port || !host.bytes().all(fine) {
            section.wrong("hosts", format!("\"{host}\""), "a host name without scheme and port");
        }
        let taken = before.iter().flat_map(|known| &known.hosts).chain(&hosts[..index]);
        if taken.into_iter().any(|known| known == host) {
            section.wrong("hosts", format!("\"{host}\" again"), "hosts that stand in one place");
        }
    }
    section.finish();
    let shared_key = shared_key?;
    let nextcloud = nextcloud::Config::new(url?, shared_key.clone());
    Some(TenantConfig { tenant: Tenant::new(name?), hosts, shared_key, nextcloud })
}
