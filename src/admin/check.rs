//! `trigon status --check`: one look at a node in the form monitoring programs read. Sans-io.
//!
//! Codes and shape are those of the Monitoring Plugins: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN;
//! one line, then a bar and figures. What is critical keeps visitors out now, or would with the
//! next failure nobody could repair in time; what is a warning wants somebody to look.

use std::fmt;

use super::status::Status;
use crate::balance::roster::Condition;
use crate::balance::{Admin, Member};
use crate::database::{self, NodeReport, Report};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to do.
    Ok,
    /// Somebody should look.
    Warning,
    /// Somebody must act.
    Critical,
    /// It could not be found out.
    Unknown,
}

impl Severity {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What monitoring is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// How bad it is.
    pub severity: Severity,
    text: String,
    figures: String,
}

/// Alarms that mean that visitors are, or are about to be, kept out.
const GRAVE: [&str; 3] = ["isolated", "vrrp_segment_cut", "last_resort"];

/// A certificate that ends sooner than this is critical, seconds.
const ENDS_SOON: u64 = 2 * 86_400;

impl Check {
    /// When there is no status to look at.
    pub fn without(severity: Severity, why: &dyn fmt::Display) -> Self {
        let text = super::table::plain(&why.to_string()).replace('|', "/");
        Self { severity, text, figures: String::new() }
    }

    /// Judges a status.
    pub fn of(status: &Status) -> Self {
        let mut found = troubles(status);
        // The worst first; among equals in the order in which they were found.
        found.sort_by_key(|(severity, _)| std::cmp::Reverse(*severity));
        let severity = found.first().map_or(Severity::Ok, |(severity, _)| *severity);
        let mut text = found.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; ");
        if text.is_empty() {
            text = summary(status);
        }
        let text = super::table::plain(&format!("{}: {text}", status.name)).replace('|', "/");
        Self { severity, text, figures: figures(status) }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TRIGON {} - {}", self.severity.word(), self.text)?;
        if !self.figures.is_empty() {
            write!(f, " | {}", self.figures)?;
        }
        Ok(())
    }
}

/// A pool of which nobody can work keeps visitors out; one that has lost somebody is one failure
/// nearer to that. What the operator has taken out is no trouble.
fn pools(status: &Status) -> Vec<(Severity, String)> {
    let mut found = Vec::new();
    for pool in status.backends.chunk_by(|one, next| one.pool == next.pool) {
        let wanted: Vec<_> = pool.iter().filter(|member| member.admin == Admin::Ready).collect();
        let (name, down) = (&pool[0].pool, Condition::Down);
        let lost: Vec<_> = wanted.iter().filter(|member| member.health == down).collect();
        if lost.len() == wanted.len() {
            found.push((Severity::Critical, format!("no backend of {name} can work")));
        } else if let Some(first) = lost.first() {
            let text = format!("{} of {} backends of {name} are down", lost.len(), pool.len());
            found.push((Severity::Warning, format!("{text}: {}: {}", first.name, first.note)));
        }
        found.extend(unlike(pool).map(|text| (Severity::Warning, format!("{name}: {text}"))));
    }
    found
}

/// Nextclouds of one pool share a database, so all are to be of one version, and all or none in
/// maintenance. What a database node says of itself is what it does, which differs.
fn unlike(pool: &[Member]) -> Option<String> {
    let works = |it: &&Member| {
        it.pool != database::POOL && (it.admin, it.health) == (Admin::Ready, Condition::Up)
    };
    let mut working = pool.iter().filter(works);
    let first = working.next()?;
    let other = working.find(|other| other.note != first.note)?;
    let said = |member: &Member| format!("{} says \"{}\"", member.name, member.note);
    Some(format!("{} and {}", said(first), said(other)))
}

