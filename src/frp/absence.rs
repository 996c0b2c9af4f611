//! Which registered tunnels are missing, and since when: the clock after which a tunnel whose
//! client did not come back anywhere is forgotten. Sans-io; `tunnels.rs` reads the clock and
//! proposes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use cluster::NodeId;
use cluster::record::{Tunnel, TunnelKey};

/// The registrations this node waits for.
#[derive(Debug)]
pub(super) struct Absence {
    node: NodeId,
    patience: Duration,
    missing: HashMap<TunnelKey, Missing>,
}

#[derive(Debug)]
struct Missing {
    record: Tunnel,
    until: Instant,
}

impl Absence {
    pub(super) fn new(node: NodeId, patience: Duration) -> Self {
        Self { node, patience, missing: HashMap::new() }
    }

    /// Starts the clock of every record that ends at one of `addresses` and is not live here,
    /// whichever node holds it: that node has lost the address to this one. Tunnels of other
    /// addresses are not expected here, however many nodes serve at once.
    pub(super) fn adopt<'a>(
        &mut self,
        now: Instant,
        addresses: &[IpAddr],
        records: impl Iterator<Item = &'a Tunnel>,
        is_live: impl Fn(&TunnelKey) -> bool,
    ) {
        let ends_there = |record: &&Tunnel| addresses.contains(&record.server.ip().to_canonical());
        for record in records.filter(ends_there).filter(|record| !is_live(&record.key())) {
            self.start(now, record);
        }
    }

    /// Compares the registrations with what is live here. Returns those to be forgotten now; a
    /// record is named again at the next review until it is gone.
    pub(super) fn review<'a>(
        &mut self,
        now: Instant,
        records: impl Iterator<Item = &'a Tunnel>,
        is_live: impl Fn(&TunnelKey) -> bool,
    ) -> Vec<Tunnel> {
        let mut before = std::mem::take(&mut self.missing);
        for record in records.filter(|record| !is_live(&record.key())) {
            match before.remove(&record.key()) {
                // Registered again since, on whichever node: that one answers for it.
                Some(missing) if missing.record == *record => {
                    self.missing.insert(record.key(), missing);
                }
                _ if record.node == self.node => self.start(now, record),
                _ => {}
            }
        }
        let due = self.missing.values().filter(|missing| now >= missing.until);
        due.map(|missing| missing.record.clone()).collect()
    }

    /// When the next record is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.missing.values().map(|missing| missing.until).min()
    }

    fn start(&mut self, now: Instant, record: &Tunnel) {
        let missing = Missing { record: record.clone(), until: now + self.patience };
        self.missing.insert(record.key(), missing);
    }
}

#[cfg(test)]
mod tests {
    use cluster::record::{Tenant, TunnelStamp};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(90);

    fn record(port: u16, run_id: &str, node: NodeId) -> Tunnel {
        Tunnel {
            tenant: Tenant::default(),
            port,
            proxy: "app".into(),
            run_id: run_id.into(),
            node,
            client: "192.0.2.1:40000".parse().unwrap(),
            server: "192.0.2.9:8782".parse().unwrap(),
            since: 0,
            stamp: TunnelStamp::default(),
        }
    }

    fn review(absence: &mut Absence, now: Instant, records: &[Tunnel], live: &[u16]) -> Vec<u16> {
        let due = absence.review(now, records.iter(), |key| live.contains(&key.port));
        due.iter().map(|record| record.port).collect()
    }

    #[test]
    fn a_lost_client_is_forgotten_after_the_patience_and_not_before() {
        let now = Instant::now();
        let mut absence = Absence::new(1, PATIENCE);
        let records = [record(23001, "a", 1)];
        assert!(review(&mut absence, now, &records, &[]).is_empty());
        assert_eq!(absence.next(), Some(now + PATIENCE));
        let almost = now + PATIENCE - Duration::from_millis(1);
        assert!(review(&mut absence, almost, &records, &[]).is_empty());
        assert_eq!(review(&mut absence, now + PATIENCE, &records, &[]), [23001]);
        assert_eq!(review(&mut absence, now + PATIENCE, &records, &[]), [23001], "until gone");
        assert!(review(&mut absence, now + PATIENCE, &[], &[]).is_empty());
        assert_eq!(absence.next(), None);
    }

    #[test]
    fn coming_back_here_or_elsewhere_stops_the_clock() {
        let now = Instant::now();
        let here = [record(23001, "a", 1)];
        let elsewhere = [record(23001, "a", 2)];
        for (records, live) in [(&here, &[23001][..]), (&elsewhere, &[])] {
            let mut absence = Absence::new(1, PATIENCE);
            review(&mut absence, now, &here, &[]);
            review(&mut absence, now, records, live);
            assert_eq!(absence.next(), None);
        }
    }

    #[test]
    fn being_lost_again_starts_a_new_clock() {
        let now = Instant::now();
        let mut absence = Absence::new(1, PATIENCE);
        let records = [record(23001, "a", 1)];
        review(&mut absence, now, &records, &[]);
        let later = now + Duration::from_secs(60);
        review(&mut absence, later, &records, &[23001]);
        review(&mut absence, later, &records, &[]);
        assert_eq!(absence.next(), Some(later + PATIENCE));
    }

    #[test]
    fn other_nodes_tunnels_are_theirs_until_adopted() {
        let now = Instant::now();
        let mut absence = Absence::new(1, PATIENCE);
        let records = [record(23001, "a", 2), record(23002, "b", 2)];
        assert!(review(&mut absence, now, &records, &[]).is_empty());
        assert_eq!(absence.next(), None);
        let address = [records[0].server.ip()];
        absence.adopt(now, &address, records.iter(), |key| key.port == 23002);
        assert_eq!(review(&mut absence, now + PATIENCE, &records, &[23002]), [23001]);
    }

    #[test]
    fn tunnels_of_an_address_another_node_still_holds_are_not_waited_for() {
        let now = Instant::now();
        let mut absence = Absence::new(1, PATIENCE);
        let other = Tunnel { server: "192.0.2.10:8782".parse().unwrap(), ..record(23002, "b", 2) };
        let mapped =
            Tunnel { server: "[::ffff:192.0.2.9]:8782".parse().unwrap(), ..record(23003, "c", 2) };
        let records = [record(23001, "a", 2), other, mapped];
        absence.adopt(now, &["192.0.2.9".parse().unwrap()], records.iter(), |_| false);
        let mut due = review(&mut absence, now + PATIENCE, &records, &[]);
        due.sort_unstable();
        assert_eq!(due, [23001, 23003]);
    }
}
