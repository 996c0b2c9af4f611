//! The parts of the page, each a section that is replaced as a whole when it has changed. Sans-io.
//!
//! Times are coarse on purpose: a part that says "for 3 min" is the same a second later, so it is
//! not sent again. What a colour says is said by a word beside it as well.

use maud::{Markup, html};

use super::look::{Look, Served};
use crate::admin::bans::{Ban, Source};
use crate::admin::exapps::{ExApp, Place, Recorded};
use crate::admin::nodes::Node;
use crate::admin::status::PeerPresence;
use crate::admin::vrrp::Router;

/// One section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The id of its element.
    pub(super) id: &'static str,
    pub(super) html: String,
}

/// A member that was not heard for longer is silent.
const SILENT_MS: u64 = 1500;

/// Rows of one table; the commands show the rest.
const MOST_ROWS: usize = 200;

/// Lines of the timeline; `trigon events` shows the rest.
const MOST_EVENTS: usize = 50;

/// A certificate that ends within so many days is worth a look.
const SOON: u64 = 14 * 86_400;

/// Every part, in the order of the page.
pub(super) fn all(look: &Look) -> Vec<Part> {
    let mut parts = vec![
        part("overview", overview(look)),
        part("members", members(look)),
        part("addresses", addresses(look)),
    ];
    if let Some(served) = &look.served {
        parts.push(part("exapps", exapps(look, &served.exapps)));
        parts.push(part("tunnels", tunnels(look, served)));
        parts.push(part("access", access(look, &served.bans)));
    }
    parts.push(part("certificates", certificates(look)));
    parts.push(part("events", events(look)));
    parts
}

fn part(id: &'static str, html: Markup) -> Part {
    Part { id, html: html.into_string() }
}

/// A condition: a sign, a word, and a class for the colour.
fn mark(good: bool, word: &str) -> Markup {
    let (class, sign) = if good { ("good", "\u{2714}") } else { ("bad", "\u{25b2}") };
    html! { span class=(class) { span aria-hidden="true" { (sign) " " } (word) } }
}

/// A length of time in its largest unit.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => "less than a minute".to_owned(),
        60..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn overview(look: &Look) -> Markup {
    let status = &look.status;
    let cluster = &status.cluster;
    let leader = cluster.leader.map_or_else(|| "none".to_owned(), |id| look.name(id));
    let quorum = if cluster.quorum { "quorum" } else { "no quorum: no changes are taken" };
    let holders: Vec<_> = status.vrrp.iter().map(|router| holder(look, router)).collect();
    // What is read out when it changes.
    let say = format!("{}. {quorum}. Leader: {leader}.", holders.join(". "));
    html! {
        section #overview aria-labelledby="overview-title" data-say=(say) {
            h2 #overview-title { "Overview" }
            dl {
                div {
                    dt { "This node" }
                    dd {
                        (status.name) ", " (status.role) ", "
                        @if status.ready { (mark(true, "ready")) }
                        @else {
                            (mark(false, &format!("waits for {}", status.waiting_for.join(", "))))
                        }
                        @if let Some(drain) = &status.drain { ", " (mark(false, &drain.phase)) }
                    }
                }
                div { dt { "Cluster" } dd { (cluster.name) ", " (mark(cluster.quorum, quorum)) } }
                div { dt { "Generation" } dd { (cluster.generation) } }
                div { dt { "Leader" } dd { (leader) ", term " (cluster.term) } }
                @for (router, text) in status.vrrp.iter().zip(&holders) {
                    div { dt { (router.name) } dd { (mark(router.holder.is_some(), text)) } }
                }
                @if let Some(pair) = &cluster.pair {
                    div { dt { "Pair" } dd { (pair.standing) } }
                }
            }
            @if cluster.disk_full {
                p.problem { (mark(false, "The disk is full: this node takes no changes.")) }
            }
            @if !status.alarms.is_empty() {
                h3 { "Alarms" }
                ul {
                    @for alarm in &status.alarms {
                        li {
                            (mark(false, &alarm.name))
                            @if let Some(router) = &alarm.router { " " (router) }
                            " for " (age(alarm.since_seconds)) ": " (alarm.text)
                        }
                    }
                }
            }
        }
    }
}

