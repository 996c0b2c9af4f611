//! What has no counterpart in Trigon, by keyword, with the reason. Sans-io.
//!
//! A row whose text is empty is something Trigon always does, or that means nothing to it: no note.

use super::Note;
use super::syntax::Statement;

type Row = (&'static [&'static str], &'static str);

const SCRIPTS: &str = "no program is run on a change of state; follow the log, `trigon vrrp --json` \
                       or the metric trigon_vrrp_transitions_total";
const MAIL: &str = "no mail is sent; let the monitoring alarm on the metrics";
const LVS: &str = "load balancing by LVS is not carried over: Trigon itself carries the requests";
const ANNOUNCE: &str = "announcements follow a fixed plan: at once, again within seconds, every \
                        60 s, and whenever another router has to be told";
const INCLUDE: &str = "the file is not followed; import it too, or paste it in here";

/// Words at the top of the file.
const TOP: &[Row] = &[
    // Read elsewhere.
    (&["global_defs", "vrrp_instance", "vrrp_sync_group", "vrrp_script"], ""),
    (&["track_file", "vrrp_track_file"], ""),
    (&["virtual_server", "virtual_server_group", "SSL", "lvs_sync_daemon"], LVS),
    (
        &["track_process", "vrrp_track_process"],
        "processes are not watched; use a script such as \
        [\"/usr/bin/pgrep\", \"-x\", \"NAME\"]",
    ),
    (&["bfd_instance"], "BFD is not spoken; 10 ms advertisements notice as soon"),
    (
        &["static_ipaddress", "static_routes", "static_rules", "track_group"],
        "addresses and routes \
        that do not move belong to the network configuration of the machine",
    ),
    (&["garp_group"], ANNOUNCE),
    (
        &["interface_up_down_delays", "linkbeat_interfaces", "linkbeat_use_polling"],
        "the kernel's \
        report of a link counts at once",
    ),
    (&["net_namespace", "net_namespace_ipvs"], "start trigon in that namespace"),
    (&["include", "includer", "includem", "includew", "includeb", "includea"], INCLUDE),
    (
        &["include_check", "instance", "use_pid_dir", "reload_time_file", "config_save_dir"],
        "about \
        keepalived's own process",
    ),
];

/// Words of `global_defs`.
const GLOBALS: &[Row] = &[
    // Always so, or of keepalived's own processes.
    (&["router_id", "enable_script_security", "vrrp_rt_priority", "vrrp_no_swap"], ""),
    (&["vrrp_rlimit_rttime", "vrrp_rlimit_rtime", "vrrp_cpu_affinity", "vrrp_priority"], ""),
    (&["max_auto_priority", "min_auto_priority_delay", "dynamic_interfaces", "process_names"], ""),
    (&["vrrp_higher_prio_send_advert", "vrrp_skip_check_adv_addr", "process_name"], ""),
    (
        &[
            "notification_email",
            "notification_email_from",
            "smtp_server",
            "smtp_connect_timeout",
            "smtp_helo_name",
            "smtp_alert",
            "smtp_alert_vrrp",
            "smtp_alert_checker",
            "email_faults",
            "no_email_faults",
        ],
        MAIL,
    ),
    (
        &[
            "vrrp_garp_master_delay",
            "vrrp_garp_master_repeat",
            "vrrp_garp_master_refresh",
            "vrrp_garp_master_refresh_repeat",
            "vrrp_garp_lower_prio_delay",
            "vrrp_garp_lower_prio_repeat",
            "vrrp_garp_interval",
            "vrrp_gna_interval",
            "vrrp_min_garp",
            "vrrp_garp_extra_if",
        ],
        ANNOUNCE,
    ),
    (
        &[
            "vrrp_notify_fifo",
            "vrrp_notify_fifo_script",
            "notify_fifo",
            "notify_fifo_script",
            "vrrp_notify_priority_changes",
            "startup_script",
            "shutdown_script",
        ],
        SCRIPTS,
    ),
    (
        &[
            "enable_snmp_vrrp",
            "enable_snmp_keepalived",
            "enable_snmp_checker",
            "enable_snmp_rfc",
            "enable_snmp_rfcv2",
            "enable_snmp_rfcv3",
            "enable_traps",
            "snmp_socket",
            "enable_dbus",
        ],
        "there is neither SNMP nor D-Bus; see metrics.listen",
    ),
    (
        &["vrrp_strict"],
        "the standard is kept, but unicast peers, passwords and preempt_delay are \
        not refused, and the address is always served",
    ),
    (
        &["vrrp_mcast_group4", "vrrp_mcast_group6"],
        "only the standard's groups, 224.0.0.18 and \
        ff02::12; use unicast_peers in place of a group of your own",
    ),
    (&["vrrp_iptables", "vrrp_ipsets", "nftables", "iptables"], "no packet filter is written"),
    (
        &["vrrp_startup_delay", "delay_after_boot"],
        "a node asks for the address once it can serve; \
        see preempt_delay",
    ),
    (&["vrrp_check_unicast_src"], "name everybody who may speak in `members`"),
    (&["vrrp_down_timer_adverts"], "always three, as the standard says"),
    (&["vrrp_lower_prio_no_advert"], "a lower priority is always answered with an advertisement"),
    (&["lvs_sync_daemon", "lvs_flush", "lvs_flush_onstop", "lvs_timeouts"], LVS),
];

