//! `trigon events`: what happened lately, anywhere in the cluster.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::table::{moment, table};

/// The answer of `GET /events`, in the order in which the cluster was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Events(pub Vec<Event>);

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number; later events have higher ones.
    pub seq: u64,
    /// When, by the clock of its node, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Number of the node that tells it.
    pub node: u64,
    /// What kind of thing, a word such as `vrrp_active`.
    pub kind: String,
    /// One line.
    pub text: String,
    /// How long nobody answered because of it, milliseconds, if that was measured.
    #[serde(default)]
    pub outage_ms: Option<u32>,
}

impl Event {
    /// When, for people: date and time in UTC.
    pub fn moment(&self) -> String {
        moment(self.at_ms)
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.iter().map(|event| {
            [
                event.moment(),
                event.node.to_string(),
                event.kind.clone(),
                event.outage_ms.map_or_else(|| "-".to_owned(), |outage| format!("{outage} ms")),
                event.text.clone(),
            ]
        });
        f.write_str(&table(["TIME", "NODE", "KIND", "OUTAGE", "WHAT"], rows.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_with_its_time_and_its_outage() {
        let event = Event {
            seq: 7,
            at_ms: 1_790_000_000_123,
            node: 2,
            kind: "vrrp_active".into(),
            text: "lb2 holds 192.0.2.100".into(),
            outage_ms: Some(312),
        };
        let text = Events(vec![event]).to_string();
        let line = text.lines().nth(1).unwrap();
        assert_eq!(
            line,
            "2026-09-21 14:13:20.123  2     vrrp_active  312 ms  lb2 holds 192.0.2.100"
        );
    }
}