/// Who has the addresses of a virtual router, in a sentence.
fn holder(look: &Look, router: &Router) -> String {
    let addresses = router.addresses.join(", ");
    match router.holder {
        Some(node) => format!("{} holds {addresses}", look.name(node)),
        None => format!("nobody this node hears holds {addresses}"),
    }
}

fn members(look: &Look) -> Markup {
    let members = &look.status.cluster.members.0;
    html! {
        section #members aria-labelledby="members-title" {
            h2 #members-title { "Cluster map" }
            ul.cards {
                @for member in members {
                    @let peer = look.status.presence.iter().find(|peer| peer.node == member.id);
                    li { (card(look, member, peer)) }
                }
            }
        }
    }
}

fn card(look: &Look, member: &Node, peer: Option<&PeerPresence>) -> Markup {
    let holds = look.status.vrrp.iter().filter(|router| router.holder == Some(member.id));
    let addresses: Vec<_> = holds.flat_map(|router| &router.addresses).cloned().collect();
    let tunnels = look.status.tunnels.iter().filter(|tunnel| tunnel.node == member.id).count();
    html! {
        h3 { (member.name) " " span.quiet { (member.role) " " (member.id) } }
        @if !addresses.is_empty() {
            p.holder { span aria-hidden="true" { "\u{25c6} " } "holds " (addresses.join(", ")) }
        }
        p { (member.part.word()) @if let Some(address) = &member.address { ", " (address) } }
        p { (condition(member, peer)) }
        @if tunnels > 0 { p { (tunnels) " tunnels" } }
        @for said in peer.iter().flat_map(|peer| &peer.says) { p.quiet { (said) } }
    }
}

fn condition(member: &Node, peer: Option<&PeerPresence>) -> Markup {
    if member.this_node {
        return mark(true, "this node");
    }
    let heard = peer.and_then(|peer| peer.heard_ms_ago);
    match heard {
        Some(0..=SILENT_MS) if peer.is_some_and(|peer| !peer.healthy) => {
            mark(false, "heard, says that it cannot serve")
        }
        Some(0..=SILENT_MS) => mark(true, "heard"),
        Some(ago) => mark(false, &format!("silent for {}", age(ago / 1000))),
        None => mark(false, "not heard since this node started"),
    }
}

fn addresses(look: &Look) -> Markup {
    let rows = look.status.vrrp.iter().map(|router| {
        let changed = format!("{} ago: {}", age(router.since_seconds), router.last_reason);
        let trouble = router.faults.iter().chain(&router.alarms);
        html! {
            tr {
                th scope="row" { (router.name) }
                td { (router.addresses.join(", ")) }
                td { (router.holder.map_or_else(|| "nobody".to_owned(), |id| look.name(id))) }
                td {
                    (router.state)
                    @for text in trouble { br; (mark(false, text)) }
                }
                td { (router.priority) }
                td { (changed) }
            }
        }
    });
    let headings = ["Router", "Addresses", "Holder", "Here", "Priority", "Changed"];
    section("addresses", "Virtual addresses", &headings, rows.collect(), "None is configured here.")
}

fn exapps(look: &Look, exapps: &[ExApp]) -> Markup {
    let rows = exapps.iter().take(MOST_ROWS).map(|app| {
        let tunnel = match (app.tunnel, app.tunnel_node) {
            (Place::Here, _) => mark(true, "connected to this node"),
            (Place::Elsewhere, Some(node)) => mark(true, &format!("at {}", look.name(node))),
            (Place::Elsewhere, None) => mark(true, "at another node"),
            (Place::Absent, _) => mark(false, "its client is away"),
            (Place::Unregistered, _) => mark(false, "no tunnel"),
            (Place::Direct, _) => html! { "reached directly" },
        };
        let recorded = match app.recorded {
            Recorded::Cluster => "every node",
            Recorded::Here => "only this node",
        };
        html! {
            tr {
                th scope="row" { (app.id) }
                td { (app.version) }
                td { (app.host) ":" (app.port) }
                td { (tunnel) }
                td { (recorded) }
            }
        }
    });
    let headings = ["ExApp", "Version", "Target", "Tunnel", "Known to"];
    section("exapps", "ExApps", &headings, rows.collect(), "None is known yet.")
}

