//! What of a node's state is worth a line in the timeline: a new leader, tunnels that come and go,
//! bans, certificates. Sans-io; `chronicle` looks and tells.
//!
//! Every node tells what it knows first-hand: its own tunnels and bans, and that it leads. What all
//! of them see alike, the leader tells.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Tunnels of a whole node come and go at once when it is cut off: beyond so many lines in
/// [`WINDOW`] they are only counted.
const TUNNELS: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);

/// A line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) kind: &'static str,
    pub(super) text: String,
    pub(super) outage_ms: Option<u32>,
}

impl News {
    pub(super) fn new(kind: &'static str, text: String) -> Self {
        Self { kind, text, outage_ms: None }
    }
}

/// What is looked at.
#[derive(Clone, Debug)]
pub(super) struct Look<'l> {
    pub(super) now: Instant,
    /// What this node is called.
    pub(super) name: &'l str,
    /// Whether it leads, and since which term.
    pub(super) leads: Option<u64>,
    /// Its own tunnels: port and name, and whether each is connected.
    pub(super) tunnels: BTreeMap<(u16, String), bool>,
    /// Bans an admin has set on this node.
    pub(super) bans: BTreeSet<String>,
    /// Certificates and when each ends, seconds since the Unix epoch.
    pub(super) certificates: &'l [(&'static str, u64)],
}

/// Remembers the last look. What was there at the first one is no news.
#[derive(Debug, Default)]
pub(super) struct Notable {
    leads: bool,
    seen: Option<Seen>,
    window: Option<Instant>,
    told: u32,
    untold: u32,
}

#[derive(Debug)]
struct Seen {
    tunnels: BTreeMap<(u16, String), bool>,
    bans: BTreeSet<String>,
    certificates: BTreeMap<&'static str, u64>,
}

impl Notable {
    /// What has changed since the last look.
    pub(super) fn look(&mut self, look: Look<'_>) -> Vec<News> {
        let mut news = Vec::new();
        if let (Some(term), false) = (look.leads, self.leads) {
            let text = format!("{} leads the cluster, term {term}", look.name);
            news.push(News::new("leader", text));
        }
        self.leads = look.leads.is_some();
        let certificates: BTreeMap<_, _> = look.certificates.iter().copied().collect();
        if let Some(seen) = self.seen.take() {
            for subnet in look.bans.difference(&seen.bans) {
                news.push(News::new("ban", format!("an admin has banned {subnet}")));
            }
            for (name, ends) in &certificates {
                let own = *name == "cluster";
                if seen.certificates.get(name).is_some_and(|before| before < ends)
                    && (own || self.leads)
                {
                    let whose = if own { look.name } else { "the cluster" };
                    let text = format!("{whose} has a new certificate {name}");
                    news.push(News::new("certificate", text));
                }
            }
            let tunnels = changes(look.name, &seen.tunnels, &look.tunnels);
            self.ration(look.now, tunnels, &mut news);
        }
        self.seen = Some(Seen { tunnels: look.tunnels, bans: look.bans, certificates });
        news
    }

    /// Lets through what the window still allows; the rest becomes one line when it is over.
    fn ration(&mut self, now: Instant, tunnels: Vec<News>, news: &mut Vec<News>) {
        if self.window.is_some_and(|since| now.saturating_duration_since(since) >= WINDOW) {
            if self.untold > 0 {
                let text = format!("{} more times a tunnel came or went", self.untold);
                news.push(News::new("tunnels", text));
            }
            (self.window, self.told, self.untold) = (None, 0, 0);
        }
        for one in tunnels {
            self.window.get_or_insert(now);
            if self.told < TUNNELS {
                self.told += 1;
                news.push(one);
            } else {
                self.untold = self.untold.saturating_add(1);
            }
        }
    }
}