/// Words of a `vrrp_instance` that are not read.
const INSTANCE: &[Row] = &[
    (&["state", "preempt", "accept", "debug", "native_ipv6", "track_src_ip"], ""),
    (&["unicast_fault_no_peer", "higher_prio_send_advert", "skip_check_adv_addr"], ""),
    (
        &[
            "notify",
            "notify_master",
            "notify_backup",
            "notify_fault",
            "notify_stop",
            "notify_deleted",
            "notify_master_rx_lower_pri",
            "notify_priority_changes",
        ],
        SCRIPTS,
    ),
    (&["smtp_alert"], MAIL),
    (
        &["use_vmac", "vmac_xmit_base", "use_vmac_addr"],
        "set virtual_mac = true by hand, on all \
            nodes: the interface keeps its own MAC address without it",
    ),
    (&["dont_track_primary"], "the link of the router's own interface always counts"),
    (&["no_accept", "strict_mode"], "the address is always served"),
    (&["virtual_routes", "virtual_rules"], "routes and rules do not move with the address"),
    (&["lvs_sync_daemon_interface"], LVS),
    (
        &[
            "garp_master_delay",
            "garp_master_repeat",
            "garp_master_refresh",
            "garp_master_refresh_repeat",
            "garp_lower_prio_delay",
            "garp_lower_prio_repeat",
            "garp_extra_if",
        ],
        ANNOUNCE,
    ),
    (
        &["mcast_dst_ip"],
        "only the standard's groups; use unicast_peers in place of a group of your \
        own",
    ),
    (&["check_unicast_src"], "name everybody who may speak in `members`"),
    (&["unicast_ttl"], "sent with 255, as the standard says"),
    (&["old_unicast_checksum"], "both forms are accepted; see checksum"),
    (&["down_timer_adverts"], "always three, as the standard says"),
    (&["lower_prio_no_advert"], "a lower priority is always answered with an advertisement"),
    (&["track_process", "track_bfd"], "not watched; use a script in its place"),
    (&["promote_secondaries"], "the default host addresses, /32 and /128, need it never"),
    (&["kernel_rx_buf_size", "linkbeat_use_polling"], "set by trigon itself"),
    (&["include", "includer", "includem", "includew", "includeb", "includea"], INCLUDE),
];

/// Words of a `vrrp_sync_group` that are not read.
const GROUP: &[Row] = &[
    (&["global_tracking", "sync_group_tracking_weight"], ""),
    (
        &[
            "notify",
            "notify_master",
            "notify_backup",
            "notify_fault",
            "notify_stop",
            "notify_deleted",
            "notify_priority_changes",
        ],
        SCRIPTS,
    ),
    (&["smtp_alert"], MAIL),
    (&["track_process", "track_bfd"], "not watched; use a script in its place"),
];

/// A statement at the top of the file.
pub(super) fn at_top(one: &Statement, notes: &mut Vec<Note>) {
    tell(TOP, one, "not known; left out", notes);
}

/// A statement of `global_defs` that was not read.
pub(super) fn in_globals(one: &Statement, notes: &mut Vec<Note>) {
    tell(GLOBALS, one, "has no counterpart; left out", notes);
}

/// A statement of a `vrrp_instance` that was not read.
pub(super) fn in_instance(one: &Statement, notes: &mut Vec<Note>) {
    tell(INSTANCE, one, "not known; left out", notes);
}

/// A statement of a `vrrp_sync_group` that was not read.
pub(super) fn in_group(one: &Statement, notes: &mut Vec<Note>) {
    tell(GROUP, one, "not known; left out", notes);
}

fn tell(rows: &[Row], one: &Statement, otherwise: &str, notes: &mut Vec<Note>) {
    let found = rows.iter().find(|(words, _)| words.contains(&one.word()));
    let text = found.map_or(otherwise, |(_, text)| text);
    if !text.is_empty() {
        notes.push(Note::new(one.line, one.word(), text));
    }
}
