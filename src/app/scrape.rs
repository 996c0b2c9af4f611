//! What `/metrics` reads when it is asked, in Prometheus' words. Sans-io: the values come in as a
//! [`Reading`].

use std::sync::Arc;
use std::time::Duration;

use cluster::pair::{Standing, Sync};
use cluster::{ClusterStatus, Measures, Role};

use crate::admin::Status;
use crate::admin::status::{Flows, Guardian};
use crate::balance::roster::Condition;
use crate::failover::alarms::Kind;
use crate::observe::metrics::Sheet;

/// One look at a node.
pub(super) struct Reading {
    /// The node as `trigon status` shows it.
    pub(super) status: Status,
    /// What the cluster says beyond that.
    pub(super) cluster: ClusterStatus,
    /// Visitors' sessions of all nodes that this one has.
    pub(super) sessions: usize,
    /// Addresses and networks kept out, by what brought the ban; none on a witness.
    pub(super) banned: Vec<(&'static str, usize)>,
    /// What the tunnel port has; none on a witness.
    pub(super) tunnel_port: Option<TunnelPort>,
    /// What the cluster's engine has measured; none for a cluster in memory.
    pub(super) measures: Option<Arc<Measures>>,
    /// Bytes of the log and its snapshots.
    pub(super) store_bytes: u64,
    /// Certificates and when each ends, seconds since the Unix epoch.
    pub(super) certificates: Vec<(&'static str, u64)>,
    /// Presence connections refused so far.
    pub(super) presence_refused: u64,
}

/// What the tunnel port has.
#[derive(Clone, Copy)]
pub(super) struct TunnelPort {
    /// Clients that are logged in.
    pub(super) clients: usize,
    /// Tunnels that end at this node.
    pub(super) tunnels: usize,
    /// Work connections in users' hands.
    pub(super) work_connections: usize,
}

/// The states of a virtual router and of a member of the cluster, of which each has one.
const ROUTER_STATES: [&str; 4] = ["initialize", "fault", "backup", "active"];
const MEMBER_STATES: [&str; 5] = ["leader", "follower", "candidate", "learner", "shutdown"];

/// How a backend can be.
const CONDITIONS: [Condition; 4] =
    [Condition::Checking, Condition::Up, Condition::Ejected, Condition::Down];

/// Puts everything on the sheet.
pub(super) fn fill(reading: &Reading, sheet: &mut Sheet) {
    let status = &reading.status;
    let commit = option_env!("TRIGON_COMMIT").unwrap_or("unknown");
    let version = [("version", status.version.as_str()), ("commit", commit)];
    sheet.count("build_info", "Version and commit of the running binary, as labels", &version, 1);
    sheet.count("uptime_seconds", "Time since the process started", &[], status.uptime_seconds);
    let help = "Whether everything the node needs in order to serve is up";
    sheet.count("ready", help, &[], status.ready.into());
    let help = "Whether an admin has taken the node out of service";
    sheet.count("draining", help, &[], status.draining.into());
    fill_backends(status, sheet);
    fill_vrrp(status, sheet);
    if let Some(guardian) = status.guardian {
        fill_guardian(guardian, sheet);
    }
    fill_cluster(reading, sheet);
    fill_raft(reading, sheet);
    fill_pair(reading, sheet);
    fill_presence(reading, sheet);
    for (certificate, ends) in &reading.certificates {
        let help = "When a certificate ends, seconds since the Unix epoch";
        let labels = [("name", *certificate)];
        sheet.count("tls_cert_not_after_timestamp_seconds", help, &labels, *ends);
    }
    if let Some(galera) = &status.galera {
        fill_galera(galera, sheet);
    }
    let Some(port) = reading.tunnel_port else { return };
    fill_flows(status.cluster.flows, sheet);
    let help = "Connections through tunnels open now";
    sheet.count("work_connections_open", help, &[], number(port.work_connections));
    sheet.count("frp_clients", "Tunnel clients logged in here", &[], number(port.clients));
    let help = "Tunnels that end at this node, by the type of their proxy";
    sheet.count("frp_proxies", help, &[("type", "tcp")], number(port.tunnels));
    sheet.count("exapps", "ExApp records", &[], number(status.exapps.len()));
    let place = |tunnel: &crate::admin::status::Tunnel| match tunnel.live_here {
        true => "here",
        false if tunnel.node == status.cluster.node_id => "absent",
        false => "elsewhere",
    };
    for word in ["here", "elsewhere", "absent"] {
        let count = status.tunnels.iter().filter(|tunnel| place(tunnel) == word).count();
        let help = "Registered tunnels, by where their client is";
        sheet.count("tunnels", help, &[("state", word)], number(count));
    }
    for (source, count) in &reading.banned {
        let help = "Addresses and networks kept out, by what brought the ban";
        sheet.count("bans_active", help, &[("source", *source)], number(*count));
    }
}

fn fill_backends(status: &Status, sheet: &mut Sheet) {
    for member in &status.backends {
        let labels = [("pool", member.pool.as_str()), ("backend", member.name.as_str())];
        let [pool, backend] = labels;
        for health in CONDITIONS {
            let help = "How each backend is, as the checks and its answers say";
            let labels = [pool, backend, ("state", health.as_str())];
            sheet.count("backend_state", help, &labels, (member.health == health).into());
        }
        let help = "Whether each backend gets something new, as far as the operator wants it";
        let is_wanted = member.admin == crate::balance::Admin::Ready;
        sheet.count("backend_wanted", help, &labels, is_wanted.into());
        let help = "Requests, connections or sessions each backend has";
        sheet.count("backend_in_flight", help, &labels, member.in_flight);
        let help = "What each backend was given";
        sheet.counter("backend_requests", help, &labels, member.total);
        let help = "What each backend failed through its own fault";
        sheet.counter("backend_failures", help, &labels, member.failed);
    }
}

fn fill_vrrp(status: &Status, sheet: &mut Sheet) {
    let mut interfaces = Vec::new();
    for router in &status.vrrp {
        let vrid = router.vrid.to_string();
        let interface = router.interface.as_str();
        let labels = [
            ("router", router.name.as_str()),
            ("interface", interface),
            ("vrid", vrid.as_str()),
            ("family", router.family.as_str()),
        ];
        let with = |name, value| [&labels[..], &[(name, value)]].concat();
        for state in ROUTER_STATES {
            let help = "1 for the state a virtual router is in, 0 for the others";
            let is_in = router.state == state;
            sheet.count("vrrp_state", help, &with("state", state), is_in.into());
        }
        let help = "Priority in force of a virtual router";
        sheet.count("vrrp_effective_priority", help, &labels, router.priority.into());
        let help = "Priority of the configuration of a virtual router";
        sheet.count("vrrp_base_priority", help, &labels, router.base_priority.into());
        let help = "Longest time by which the VRRP thread was late";
        let late = milliseconds(router.longest_delay_ms);
        sheet.seconds("vrrp_longest_delay_seconds", help, &labels, late);
        let help = "Advertisements of others a virtual router has listened to";
        sheet.counter("vrrp_advertisements_received", help, &labels, router.adverts_in);
        let help = "Advertisements a virtual router has sent";
        sheet.counter("vrrp_advertisements_sent", help, &labels, router.adverts_out);
        let help = "Time a virtual router has been in its state";
        sheet.count("vrrp_state_seconds", help, &labels, router.since_seconds);
        let help = "Conditions of a virtual router somebody should look into";
        sheet.count("vrrp_alarms", help, &labels, number(router.alarms.len()));
        for (incident, count) in &router.incidents {
            let help = "What went wrong with a virtual router or was odd, by kind";
            sheet.counter("vrrp_incidents", help, &with("incident", incident), *count);
        }
        for vip in &router.addresses {
            let help = "1 while this node holds a virtual address";
            let held = router.state == "active";
            sheet.count("vip_held", help, &with("vip", vip), held.into());
        }
        // Refused packets belong to no virtual router; each of an interface shows them all.
        if !interfaces.contains(&interface) {
            interfaces.push(interface);
            for (reason, count) in &router.refused {
                let help = "VRRP packets refused, by reason";
                let labels = [("interface", interface), ("reason", reason.as_str())];
                sheet.counter("vrrp_packet_errors", help, &labels, *count);
            }
        }
    }
}

fn fill_guardian(guardian: Guardian, sheet: &mut Sheet) {
    let help = "Whether the process that cleans up after a killed node is there";
    sheet.count("guardian", help, &[], guardian.pid.is_some().into());
    let help = "How often that process was gone and started again";
    sheet.counter("guardian_restarts", help, &[], guardian.restarts);
}

fn fill_galera(galera: &crate::database::Report, sheet: &mut Sheet) {
    for node in &galera.nodes {
        let named = [("node", node.name.as_str())];
        let with = |name, value| [&named[..], &[(name, value)]].concat();
        let help = "Whether a database node may have sessions of a kind";
        sheet.count("galera_node_fit", help, &with("for", "writes"), node.writes.into());
        sheet.count("galera_node_fit", help, &with("for", "reads"), node.reads.into());
        let help = "1 for the database node that writes, 0 for the others";
        sheet.count("galera_writer", help, &named, node.is_writer.into());
        let help = "Sessions of a database node open now";
        sheet.count("galera_sessions_open", help, &named, number(node.sessions));
        let help = "Sessions of a database node: begun, not taken by it, cut before their end";
        for (what, count) in [("begun", node.total), ("failed", node.failed), ("cut", node.cut)] {
            sheet.counter("galera_sessions", help, &with("what", what), count);
        }
    }
    let help = "Clients at the ports of the database";
    sheet.count("galera_clients", help, &[], number(galera.clients));
    let help = "Clients at the ports of the database that were turned away";
    sheet.counter("galera_refused", help, &[], galera.refused);
    let help = "How often the load balancers have agreed on a writer";
    sheet.count("galera_writer_epoch", help, &[], galera.epoch);
    let help = "Whether the writer is one the load balancers could not agree on";
    sheet.count("galera_stand_in", help, &[], galera.stand_in.into());
    let help = "Timers that are not alike on all database nodes";
    sheet.count("galera_timers_differ", help, &[], number(galera.mismatches.len()));
}

fn fill_flows(flows: Flows, sheet: &mut Sheet) {
    let Flows { tunnels, clients, elsewhere, turned_away } = flows;
    for (of, count) in [("tunnel", tunnels), ("client", clients), ("elsewhere", elsewhere)] {
        let help = "Client connections at virtual addresses that are known, by whose they are";
        sheet.count("flows", help, &[("of", of)], number(count));
    }
    let help = "Client connections at virtual addresses that were not recorded: too many";
    sheet.counter("flows_turned_away", help, &[], turned_away);
}

fn fill_cluster(reading: &Reading, sheet: &mut Sheet) {
    let Reading { status: Status { cluster, .. }, cluster: more, .. } = reading;
    for state in MEMBER_STATES {
        let help = "1 for the part this member of the cluster plays, 0 for the others";
        sheet.count("cluster_state", help, &[("state", state)], (cluster.state == state).into());
    }
    for role in [Role::Node, Role::Witness] {
        let count = cluster.members.0.iter().filter(|member| member.role == role).count();
        let (help, role) = ("Members of the cluster", role.to_string());
        sheet.count("cluster_members", help, &[("role", &role)], number(count));
    }
    let help = "Members of the cluster that vote";
    sheet.count("cluster_voters", help, &[], number(cluster.voters.len()));
    let silent = cluster.members.0.iter().filter(|member| member.reachable == Some(false));
    let help = "Members that do not answer, as the leader can tell";
    sheet.count("cluster_members_silent", help, &[], number(silent.count()));
    let help = "Join tokens that are still good";
    sheet.count("cluster_tokens", help, &[], number(cluster.tokens));
    let help = "Whether durable changes can be made now";
    sheet.count("cluster_quorum", help, &[], cluster.quorum.into());
    let help = "Whether this node takes no changes because its disk is full";
    sheet.count("cluster_disk_full", help, &[], cluster.disk_full.into());
    let help = "Visitors' sessions of all nodes that this one has";
    sheet.count("session_cache_entries", help, &[], number(reading.sessions));
    let help = "Sessions and failures that were not shared";
    sheet.counter("cluster_soft_changes_dropped", help, &[], more.dropped_soft);
    let help = "Connections to the control link that were refused";
    sheet.counter("cluster_peers_refused", help, &[], more.refused_peers);
}

fn fill_raft(reading: &Reading, sheet: &mut Sheet) {
    let more = &reading.cluster;
    let leads = more.leader == Some(more.node_id);
    sheet.count("raft_is_leader", "Whether this member leads", &[], leads.into());
    let help = "Whether this member knows of a leader";
    sheet.count("raft_has_leader", help, &[], more.leader.is_some().into());
    sheet.count("raft_term", "Raft term", &[], more.term);
    let help = "Index of the last entry of the log that is applied";
    sheet.count("raft_last_applied_index", help, &[], more.last_applied.unwrap_or(0));
    let help = "Index of the last entry of the log that is stored";
    sheet.count("raft_last_log_index", help, &[], more.last_log.unwrap_or(0));
    let help = "Bytes of the log and its snapshots on disk";
    sheet.count("raft_store_bytes", help, &[], reading.store_bytes);
    for member in more.voters.iter().chain(&more.learners).filter(|m| m.id != more.node_id) {
        let Some(lag) = member.lag else { continue };
        let help = "Entries another member has yet to store, as the leader can tell";
        sheet.count("raft_replication_lag_entries", help, &[("peer", &member.id.to_string())], lag);
    }
    if let Some(off) = more.clock_off {
        let help = "By how much the clock of a member is ahead, as the leader can tell";
        #[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
        let ahead = off.ahead_ms as f64 / 1000.0;
        sheet.seconds("clock_skew_seconds", help, &[("node", &off.node.to_string())], ahead);
    }
    let Some(measures) = &reading.measures else { return };
    let help = "Leaders this member has seen come, the first one included";
    sheet.counter("raft_leader_changes", help, &[], measures.leader_changes());
    for (result, count) in ["success", "failure"].into_iter().zip(measures.proposals()) {
        let help = "Changes this member has proposed, by whether they were confirmed";
        sheet.counter("raft_proposals", help, &[("result", result)], count);
    }
    let help = "Time until a proposed change was confirmed and shown here";
    fill_durations("raft_propose_duration_seconds", help, &measures.propose, sheet);
    let help = "Time until a write to the log was on the disk";
    fill_durations("raft_fsync_duration_seconds", help, &measures.fsync, sheet);
}

fn fill_durations(
    name: &'static str,
    help: &'static str,
    durations: &cluster::Durations,
    sheet: &mut Sheet,
) {
    let bounds =
        cluster::Durations::BOUNDS.map(|micros| Duration::from_micros(micros).as_secs_f64());
    let bounds = bounds.into_iter().chain([f64::INFINITY]);
    let buckets = bounds.zip(durations.counts()).collect();
    sheet.durations(name, help, durations.sum().as_secs_f64(), buckets);
}

fn fill_pair(reading: &Reading, sheet: &mut Sheet) {
    let cluster = &reading.status.cluster;
    let help = "How often one node of the cluster went on alone, and one";
    sheet.count("cluster_generation", help, &[], cluster.generation);
    if let Some(lag) = cluster.lag {
        let help = "Entries the learner farthest behind has yet to store, as the leader can tell";
        sheet.count("cluster_learner_lag_entries", help, &[], lag);
    }
    let Some(pair) = &cluster.pair else { return };
    for standing in Standing::ALL {
        let help = "1 for how this node of a pair stands, 0 for the others";
        let labels = [("state", standing.name())];
        sheet.count("pair_state", help, &labels, (pair.standing == standing).into());
    }
    let help = "Whether what is acknowledged is on both nodes of the pair";
    sheet.count("pair_sync", help, &[], (pair.sync == Sync::Sync).into());
    if let Some(healed) = pair.healed.as_ref().filter(|healed| healed.is_fork()) {
        let help = "When this node came back from a fork last, seconds since the Unix epoch";
        sheet.count("pair_fork_healed_timestamp_seconds", help, &[], healed.at / 1000);
        let help = "What was set aside then: changes and tokens of this node, members it took in";
        let lost = healed.report.overruled.len() + healed.report.void().len();
        sheet.count("pair_fork_set_aside", help, &[], number(lost));
    }
}

fn fill_presence(reading: &Reading, sheet: &mut Sheet) {
    for kind in Kind::ALL {
        let raised = reading.status.alarms.iter().filter(|alarm| alarm.name == kind.name());
        let help = "Alarms raised now, by name";
        sheet.count("alarms", help, &[("alarm", kind.name())], number(raised.count()));
    }
    for peer in &reading.status.presence {
        let node = peer.node.to_string();
        let labels = [("node", node.as_str())];
        let help = "Whether there is a presence connection to another member";
        sheet.count("presence_connected", help, &labels, peer.connected.into());
        let help = "Beats heard from another member";
        sheet.counter("presence_beats", help, &labels, peer.beats);
        if let Some(ago) = peer.heard_ms_ago {
            let help = "Time since another member's last beat";
            sheet.seconds("presence_age_seconds", help, &labels, milliseconds(ago));
        }
        if let Some(round_trip) = peer.round_trip_us {
            let help = "Time to another member and back";
            let round_trip = Duration::from_micros(round_trip).as_secs_f64();
            sheet.seconds("raft_peer_rtt_seconds", help, &[("peer", node.as_str())], round_trip);
        }
    }
    let help = "Presence connections given up because of what the peer sent";
    sheet.counter("presence_refused", help, &[], reading.presence_refused);
}

fn milliseconds(count: u64) -> f64 {
    Duration::from_millis(count).as_secs_f64()
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cluster::pair::{Healed, MergeReport, PairStatus};
    use cluster::{ClockOff, VoterStatus};

    use super::*;
    use crate::admin::status::{Cluster, PeerPresence, Tunnel};
    use crate::admin::vrrp::Router;
    use crate::balance::{Admin, Member};
    use crate::observe::metrics::metrics;
    use crate::observe::transfer::Transfer;

    const REFERENCE: &str = include_str!("../../docs/reference/metrics.md");

    fn pair() -> PairStatus {
        let report = MergeReport { overruled: vec!["demo".into()], ..MergeReport::default() };
        let left = cluster::Handle::in_memory(1).status().group;
        PairStatus {
            standing: Standing::Solo,
            peer: 2,
            peer_silent_s: Some(30),
            votes: true,
            sync: Sync::Async { behind: 7 },
            silence: None,
            waits_for: Vec::new(),
            healed: Some(Healed { at: 1_700_000_000_000, left, report }),
        }
    }

    fn reading() -> Reading {
        let router = Router {
            name: "web".into(),
            vrid: 5,
            interface: "eth0".into(),
            family: "ipv4".into(),
            state: "active".into(),
            since_seconds: 1,
            priority: 254,
            addresses: vec!["192.0.2.10".into()],
            adverts_in: 1,
            adverts_out: 2,
            refused: vec![("bad checksum".into(), 3)],
            incidents: vec![("an oddity".into(), 4)],
            ..Router::default()
        };
        let tunnel = |port, node, live_here| Tunnel {
            port,
            proxy: "stranger".into(),
            node,
            client: "192.0.2.1:1".into(),
            live_here,
        };
        let status = Status {
            version: "0.1.0".into(),
            name: "a".into(),
            role: "node".into(),
            uptime_seconds: 7,
            ready: true,
            waiting_for: Vec::new(),
            draining: false,
            drain: None,
            guardian: Some(Guardian { pid: Some(7), restarts: 2 }),
            vrrp: vec![
                router.clone(),
                Router { name: "db".into(), vrid: 6, state: "backup".into(), ..router },
            ],
            presence: vec![PeerPresence {
                node: 2,
                role: "node".into(),
                connected: true,
                heard_ms_ago: Some(7),
                round_trip_us: Some(900),
                beats: 5,
                healthy: true,
                says: Vec::new(),
                hears: vec![3],
            }],
            public: None,
            alarms: Vec::new(),
            cluster: Cluster {
                node_id: 1,
                state: "leader".into(),
                generation: 2,
                lag: Some(7),
                pair: Some(pair()),
                ..Cluster::default()
            },
            tunnels: vec![tunnel(1, 1, true), tunnel(2, 2, false), tunnel(3, 1, false)],
            exapps: vec!["demo".into()],
            galera: Some(crate::database::Report {
                nodes: vec![crate::database::NodeReport {
                    name: "db1".into(),
                    is_writer: true,
                    writes: true,
                    cut: 3,
                    ..Default::default()
                }],
                ..Default::default()
            }),
            backends: vec![Member {
                pool: "web".into(),
                name: "web1".into(),
                address: "10.0.0.11:80".into(),
                admin: Admin::Drain,
                health: Condition::Down,
                since_seconds: 3,
                in_flight: 2,
                total: 9,
                failed: 1,
                note: "no connection".into(),
            }],
        };
        let mut cluster = cluster::Handle::in_memory(1).status();
        cluster.learners = vec![VoterStatus { id: 2, lag: Some(7), ..cluster.voters[0].clone() }];
        cluster.clock_off = Some(ClockOff { node: 2, ahead_ms: -7500 });
        Reading {
            status,
            cluster,
            sessions: 5,
            banned: vec![("failures", 2), ("admin", 1)],
            tunnel_port: Some(TunnelPort { clients: 1, tunnels: 1, work_connections: 4 }),
            measures: Some(Arc::default()),
            store_bytes: 4096,
            certificates: vec![("cluster", 1_800_000_000)],
            presence_refused: 0,
        }
    }

    fn rendered() -> String {
        let m = metrics();
        m.decisions.made(0, "allowed");
        m.decisions.made(usize::MAX, "bad_request");
        m.strike();
        m.session_hits("here").inc();
        m.upgraded_ended("client_close");
        m.shook_hands("TLSv1.3", true);
        m.turned_away("too_many");
        m.docker_called("create", "success");
        m.upstream_failed("silent");
        m.nextcloud_called("user-info", "ok", Duration::from_millis(40));
        m.login("accepted");
        m.tunnel_waited("came");
        m.relayed("asked", "opened");
        m.control_called("info", 200);
        m.vrrp_entered("web", "active");
        m.tickled("client", "sent");
        m.reloaded(true);
        m.render(|sheet| fill(&reading(), sheet))
    }

    #[test]
    fn w26_the_reference_names_exactly_the_families_there_are() {
        let request = http::Request::new(());
        let peer = "192.0.2.1:1".parse().unwrap();
        drop(Transfer::begin(&mut { request }, peer, None, |_| None));
        let told: BTreeSet<_> = rendered()
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .map(str::to_owned)
            .collect();
        let documented: BTreeSet<_> = REFERENCE
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(name, _)| name.to_owned())
            .filter(|name| name.starts_with("trigon_") || name.starts_with("process_"))
            .collect();
        assert_eq!(told, documented);
    }

    #[test]
    fn w26_states_are_one_of_many_and_no_name_of_a_stranger_is_a_label() {
        let text = rendered();
        let has = |line: &str| assert!(text.lines().any(|told| told == line), "{line}\n{text}");
        let web = r#"router="web",interface="eth0",vrid="5",family="ipv4""#;
        has(&format!(r#"trigon_vrrp_state{{{web},state="active"}} 1"#));
        has(&format!(r#"trigon_vrrp_state{{{web},state="backup"}} 0"#));
        has(&format!(r#"trigon_vip_held{{{web},vip="192.0.2.10"}} 1"#));
        has(&format!(r#"trigon_vrrp_incidents_total{{{web},incident="an oddity"}} 4"#));
        let db = web.replace("web", "db").replace('5', "6");
        has(&format!(r#"trigon_vrrp_state{{{db},state="backup"}} 1"#));
        has(&format!(r#"trigon_vip_held{{{db},vip="192.0.2.10"}} 0"#));
        has(r#"trigon_vrrp_packet_errors_total{interface="eth0",reason="bad checksum"} 3"#);
        has(r#"trigon_tunnels{state="absent"} 1"#);
        let web1 = r#"pool="web",backend="web1""#;
        has(&format!(r#"trigon_backend_state{{{web1},state="down"}} 1"#));
        has(&format!(r#"trigon_backend_wanted{{{web1}}} 0"#));
        has(&format!(r#"trigon_backend_failures_total{{{web1}}} 1"#));
        has(r#"trigon_bans_active{source="failures"} 2"#);
        has(r#"trigon_tls_cert_not_after_timestamp_seconds{name="cluster"} 1800000000"#);
        has("trigon_ready 1");
        has(r#"trigon_raft_replication_lag_entries{peer="2"} 7"#);
        has(r#"trigon_raft_peer_rtt_seconds{peer="2"} 0.0009"#);
        has(r#"trigon_clock_skew_seconds{node="2"} -7.5"#);
        has(r#"trigon_raft_fsync_duration_seconds_bucket{le="+Inf"} 0"#);
        has("trigon_cluster_generation 2");
        has(r#"trigon_pair_state{state="solo"} 1"#);
        has(r#"trigon_pair_state{state="normal"} 0"#);
        has("trigon_pair_sync 0");
        has("trigon_pair_fork_set_aside 1");
        has(r#"trigon_galera_writer{node="db1"} 1"#);
        has(r#"trigon_galera_node_fit{node="db1",for="reads"} 0"#);
        has(r#"trigon_galera_sessions_total{node="db1",what="cut"} 3"#);
        assert!(!text.contains("stranger") && !text.contains("demo"), "{text}");
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let names: Vec<_> = samples.filter_map(|line| line.rsplit_once(' ')).map(|s| s.0).collect();
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), distinct.len(), "a series is there twice:\n{text}");
    }
}