fn troubles(status: &Status) -> Vec<(Severity, String)> {
    use Severity::{Critical, Warning};
    let mut found = Vec::new();
    if !status.ready && !status.draining {
        found.push((Critical, format!("waits for {}", status.waiting_for.join(", "))));
    }
    found.extend(pools(status));
    if !status.cluster.quorum {
        found.push((Critical, "no quorum".to_owned()));
    }
    if status.cluster.disk_full {
        found.push((Critical, "the disk is full".to_owned()));
    }
    for router in status.vrrp.iter().filter(|router| router.state == "fault") {
        let cause = router.faults.join(", ");
        found.push((Critical, format!("virtual router {} has a fault ({cause})", router.name)));
    }
    let soon = |name: &str, left: u64| match left {
        0 => format!("certificate {name} has ended"),
        left => format!("certificate {name} ends in {}", super::table::span(left)),
    };
    let certificates = &status.cluster.certificates;
    let ending = certificates.iter().filter(|it| it.ends_in_seconds < ENDS_SOON);
    found.extend(ending.map(|it| (Critical, soon(&it.name, it.ends_in_seconds))));
    for alarm in &status.alarms {
        let severity = if GRAVE.contains(&alarm.name.as_str()) { Critical } else { Warning };
        let router = alarm.router.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        found.push((severity, format!("{}{router}: {}", alarm.name, alarm.text)));
    }
    if status.guardian.is_some_and(|guardian| guardian.pid.is_none()) {
        found.push((Warning, "no guardian".to_owned()));
    }
    let silent = &status.cluster.members.0;
    let silent = silent.iter().filter(|member| member.reachable == Some(false));
    found.extend(silent.map(|member| (Warning, format!("{} does not answer", member.name))));
    found.extend(status.galera.iter().flat_map(database));
    let absent = absent(status);
    if absent > 0 {
        found.push((Warning, format!("{absent} tunnels registered here are not connected")));
    }
    found
}

/// What is wrong with the database.
fn database(galera: &Report) -> Vec<(Severity, String)> {
    let mut found = Vec::new();
    // A drained writer stays the agreed one where nobody asks for it.
    let is_lost = |writer: &NodeReport| !writer.writes && writer.admin == Admin::Ready;
    if galera.writer().is_none_or(is_lost) {
        found.push((Severity::Critical, "no database node can be written to".to_owned()));
    }
    let is_down = |node: &&NodeReport| node.admin == Admin::Ready && !node.writes && !node.reads;
    for node in galera.nodes.iter().filter(is_down) {
        let why = node.reason.as_ref().map_or("down", |(_, text)| text);
        found.push((Severity::Warning, format!("database node {}: {why}", node.name)));
    }
    if galera.stand_in {
        let text = "the load balancers could not agree on the database writer";
        found.push((Severity::Warning, text.to_owned()));
    }
    if !galera.mismatches.is_empty() {
        let timers = galera.mismatches.join(", ");
        found.push((Severity::Warning, format!("timers of the database nodes differ: {timers}")));
    }
    found
}

/// Tunnels of this node whose client is away.
fn absent(status: &Status) -> usize {
    let here = status.tunnels.iter().filter(|it| it.node == status.cluster.node_id);
    here.filter(|tunnel| !tunnel.live_here).count()
}

fn summary(status: &Status) -> String {
    let routers = status
        .vrrp
        .iter()
        .map(|router| format!("{} {} {}", router.name, router.state, router.addresses.join(" ")));
    let part = format!("cluster {}", status.cluster.state);
    routers.chain([part]).collect::<Vec<_>>().join(", ")
}

