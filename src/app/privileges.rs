//! What the threads that serve requests may still do. Capabilities belong to threads on Linux: the
//! VRRP thread, the main thread and the guardian's keeper hold all the process was given.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// Everything somebody on these threads needs; a capability goes from here with the last who does.
const NEEDED: CapabilitySet = CapabilitySet::NET_ADMIN // TCP_REPAIR, for the numbers of a flow
    .union(CapabilitySet::NET_RAW) // a packet socket to ask another gateway than at the start
    .union(CapabilitySet::NET_BIND_SERVICE)
    // The files and the Docker socket of others.
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    // To end a script that takes too long, whoever it runs as.
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    // The VRRP thread locked the memory there was; growing it takes this again.
    .union(CapabilitySet::IPC_LOCK);

/// Gives up the rest for the calling thread. It holds less or as much as before.
pub(super) fn shed() {
    let Ok(held) = capabilities(None) else { return };
    let keep = held.permitted & NEEDED;
    // The unit of the package gives no more than this, and no way to give any up.
    if keep == held.permitted {
        return;
    }
    let sets = CapabilitySets {
        effective: held.effective & keep,
        permitted: keep,
        inheritable: held.inheritable & keep,
    };
    if let Err(error) = set_capabilities(None, sets) {
        tracing::warn!(%error, "a thread keeps capabilities it does not need");
    }
}
