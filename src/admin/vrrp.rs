//! `trigon vrrp`: every virtual router with all that decides who holds its addresses. The same
//! objects are in the status.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

use super::table::{plain, span};

/// Widest line of the text, so that it can be read in a narrow terminal.
const WIDTH: usize = 100;

/// The answer of `GET /vrrp`, in the order of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Vrrp(pub Vec<Router>);

/// One virtual router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// What it is called.
    pub name: String,
    /// Virtual router id.
    pub vrid: u8,
    /// Interface it speaks on.
    pub interface: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Version of the protocol, 2 or 3.
    pub version: u8,
    /// Where its advertisements come from; none while it cannot send.
    pub source: Option<String>,
    /// `initialize`, `fault`, `backup` or `active`.
    pub state: String,
    /// Seconds in that state.
    pub since_seconds: u64,
    /// Why it may not take part; the state is `fault` then.
    pub faults: Vec<String>,
    /// The word it shares with the routers it moves together with.
    pub sync_group: Option<String>,
    /// Priority of the configuration.
    pub base_priority: u8,
    /// What is added to that, and why.
    pub adjustments: Vec<Adjustment>,
    /// Priority in force: the sum, cut to 1 to 254.
    pub priority: u8,
    /// Virtual addresses.
    pub addresses: Vec<String>,
    /// Number of the node that holds the addresses, if one does as far as this node hears.
    #[serde(default)]
    pub holder: Option<u64>,
    /// Whether it may become active yet.
    pub permitted: bool,
    /// Why it does not succeed an active that has fallen silent.
    pub holds_back: Option<String>,
    /// Other routers heard.
    pub peers: Vec<Peer>,
    /// Advertisements received and accepted.
    pub adverts_in: u64,
    /// Advertisements sent.
    pub adverts_out: u64,
    /// What went wrong or was odd, by kind; only kinds that occurred.
    pub incidents: Vec<(String, u64)>,
    /// The longest time by which this process was late, milliseconds.
    pub longest_delay_ms: u64,
    /// Packets refused, by reason; only reasons that occurred.
    pub refused: Vec<(String, u64)>,
    /// What an admin should look into now.
    pub alarms: Vec<String>,
    /// Why it changed state last.
    pub last_reason: String,
}

/// One reason why a priority is not the configured one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adjustment {
    /// How much it adds.
    pub by: i32,
    /// Why.
    pub reason: String,
}

/// Another router of the same addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Where its advertisements come from.
    pub address: String,
    /// Priority as last advertised; 0 after it said goodbye.
    pub priority: u8,
    /// How many of its advertisements were heard.
    pub adverts: u64,
    /// Milliseconds since the last of them.
    pub heard_ms_ago: u64,
}

impl fmt::Display for Vrrp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(f, "no virtual router is configured");
        }
        for (index, router) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            router.describe(f)?;
        }
        Ok(())
    }
}

impl Router {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, vrid, interface, family, version, .. } = self;
        let since = span(self.since_seconds);
        let state = self.state.to_uppercase();
        writeln!(f, "{name}  {state} for {since}  {interface} vrid {vrid} {family} v{version}")?;
        for cause in &self.faults {
            line(f, "fault", cause)?;
        }
        for alarm in &self.alarms {
            line(f, "ALARM", alarm)?;
        }
        line(f, "addresses", &self.addresses.join(" "))?;
        line(f, "priority", &self.arithmetic())?;
        if let Some(group) = &self.sync_group {
            line(f, "moves with", &format!("the sync group {group}"))?;
        }
        if !self.permitted {
            line(f, "waits", "this node cannot serve yet")?;
        }
        if let Some(why) = &self.holds_back {
            line(f, "holds back", why)?;
        }
        if !self.last_reason.is_empty() {
            line(f, "changed", &format!("{since} ago: {}", self.last_reason))?;
        }
        for Peer { address, priority, adverts, heard_ms_ago } in &self.peers {
            let ago = match heard_ms_ago {
                0..10_000 => format!("{heard_ms_ago} ms"),
                long => span(long / 1000),
            };
            let says = match priority {
                0 => "said goodbye".to_owned(),
                priority => format!("priority {priority}"),
            };
            line(f, "peer", &format!("{address} {says}, heard {adverts} times, last {ago} ago"))?;
        }
        let from =
            self.source.as_ref().map_or_else(String::new, |source| format!(" from {source}"));
        line(f, "adverts", &format!("{} in, {} out{from}", self.adverts_in, self.adverts_out))?;
        for (what, count) in &self.incidents {
            line(f, "incidents", &format!("{count} x {what}"))?;
        }
        if self.longest_delay_ms > 0 {
            line(f, "latest by", &format!("{} ms", self.longest_delay_ms))?;
        }
        for (reason, count) in &self.refused {
            line(f, "refused", &format!("{count} x {reason}"))?;
        }
        Ok(())
    }

    /// The priority, and how it comes about.
    fn arithmetic(&self) -> String {
        let mut text = self.priority.to_string();
        if self.adjustments.is_empty() && self.priority == self.base_priority {
            return text;
        }
        let _ = write!(text, " = {}", self.base_priority);
        let mut sum = i32::from(self.base_priority);
        for Adjustment { by, reason } in &self.adjustments {
            sum = sum.saturating_add(*by);
            let sign = if *by < 0 { '-' } else { '+' };
            let _ = write!(text, " {sign} {} ({reason})", by.unsigned_abs());
        }
        if sum != i32::from(self.priority) {
            text.push_str(", cut to 1-254");
        }
        text
    }

    /// One line for the status.
    pub(super) fn summary(&self) -> String {
        let Self { name, interface, state, .. } = self;
        let since = span(self.since_seconds);
        let cause = match self.faults.as_slice() {
            [] => self.last_reason.clone(),
            faults => faults.join(", "),
        };
        format!(
            "vrrp     {name:<12} {interface:<8} {state:<7} since {since:<7} priority {:<3} {}  ({cause})",
            self.priority,
            self.addresses.join(" "),
        )
    }
}

