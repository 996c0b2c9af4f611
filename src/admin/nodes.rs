//! The members of the cluster as an admin sees them: `/nodes`, `trigon node` and a part of
//! `trigon status`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::table::{span, table};

/// What a member does in the cluster now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Votes, and decides the order of changes.
    Leader,
    /// Votes.
    Voter,
    /// Has every change but no vote.
    Learner,
    /// Is taken in and does not take part yet.
    Joining,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its number, for ever.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whether it serves or only votes.
    pub role: cluster::Role,
    /// Where the others reach it; none for a cluster of one without a listener.
    pub address: Option<String>,
    /// What it does in the cluster.
    pub part: Part,
    /// Whether it is the one that was asked.
    pub this_node: bool,
    /// Whether it answers; only the leader can tell.
    pub reachable: Option<bool>,
    /// Entries of the log it has yet to store; only the leader can tell.
    pub lag: Option<u64>,
    /// Seconds since it was taken in.
    pub since_seconds: u64,
}

/// The answer to `GET /nodes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nodes(pub Vec<Node>);

/// Whom to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Its number.
    pub id: u64,
}

/// What became of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Whether there was such a member.
    pub found: bool,
    /// Whether it was a load balancer, whose disk has the key of the cluster's secrets.
    #[serde(default)]
    pub had_key: bool,
}

impl Part {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Voter => "voter",
            Self::Learner => "learner",
            Self::Joining => "joining",
        }
    }
}

impl Node {
    /// What there is to say about whether it keeps up.
    fn condition(&self) -> String {
        match (self.reachable, self.lag) {
            (Some(false), _) => "does not answer".to_owned(),
            (_, Some(lag)) if lag > 0 => format!("{lag} entries behind"),
            (Some(true), _) => "answers".to_owned(),
            (None, _) => String::new(),
        }
    }

    /// One line of the status.
    pub(super) fn summary(&self) -> String {
        let Self { id, name, role, part, .. } = self;
        let here = if self.this_node { " (this node)" } else { "" };
        let address = self.address.as_deref().map(|at| format!(" at {at}")).unwrap_or_default();
        let condition = match self.condition() {
            text if text.is_empty() || text == "answers" => String::new(),
            text => format!(", {text}"),
        };
        let part = part.word();
        format!("member   {id} {name} ({role}){address} is {part}{here}{condition}")
    }
}

impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.iter().map(|node| {
            let part = node.part.word();
            [
                node.id.to_string(),
                node.name.clone(),
                node.role.to_string(),
                node.address.clone().unwrap_or_else(|| "-".to_owned()),
                if node.this_node { format!("{part}, this node") } else { part.to_owned() },
                span(node.since_seconds),
                node.condition(),
            ]
        });
        let headings = ["ID", "NAME", "ROLE", "ADDRESS", "PART", "FOR", "CONDITION"];
        f.write_str(&table(headings, rows.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(part: Part, reachable: Option<bool>, lag: Option<u64>) -> Node {
        Node {
            id: 2,
            name: "b".into(),
            role: cluster::Role::Node,
            address: Some("192.0.2.12:7443".into()),
            part,
            this_node: part == Part::Leader,
            reachable,
            lag,
            since_seconds: 61,
        }
    }

    #[test]
    fn a_line_says_what_a_member_does_and_what_is_wrong_with_it() {
        let table = [
            (node(Part::Leader, Some(true), Some(0)), "is leader (this node)"),
            (node(Part::Voter, Some(false), Some(9)), "is voter, does not answer"),
            (node(Part::Learner, Some(true), Some(9)), "is learner, 9 entries behind"),
            (node(Part::Voter, None, None), "is voter"),
        ];
        for (node, end) in table {
            let line = node.summary();
            assert_eq!(line, format!("member   2 b (node) at 192.0.2.12:7443 {end}"));
        }
    }

    #[test]
    fn the_list_is_a_table() {
        let text = Nodes(vec![node(Part::Voter, Some(false), None)]).to_string();
        let row: Vec<_> = text.lines().nth(1).unwrap_or_default().split("  ").collect();
        let cells: Vec<_> = row.iter().map(|cell| cell.trim()).filter(|c| !c.is_empty()).collect();
        let expected = ["2", "b", "node", "192.0.2.12:7443", "voter", "1m01s", "does not answer"];
        assert_eq!(cells, expected);
    }
}
