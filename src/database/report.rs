//! How the front of the database stands, for status and metrics. Sans-io.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::gates::Gates;
use crate::balance::roster::{Admin, Condition, Member};

/// The front of one database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Every node, in the order in which they are preferred.
    pub nodes: Vec<NodeReport>,
    /// Counts the agreements on a writer.
    pub epoch: u64,
    /// Whether the writer is one that could not be agreed on.
    pub stand_in: bool,
    /// Timers of the replication that are not alike on all nodes.
    pub mismatches: Vec<String>,
    /// Clients that are connected.
    pub clients: usize,
    /// Clients turned away since the start.
    pub refused: u64,
}

/// One node of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// Whether writes go there.
    pub is_writer: bool,
    /// Whether it is any good for writing.
    pub writes: bool,
    /// Whether it is any good for reading.
    pub reads: bool,
    /// What an admin of this load balancer wants of it.
    #[serde(default)]
    pub admin: Admin,
    /// How it is, whatever an admin wants.
    #[serde(default)]
    pub health: Condition,
    /// Seconds since that changed.
    #[serde(default)]
    pub since_seconds: u64,
    /// Why it is not as it should be: a word and a text.
    pub reason: Option<(String, String)>,
    /// The number of the view it is in.
    pub view: Option<u64>,
    /// How many nodes it sees, itself included.
    pub size: Option<u32>,
    /// Sessions it has.
    pub sessions: usize,
    /// Sessions it has had since the start.
    pub total: u64,
    /// Sessions it did not take.
    pub failed: u64,
    /// Sessions that were cut there.
    pub cut: u64,
}

impl Report {
    pub(super) fn count(&mut self, gates: &Gates) {
        self.clients = gates.clients();
        self.refused = gates.turned_away();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let counts = gates.counts(index);
            node.sessions = counts.open;
            node.total = counts.total;
            node.failed = counts.failed;
            node.cut = counts.cut;
        }
    }

    /// The node that writes.
    pub fn writer(&self) -> Option<&NodeReport> {
        self.nodes.iter().find(|node| node.is_writer)
    }
}

impl NodeReport {
    /// The node as one server of `pool`.
    pub(super) fn member(&self, pool: &str) -> Member {
        let part = self.is_writer.then_some("writer");
        let why = self.reason.as_ref().map(|(_, text)| text.as_str());
        let note: Vec<_> = part.into_iter().chain(why).collect();
        Member {
            pool: pool.to_owned(),
            name: self.name.clone(),
            address: self.address.clone(),
            admin: self.admin,
            health: self.health,
            since_seconds: self.since_seconds,
            in_flight: u64::try_from(self.sessions).unwrap_or(u64::MAX),
            total: self.total,
            failed: self.failed,
            note: note.join("; "),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            let is_up = match node.admin {
                Admin::Ready => node.writes || node.reads,
                Admin::Drain | Admin::Maint => node.health != Condition::Down,
            };
            let order = match node.admin {
                Admin::Ready => String::new(),
                order => format!(", {order}"),
            };
            let part = match (node.is_writer, is_up) {
                (true, true) => "writer",
                (true, false) => "WRITER, DOWN",
                (false, true) if order.is_empty() => "ready",
                (false, true) => "up",
                (false, false) => "DOWN",
            };
            let why = node.reason.as_ref().map(|(_, text)| format!("  {text}"));
            writeln!(
                f,
                "database {:<12} {:<21} {part}{order}, {} sessions{}",
                node.name,
                node.address,
                node.sessions,
                why.unwrap_or_default()
            )?;
        }
        if self.writer().is_none() {
            writeln!(f, "NO WRITER: no database node can be written to")?;
        }
        if self.stand_in {
            writeln!(f, "database: no agreement on the writer, a stand-in writes")?;
        }
        if !self.mismatches.is_empty() {
            let timers = self.mismatches.join(", ");
            writeln!(f, "database: TIMERS DIFFER among the nodes: {timers}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_who_writes_and_what_is_wrong() {
        let node = |name: &str, is_writer, up, reason: Option<(&str, &str)>| NodeReport {
            name: name.to_owned(),
            address: "192.0.2.1:3306".to_owned(),
            is_writer,
            writes: up,
            reads: up,
            reason: reason.map(|(word, text)| (word.to_owned(), text.to_owned())),
            ..NodeReport::default()
        };
        let gone = Some(("unreachable", "cannot be reached: refused"));
        let mut report = Report {
            nodes: vec![node("db1", false, false, gone), node("db2", true, true, None)],
            stand_in: true,
            mismatches: vec!["evs.suspect_timeout".to_owned()],
            ..Report::default()
        };
        let text = report.to_string();
        assert!(text.contains("DOWN, 0 sessions  cannot be reached: refused"), "{text}");
        assert!(text.contains("writer, 0 sessions\n"), "{text}");
        assert!(text.contains("stand-in") && text.contains("evs.suspect_timeout"), "{text}");
        report.nodes[1].admin = Admin::Drain;
        let text = report.to_string();
        assert!(text.contains("writer, drain, 0 sessions\n"), "{text}");
        assert_eq!(report.nodes[1].member("galera").note, "writer");
        report.nodes.pop();
        assert!(report.to_string().contains("NO WRITER"));
    }
}