/// A value below its heading; what is too long goes on in the next lines.
fn line(f: &mut fmt::Formatter<'_>, heading: &str, value: &str) -> fmt::Result {
    let mut heading = heading;
    let mut text = String::new();
    for word in plain(value).split(' ') {
        let fits = 14 + text.chars().count() + 1 + word.chars().count() <= WIDTH;
        if !fits && !text.is_empty() {
            writeln!(f, "  {heading:<10}  {text}")?;
            (heading, text) = ("", String::new());
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    writeln!(f, "  {heading:<10}  {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn router() -> Router {
        Router {
            name: "web".into(),
            vrid: 51,
            interface: "eth0".into(),
            family: "ipv4".into(),
            version: 3,
            source: Some("192.0.2.1".into()),
            state: "backup".into(),
            since_seconds: 90_000,
            base_priority: 254,
            adjustments: vec![Adjustment { by: -20, reason: "script x is down".into() }],
            priority: 234,
            addresses: vec!["192.0.2.10".into(), "192.0.2.11".into()],
            permitted: true,
            peers: vec![Peer {
                address: "192.0.2.2".into(),
                priority: 254,
                adverts: 12,
                heard_ms_ago: 40,
            }],
            adverts_in: 12,
            adverts_out: 3,
            last_reason: "192.0.2.2 advertises priority 254".into(),
            ..Router::default()
        }
    }

    #[test]
    fn a_router_is_told_in_a_few_lines() {
        let text = Vrrp(vec![router()]).to_string();
        assert_eq!(
            text,
            "web  BACKUP for 1d01h  eth0 vrid 51 ipv4 v3\n\
             \x20 addresses   192.0.2.10 192.0.2.11\n\
             \x20 priority    234 = 254 - 20 (script x is down)\n\
             \x20 changed     1d01h ago: 192.0.2.2 advertises priority 254\n\
             \x20 peer        192.0.2.2 priority 254, heard 12 times, last 40 ms ago\n\
             \x20 adverts     12 in, 3 out from 192.0.2.1\n"
        );
    }

    #[test]
    fn trouble_comes_first_and_long_lines_are_folded() {
        let long = "word ".repeat(60);
        let router = Router {
            state: "fault".into(),
            faults: vec!["interface eth1 is down".into(), "\x1b[2J".into()],
            alarms: vec![long],
            permitted: false,
            holds_back: Some("the active is well".into()),
            refused: vec![("the checksum is wrong".into(), 3)],
            incidents: vec![("address taken away".into(), 1)],
            ..router()
        };
        let text = Vrrp(vec![router]).to_string();
        assert!(text.starts_with("web  FAULT for"), "{text}");
        assert!(
            text.lines().nth(1).unwrap().contains("fault       interface eth1 is down"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        for part in ["waits", "holds back  the active is well", "3 x the checksum", "1 x address"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn the_priority_is_told_with_its_arithmetic() {
        let up = |by, reason: &str| Adjustment { by, reason: reason.into() };
        for (base, adjustments, priority, told) in [
            (254, vec![], 254, "254"),
            (250, vec![up(10, "a is up")], 254, "254 = 250 + 10 (a is up), cut to 1-254"),
            (100, vec![up(5, "a"), up(-50, "b")], 55, "55 = 100 + 5 (a) - 50 (b)"),
            (100, vec![up(-120, "b")], 1, "1 = 100 - 120 (b), cut to 1-254"),
        ] {
            let router = Router { base_priority: base, adjustments, priority, ..router() };
            assert_eq!(router.arithmetic(), told);
        }
    }

    #[test]
    fn a_node_without_virtual_router_says_so() {
        assert_eq!(Vrrp(Vec::new()).to_string(), "no virtual router is configured\n");
    }
}