fn tunnels(look: &Look, served: &Served) -> Markup {
    let rows = served.tunnels.iter().take(MOST_ROWS).map(|tunnel| {
        let own = tunnel.node == look.status.cluster.node_id;
        html! {
            tr {
                th scope="row" { (tunnel.port) }
                td { (tunnel.proxy) }
                td { (look.name(tunnel.node)) }
                td {
                    @if tunnel.live_here { (mark(true, "connected here")) }
                    @else if own { (mark(false, "away")) }
                    @else { "ends at the other node" }
                }
                td { (tunnel.client) }
                td { (age(tunnel.since_seconds)) }
            }
        }
    });
    let headings = ["Port", "Proxy", "Node", "State", "Client", "Registered for"];
    section("tunnels", "Tunnels", &headings, rows.collect(), "None is registered.")
}

fn access(look: &Look, bans: &[Ban]) -> Markup {
    html! {
        section #access aria-labelledby="access-title" {
            h2 #access-title { "Sessions and bans" }
            p { (look.sessions) " sessions are remembered, " (bans.len()) " addresses are banned." }
            @if !bans.is_empty() {
                (table("access", &["Address", "Why", "Ends", "Order"], bans.iter().take(MOST_ROWS).map(ban).collect()))
            }
        }
    }
}

fn ban(ban: &Ban) -> Markup {
    let why = match (ban.source, &ban.reason, ban.failures) {
        (Source::Admin, Some(reason), _) if !reason.is_empty() => format!("an admin: {reason}"),
        (Source::Admin, ..) => "an admin".to_owned(),
        (Source::Failures, _, Some(failures)) => format!("{failures} failures"),
        (Source::Failures, ..) => "failures".to_owned(),
    };
    let ends = ban.ends_in_seconds.map_or_else(|| "never".to_owned(), |s| format!("in {}", age(s)));
    let query: String = form_urlencoded::Serializer::new(String::new())
        .append_pair("address", &ban.address)
        .finish();
    html! {
        tr {
            th scope="row" { (ban.address) }
            td { (why) }
            td { (ends) }
            td { a href={ "/orders/unban?" (query) } { "Let " (ban.address) " in again" } }
        }
    }
}

fn certificates(look: &Look) -> Markup {
    let rows = look.certificates.iter().map(|one| {
        let ends = match one.ends_in_seconds {
            0 => mark(false, "has ended"),
            left => mark(left > SOON, &format!("in {}", age(left))),
        };
        html! {
            tr {
                th scope="row" { (one.area) " " (one.role) }
                td { (one.state) }
                td { (ends) }
                td { code { (one.fingerprint) } }
            }
        }
    });
    let headings = ["Certificate", "State", "Ends", "SHA-256"];
    section("certificates", "Certificates", &headings, rows.collect(), "None is in use yet.")
}

fn events(look: &Look) -> Markup {
    let rows = look.events.iter().rev().take(MOST_EVENTS).map(|event| {
        let outage = event.outage_ms.map(|outage| mark(false, &format!("{outage} ms")));
        html! {
            tr {
                th scope="row" { time datetime=(event.moment()) { (event.moment()) } }
                td { (look.name(event.node)) }
                td { code { (event.kind) } }
                td { (event.text) }
                td { @if let Some(outage) = outage { (outage) } }
            }
        }
    });
    let rows: Vec<_> = rows.collect();
    let headings = ["Time (UTC)", "Node", "Kind", "What", "Nobody answered for"];
    // The newest line is read out when it comes.
    let say = look.events.last().map_or("", |event| event.text.as_str());
    html! {
        section #events aria-labelledby="events-title" data-say=(say) {
            h2 #events-title { "Events" }
            @if rows.is_empty() { p { "Nothing has happened yet." } }
            @else { (table("events", &headings, rows)) }
        }
    }
}

