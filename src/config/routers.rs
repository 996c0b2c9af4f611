//! The sections `[[vrrp]]`: one virtual router each.
//!
//! `dialect` reads how it talks and to whom, `track` what its priority depends on, `hints` finds
//! what is allowed and still a trap.

mod dialect;
mod hints;
mod track;

use std::net::IpAddr;
use std::time::Duration;

use vrrp::{RouterConfig, VirtualAddress};

use super::file::Section;
use crate::failover::trackers;

/// Everything the sections say.
#[derive(Clone, Debug, Default)]
pub(super) struct Routers {
    /// The virtual routers, in the order of the file.
    pub(super) routers: Vec<RouterConfig>,
    /// What their priorities depend on.
    pub(super) trackers: Vec<trackers::Tracker>,
}

/// How much of a section counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A node that is to run.
    Run,
    /// Cleaning up: only where which addresses may be. It must work although a file is gone.
    Release,
}

/// `rank` counts the load balancers before this one.
pub(super) fn read(sections: Vec<Section<'_, '_>>, rank: usize, purpose: Purpose) -> Routers {
    let mut all = Routers::default();
    for mut section in sections {
        let mut sources = Vec::new();
        let router = read_router(&mut section, default_priority(rank), purpose, &mut sources);
        if let Some(router) = router {
            if purpose == Purpose::Run {
                hints::look(&router, &section);
            }
            let name = router.name();
            all.trackers.extend(sources.into_iter().map(|source| trackers::Tracker {
                router: name.clone(),
                name: source.name().into(),
                source,
            }));
            all.routers.push(router);
            if let Err(error) = vrrp::SpeakerConfig::new(all.routers.clone()) {
                complain(&section, &error);
            }
        }
        section.finish();
    }
    all
}

fn read_router(
    section: &mut Section<'_, '_>,
    default_priority: u8,
    purpose: Purpose,
    sources: &mut Vec<trackers::Source>,
) -> Option<RouterConfig> {
    let name = section.optional::<String>("name");
    let interface = section.required::<String>("interface");
    let vrid = section.required("vrid");
    let addresses = section.list::<VirtualAddress>("addresses");
    let extra = section.list::<VirtualAddress>("extra_addresses");
    let priority = section.optional("priority").unwrap_or(default_priority);
    let interval = section.optional("advert_interval").unwrap_or(Duration::from_millis(100));
    let preempt = section.optional("preempt").unwrap_or(true);
    let delay = section.optional::<Duration>("preempt_delay").unwrap_or_default();
    let group = section.optional::<String>("sync_group");
    let virtual_mac = section.optional("virtual_mac").unwrap_or(false);
    let dialect = dialect::read(section, purpose);
    let tracks = track::read(section, purpose, sources);

    let only: Vec<IpAddr> = addresses.iter().map(VirtualAddress::address).collect();
    let built = RouterConfig::new(&interface?, vrid?, only).and_then(|mut router| {
        for address in addresses.iter().filter(|address| !address.is_host()) {
            router = router.with_prefix_length(address.address(), address.prefix())?;
        }
        router
            .with_extra_addresses(extra)?
            .with_priority(priority)?
            .with_interval(interval)?
            .with_preempt_delay(delay)?
            .with_dialect(dialect?)?
            .with_trackers(tracks)
    });
    match built {
        // The address comes only once this node can serve it.
        Ok(router) => {
            let router = router.with_preempt(preempt).with_virtual_mac(virtual_mac);
            let mut router = router.with_permission(false);
            if let Some(name) = name {
                router = router.with_name(&name);
            }
            if let Some(group) = group {
                router = router.with_sync_group(&group);
            }
            Some(router)
        }
        Err(error) => {
            complain(section, &error);
            None
        }
    }
}

/// Their texts begin with the value they are about.
fn complain(section: &Section<'_, '_>, error: &vrrp::ConfigError) {
    let text = error.to_string();
    let (about, text) = text.split_once(": ").unwrap_or(("vrid", &text));
    let key = match about {
        "interval" => "advert_interval",
        "password" => "password_file",
        "unicast peers" => "unicast_peers",
        "unicast source" => "unicast_source",
        key => key,
    };
    section.wrong(key, text, "");
}

/// Near the top Skew_Time all but vanishes, and equal priorities are a trap: the first load balancer
/// of the cluster gets 254, each next one less.
fn default_priority(rank: usize) -> u8 {
    254_u8.saturating_sub(u8::try_from(rank).unwrap_or(u8::MAX)).max(1)
}
