//! The sections `[[vrrp]]`: one virtual router each.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use vrrp::RouterConfig;

use super::file::Section;

pub(super) fn read(sections: Vec<Section<'_, '_>>, cluster: &cluster::Config) -> Vec<RouterConfig> {
    let mut routers = Vec::new();
    for mut section in sections {
        let interface = section.required::<String>("interface");
        let router = read_router(&mut section, interface, default_priority(cluster));
        if let Some(router) = router {
            routers.push(router);
            if let Err(error) = vrrp::SpeakerConfig::new(routers.clone()) {
                complain(&section, &error);
            }
        }
        section.finish();
    }
    routers
}

fn read_router(
    section: &mut Section<'_, '_>,
    interface: Option<String>,
    priority: u8,
) -> Option<RouterConfig> {
    let vrid = section.required("vrid");
    let addresses = section.list::<Ipv4Addr>("addresses");
    let priority = section.optional("priority").unwrap_or(priority);
    let interval = section.optional("advert_interval").unwrap_or(Duration::from_millis(100));
    let preempt = section.optional("preempt").unwrap_or(true);
    let addresses = addresses.into_iter().map(IpAddr::V4).collect();
    let built = RouterConfig::new(&interface?, vrid?, addresses)
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