fn figures(status: &Status) -> String {
    let live = status.tunnels.iter().filter(|tunnel| tunnel.live_here).count();
    let active = status.vrrp.iter().filter(|router| router.state == "active").count();
    let soonest = status.cluster.certificates.iter().map(|it| it.ends_in_seconds).min();
    let mut text = format!(
        "uptime={}s;;;0 routers_active={active};;;0;{} tunnels={};;;0 tunnels_here={live};;;0 \
         alarms={};1;;0 voters={};;;0",
        status.uptime_seconds,
        status.vrrp.len(),
        status.tunnels.len(),
        status.alarms.len(),
        status.cluster.voters.len(),
    );
    if let Some(left) = soonest {
        text.push_str(&format!(" certificate_ends={left}s;;{ENDS_SOON}:;0"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::status::{Alarm, Certificate, Cluster, Guardian, Tunnel};
    use crate::admin::vrrp::Router;

    fn well() -> Status {
        Status {
            name: "lb1".into(),
            ready: true,
            vrrp: vec![Router {
                name: "web".into(),
                state: "active".into(),
                addresses: vec!["192.0.2.10".into()],
                ..Router::default()
            }],
            guardian: Some(Guardian { pid: Some(7), restarts: 0 }),
            cluster: Cluster {
                state: "leader".into(),
                quorum: true,
                node_id: 1,
                certificates: vec![Certificate {
                    name: "cluster".into(),
                    ends_in_seconds: 999_999,
                }],
                ..Cluster::default()
            },
            ..Status::default()
        }
    }

    fn alarm(name: &str) -> Alarm {
        Alarm { name: name.into(), router: None, since_seconds: 1, text: "look | here".into() }
    }

    /// One that works, named after what it says.
    fn backend(pool: &str, note: &str) -> Member {
        Member {
            pool: pool.into(),
            name: note.into(),
            address: "192.0.2.21:80".into(),
            admin: Admin::Ready,
            health: Condition::Up,
            since_seconds: 1,
            in_flight: 0,
            total: 0,
            failed: 0,
            note: note.into(),
        }
    }

    #[test]
    fn what_monitoring_is_told() {
        let quorum = |quorum| Cluster { quorum, ..well().cluster };
        let tunnel = Tunnel {
            port: 23_000,
            proxy: "x".into(),
            node: 1,
            client: "192.0.2.1:1".into(),
            live_here: false,
        };
        let ended = vec![Certificate { name: "cluster".into(), ends_in_seconds: 0 }];
        let writes = |writes| Report {
            nodes: vec![NodeReport {
                is_writer: true,
                writes,
                reads: writes,
                ..Default::default()
            }],
            ..Report::default()
        };
        let differing = Report { mismatches: vec!["evs.x".into()], ..writes(true) };
        let mut drained = writes(false);
        drained.nodes[0].admin = Admin::Drain;
        let backends = |pool: &str, notes: [&str; 2]| Status {
            backends: notes.map(|note| backend(pool, note)).into(),
            ..well()
        };
        let table: [(&str, Status, u8, &str); 18] = [
            ("well", well(), 0, "TRIGON OK - lb1: web active 192.0.2.10, cluster leader | uptime"),
            ("starting", Status { ready: false, waiting_for: vec!["x".into()], ..well() }, 2, "x"),
            ("no quorum", Status { cluster: quorum(false), ..well() }, 2, "no quorum"),
            (
                "fault",
                Status {
                    vrrp: vec![Router { state: "fault".into(), ..Router::default() }],
                    ..well()
                },
                2,
                "has a fault",
            ),
            (
                "drained",
                Status { ready: false, draining: true, alarms: vec![alarm("drained")], ..well() },
                1,
                "TRIGON WARNING - lb1: drained: look / here | ",
            ),
            ("isolated", Status { alarms: vec![alarm("isolated")], ..well() }, 2, "isolated"),
            ("an alarm", Status { alarms: vec![alarm("clock_off")], ..well() }, 1, "clock_off"),
            ("alone", Status { guardian: Some(Guardian::default()), ..well() }, 1, "no guardian"),
            ("a good database", Status { galera: Some(writes(true)), ..well() }, 0, "OK"),
            ("no writer", Status { galera: Some(writes(false)), ..well() }, 2, "no database node"),
            ("a drained one", Status { galera: Some(drained), ..well() }, 0, "OK"),
            ("timers", Status { galera: Some(differing), ..well() }, 1, "differ: evs.x"),
            ("web nodes", backends("web", ["33.0.1", "33.0.1"]), 0, "OK"),
            ("a half upgrade", backends("web", ["33.0.1", "33.0.2"]), 1, "web: 33.0.1 says"),
            ("who writes", backends("galera", ["writer", ""]), 0, "OK"),
            ("a tunnel is away", Status { tunnels: vec![tunnel], ..well() }, 1, "1 tunnels"),
            (
                "a certificate has ended",
                Status { cluster: Cluster { certificates: ended, ..quorum(true) }, ..well() },
                2,
                "certificate cluster has ended",
            ),
            (
                "several",
                Status { cluster: quorum(false), alarms: vec![alarm("witness_lost")], ..well() },
                2,
                "lb1: no quorum; witness_lost",
            ),
        ];
        for (name, status, code, part) in table {
            let check = Check::of(&status);
            assert_eq!(check.severity.code(), code, "{name}");
            let text = check.to_string();
            assert!(text.contains(part), "{name}: {text}");
            assert_eq!(text.matches('|').count(), 1, "{name}: {text}");
            assert_eq!(text.lines().count(), 1, "{name}: {text}");
        }
        let none = Check::without(Severity::Unknown, &"a | b\nc");
        assert_eq!(none.to_string(), "TRIGON UNKNOWN - a / b?c");
    }
}
