//! What is allowed in `[[vrrp]]` and still a trap; `trigon check` tells it.

use std::net::IpAddr;

use vrrp::RouterConfig;

use super::super::file::Section;

/// VRIDs that keepalived's examples and makers of routers use when nobody chooses one.
const COMMON: [u8; 4] = [1, 2, 10, 51];

/// Looks at one router.
pub(super) fn look(router: &RouterConfig, section: &Section<'_, '_>) {
    let vrid = router.vrid().as_u8();
    if COMMON.contains(&vrid) {
        section.hint("vrid", format!(
            "{vrid} is what routers and examples use by default; make sure that nothing else on \
             this segment does, or take a number of your own"
        ));
    }
    let link_local = |address: &IpAddr| match address {
        IpAddr::V6(address) => address.is_unicast_link_local(),
        IpAddr::V4(_) => true,
    };
    if router.addresses().first().is_some_and(|first| !link_local(first)) {
        let text = "the first IPv6 address is not link-local (fe80::/10): hosts that learned the \
                    router from router advertisements cannot follow it; harmless for servers";
        section.hint("addresses", text.to_owned());
    }
    if !router.preempt() && !router.preempt_delay().is_zero() {
        section.hint("preempt_delay", "without effect while preempt = false".to_owned());
    }
    weights(router, section);
}

/// The priority is cut to 1..=254, so a weight beyond that says less than it seems to.
fn weights(router: &RouterConfig, section: &Section<'_, '_>) {
    let weights = || router.trackers().iter().map(|tracker| i32::from(tracker.weight()));
    let base = i32::from(router.priority().as_u8());
    let up: i32 = weights().filter(|weight| *weight > 0).sum();
    let down: i32 = weights().filter(|weight| *weight < 0).sum();
    if base + up > 254 {
        section.hint("priority", format!(
            "{base} and all positive weights make {}, which is cut to 254: a tracker that is down \
             then changes less than its weight; lower the priority",
            base + up
        ));
    }
    if base + down < 1 {
        section.hint("priority", format!(
            "{base} less all negative weights is cut to 1: after that a further failure changes \
             nothing"
        ));
    }
    if down < 0 {
        section.hint("priority", format!(
            "trackers can lower it from {base} to {}: a peer takes over only if its own priority \
             lies above that",
            (base + down).max(1)
        ));
    }
}
