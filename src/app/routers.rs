//! A virtual router as `trigon vrrp` shows it, from what its thread says. Sans-io.

use std::time::{Duration, Instant};

use cluster::presence::{Heard, MAX_ADDRESSES, RouterState, Told};
use vrrp::{RouterStatus, State, Version};

use crate::admin::vrrp::{Adjustment, Peer, Router};

/// `holder` has the addresses; `now` is when it is looked at.
pub(super) fn shown(status: RouterStatus, holder: Option<u64>, now: Instant) -> Router {
    let is_v6 = status.addresses.iter().any(std::net::IpAddr::is_ipv6);
    let peers = status.peers.iter().map(|peer| Peer {
        address: peer.source.to_string(),
        priority: peer.priority,
        adverts: peer.adverts,
        heard_ms_ago: millis(now.saturating_duration_since(peer.last_heard)),
    });
    let adjustments = status
        .adjustments
        .iter()
        .map(|adjustment| Adjustment { by: adjustment.by, reason: adjustment.cause.to_string() });
    Router {
        vrid: status.vrid,
        interface: status.interface.to_string(),
        family: if is_v6 { "ipv6" } else { "ipv4" }.to_owned(),
        state: state(&status).to_owned(),
        since_seconds: now.saturating_duration_since(status.since).as_secs(),
        faults: status.faults.iter().map(ToString::to_string).collect(),
        sync_group: status.sync_group.as_deref().map(str::to_owned),
        base_priority: status.base_priority,
        adjustments: adjustments.collect(),
        priority: status.priority,
        addresses: status.addresses.iter().map(ToString::to_string).collect(),
        holder,
        permitted: status.permission,
        holds_back: status.hold.map(str::to_owned),
        peers: peers.collect(),
        version: match status.version {
            Version::V2 => 2,
            Version::V3 => 3,
        },
        source: status.source.map(|source| source.to_string()),
        adverts_in: status.adverts_in,
        adverts_out: status.adverts_out,
        incidents: incidents(&status),
        longest_delay_ms: millis(status.late.longest),
        refused: occurred(status.errors.by_kind()),
        alarms: alarms(&status),
        last_reason: status.last_reason.map_or_else(String::new, |reason| reason.to_string()),
        name: status.name.to_string(),
    }
}

/// What another node said longer ago is no longer known.
const FRESH: Duration = Duration::from_secs(1);

/// The node that holds the addresses: this one, or one that says so on the control links.
pub(super) fn holder(status: &RouterStatus, node: u64, heard: &Heard, now: Instant) -> Option<u64> {
    if status.state == State::Active {
        return Some(node);
    }
    let mut addresses = status.addresses.clone();
    addresses.sort_unstable();
    addresses.truncate(MAX_ADDRESSES);
    let holds = heard.peers.iter().find(|(_, peer)| {
        let fresh = |told: &&Told| now.saturating_duration_since(told.at) < FRESH;
        peer.last.as_ref().filter(fresh).is_some_and(|told| {
            told.word.routers.iter().any(|router| {
                router.state == RouterState::Active
                    && router.vrid == status.vrid
                    && router.addresses == addresses
            })
        })
    });
    holds.map(|(id, _)| *id)
}

/// A router with a fault is out of the game as long as the fault is there.
fn state(status: &RouterStatus) -> &'static str {
    match status.state {
        State::Initialize if !status.faults.is_empty() => "fault",
        State::Initialize => "initialize",
        State::Backup => "backup",
        State::Active => "active",
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What went wrong or was odd so far.
fn incidents(status: &RouterStatus) -> Vec<(String, u64)> {
    occurred([
        ("the kernel refused to send", status.send_errors),
        ("the kernel refused an address", status.address_errors),
        ("an address taken away by somebody else and put back", status.removals),
        ("another host had one of the addresses", status.duplicates),
        ("storm of refused packets", status.storms),
        ("this process was late", status.late.times),
        ("advertisement from our own address", status.anomalies.own_source),
        ("advertisement at another interval", status.anomalies.interval_mismatch),
        ("advertisement for other addresses", status.anomalies.address_mismatch),
    ])
}

/// What somebody should look into now.
fn alarms(status: &RouterStatus) -> Vec<String> {
    let mut alarms = Vec::new();
    if status.anomalies.address_mismatch > 0 {
        alarms.push(format!(
            "somebody else uses vrid {} on {} for other addresses",
            status.vrid, status.interface
        ));
    }
    if let Some(mac) = status.duplicate {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        alarms.push(format!("the host with the MAC address {mac} has one of the addresses too"));
    }
    let strangers = |(kind, count): (&str, u64)| kind == "stranger" && count > 0;
    if status.errors.by_kind().into_iter().any(strangers) {
        alarms.push("a host that is no member sends advertisements; they are refused".to_owned());
    }
    if status.anomalies.own_source > 0 {
        alarms.push(
            "advertisements come from this host's own address: a looping switch, or another host \
             with that address"
                .to_owned(),
        );
    }
    if status.state == State::Backup && status.held {
        alarms.push("nobody holds the addresses, and this node may not yet".to_owned());
    }
    if let Some(why) = status.hold {
        alarms.push(format!("the active is silent here, but {why}"));
    }
    alarms
}

/// Those that occurred.
fn occurred<'k>(kinds: impl IntoIterator<Item = (&'k str, u64)>) -> Vec<(String, u64)> {
    let kinds = kinds.into_iter().filter(|(_, count)| *count > 0);
    kinds.map(|(kind, count)| (kind.to_owned(), count)).collect()
}