/// A section that is one table.
fn section(id: &str, title: &str, headings: &[&str], rows: Vec<Markup>, none: &str) -> Markup {
    html! {
        section id=(id) aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { (title) }
            @if rows.is_empty() { p { (none) } } @else { (table(id, headings, rows)) }
        }
    }
}

/// A table that scrolls within its section, by keyboard too.
fn table(id: &str, headings: &[&str], rows: Vec<Markup>) -> Markup {
    html! {
        div.scroll role="group" tabindex="0" aria-labelledby={ (id) "-title" } {
            table aria-labelledby={ (id) "-title" } {
                thead { tr { @for heading in headings { th scope="col" { (heading) } } } }
                tbody { @for row in rows { (row) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::nodes::{Nodes, Part as Role};
    use crate::admin::status::{Cluster, Status};

    fn member(id: u64, this_node: bool) -> Node {
        Node {
            id,
            name: format!("lb{id}"),
            role: cluster::Role::Node,
            address: Some(format!("192.0.2.1{id}:7443")),
            part: if this_node { Role::Leader } else { Role::Voter },
            this_node,
            reachable: None,
            lag: None,
            since_seconds: 9,
        }
    }

    fn look(holder: Option<u64>, heard_ms_ago: Option<u64>) -> Look {
        let router = Router {
            name: "web".into(),
            state: if holder == Some(1) { "active" } else { "backup" }.into(),
            addresses: vec!["192.0.2.100".into()],
            holder,
            last_reason: "<script>".into(),
            ..Router::default()
        };
        let peer = PeerPresence {
            node: 2,
            role: "node".into(),
            connected: true,
            heard_ms_ago,
            round_trip_us: None,
            beats: 7,
            healthy: true,
            says: Vec::new(),
            hears: Vec::new(),
        };
        let cluster = Cluster {
            quorum: true,
            leader: Some(1),
            members: Nodes(vec![member(1, true), member(2, false)]),
            ..Cluster::default()
        };
        let status = Status {
            name: "lb1".into(),
            ready: true,
            vrrp: vec![router],
            presence: vec![peer],
            cluster,
            ..Status::default()
        };
        let bans = vec![Ban {
            address: "198.51.100.0/24".into(),
            banned: true,
            source: Source::Admin,
            failures: None,
            nodes: vec![1],
            ends_in_seconds: None,
            since_seconds: Some(5),
            reason: Some("scanner & <co>".into()),
        }];
        let served = Served { exapps: Vec::new(), tunnels: Vec::new(), bans };
        let (certificates, events) = (Vec::new(), Vec::new());
        Look { status, sessions: 12, certificates, events, served: Some(served) }
    }

    fn html(look: &Look) -> String {
        all(look).into_iter().map(|part| part.html).collect()
    }

    #[test]
    fn the_holder_is_named_on_the_map_and_said_when_it_changes() {
        for (holder, heard, parts) in [
            (Some(1), Some(40), ["lb1 holds 192.0.2.100", "heard"]),
            (Some(2), Some(40), ["lb2 holds 192.0.2.100", "heard"]),
            (None, Some(125_000), ["nobody this node hears holds", "silent for 2 min"]),
            (None, None, ["data-say=\"nobody this node hears", "not heard since"]),
        ] {
            let html = html(&look(holder, heard));
            for part in parts {
                assert!(html.contains(part), "{part}: {html}");
            }
        }
    }

    #[test]
    fn a_second_later_nothing_has_changed() {
        let (now, mut later) = (look(Some(1), Some(40)), look(Some(1), Some(90)));
        later.status.uptime_seconds += 1;
        later.status.presence[0].beats += 20;
        later.status.cluster.applied += 5;
        later.status.vrrp[0].adverts_out += 10;
        later.status.vrrp[0].since_seconds += 1;
        assert_eq!(all(&now), all(&later));
    }

    #[test]
    fn what_strangers_write_is_text_and_a_ban_can_be_lifted_by_its_link() {
        let html = html(&look(None, None));
        assert!(!html.contains("<script>") && !html.contains("<co>"), "{html}");
        assert!(html.contains("href=\"/orders/unban?address=198.51.100.0%2F24\""), "{html}");
    }
}