/// Tunnels that were connected or lost.
fn changes(
    name: &str,
    before: &BTreeMap<(u16, String), bool>,
    now: &BTreeMap<(u16, String), bool>,
) -> Vec<News> {
    let was = |key| before.get(key).copied().unwrap_or(false);
    let is = |key| now.get(key).copied().unwrap_or(false);
    let keys: BTreeSet<_> = before.keys().chain(now.keys()).collect();
    let told = keys.into_iter().filter_map(|key| {
        let (port, proxy) = key;
        match (was(key), is(key)) {
            (false, true) => {
                let text = format!("tunnel {proxy} (port {port}) is connected to {name}");
                Some(News::new("tunnel_up", text))
            }
            (true, false) => {
                let text = format!("tunnel {proxy} (port {port}) has left {name}");
                Some(News::new("tunnel_down", text))
            }
            (true, true) | (false, false) => None,
        }
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(now: Instant) -> Look<'static> {
        Look {
            now,
            name: "lb1",
            leads: None,
            tunnels: BTreeMap::new(),
            bans: BTreeSet::new(),
            certificates: &[],
        }
    }

    fn tunnels(count: u16, live: bool) -> BTreeMap<(u16, String), bool> {
        (0..count).map(|port| ((port, format!("app{port}")), live)).collect()
    }

    fn kinds(news: &[News]) -> Vec<&'static str> {
        news.iter().map(|news| news.kind).collect()
    }

    #[test]
    fn what_was_there_at_the_start_is_no_news_and_each_change_is_told_once() {
        let (mut notable, now) = (Notable::default(), Instant::now());
        let full = |live, ends: &'static [(&'static str, u64)]| Look {
            tunnels: tunnels(1, live),
            bans: BTreeSet::from(["192.0.2.0/24".to_owned()]),
            certificates: ends,
            ..look(now)
        };
        assert_eq!(notable.look(full(true, &[("cluster", 5), ("frp_ca", 5)])), []);
        assert_eq!(notable.look(full(true, &[("cluster", 5), ("frp_ca", 5)])), []);
        let gone = notable.look(full(false, &[("cluster", 9), ("frp_ca", 9)]));
        assert_eq!(kinds(&gone), ["certificate", "tunnel_down"], "the other one the leader tells");
        let back = notable.look(full(true, &[("cluster", 9), ("frp_ca", 9)]));
        assert_eq!(back[0].text, "tunnel app0 (port 0) is connected to lb1");
        let more = Look { bans: BTreeSet::from(["::/64".to_owned()]), ..full(true, &[]) };
        assert_eq!(kinds(&notable.look(more)), ["ban"]);
    }

    #[test]
    fn only_the_node_that_begins_to_lead_says_so() {
        let (mut notable, now) = (Notable::default(), Instant::now());
        let mut told = Vec::new();
        for leads in [None, Some(3), Some(3), None, Some(5)] {
            told.extend(notable.look(Look { leads, ..look(now) }));
        }
        let texts: Vec<_> = told.iter().map(|news| news.text.as_str()).collect();
        assert_eq!(texts, ["lb1 leads the cluster, term 3", "lb1 leads the cluster, term 5"]);
    }

    #[test]
    fn many_tunnels_at_once_are_counted_and_do_not_push_everything_else_out() {
        let (mut notable, start) = (Notable::default(), Instant::now());
        notable.look(look(start));
        let up = notable.look(Look { tunnels: tunnels(90, true), ..look(start) });
        assert_eq!(up.len(), 20);
        let down = notable.look(Look { tunnels: tunnels(90, false), ..look(start) });
        assert_eq!(down, []);
        let later = Look { tunnels: tunnels(90, false), ..look(start + WINDOW) };
        assert_eq!(notable.look(later)[0].text, "160 more times a tunnel came or went");
        let again = Look { tunnels: tunnels(1, true), ..look(start + WINDOW) };
        assert_eq!(kinds(&notable.look(again)), ["tunnel_up"]);
    }
}
