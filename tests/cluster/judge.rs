//! Holds a place against a row of the table: every column is looked at, in an order in which the
//! failure has had its effect first.

use std::time::Instant;

use trigon::admin::client;
use trigon::admin::cluster::Cluster;

use crate::place::{Place, Side, VIP};
use crate::support::eventually;
use crate::table::{self, Address, Nodes, Row, Users};
use crate::tunnel::TunnelClient;

/// An ExApp that registers only now.
const NEWCOMER: &str = "newcomer";

impl Place {
    /// Every column of the row is true now. The failure began with [`Place::begin`].
    pub(crate) async fn shows(&mut self, id: &str) {
        let (row, opens) = table::row(id);
        if opens {
            self.opens_a_generation(id).await;
        }
        self.address_is(row).await;
        let served = match row.users {
            Users::OneMove => Some(self.users.are_served(self.since).await),
            _ => None,
        };
        self.writes_are(row.writes, row.id, opens).await;
        for side in sides(row.reads) {
            eventually(&format!("{id}: {side:?} routes by what it knows"), || async {
                self.reads(side).await.then_some(())
            })
            .await;
        }
        for side in sides(row.registrations) {
            self.registers(side).await;
        }
        self.users_saw(row, served).await;
        self.address_is(row).await;
    }

    async fn address_is(&self, row: &Row) {
        let wanted = match row.address {
            Address::Stays | Address::Island => (true, false),
            Address::Moves => (false, true),
            Address::Both => (true, true),
        };
        eventually(&format!("{}: the address is where it should be", row.id), || async {
            ((self.a.holds(VIP), self.b.holds(VIP)) == wanted).then_some(())
        })
        .await;
        if row.address == Address::Stays && row.users == Users::Nothing {
            let moves = self.a.moves() + self.b.moves();
            assert_eq!(moves, self.moves, "{}: a virtual router moved", row.id);
        }
    }

    /// B confirms nothing before it has opened a generation of its own.
    async fn opens_a_generation(&mut self, id: &str) {
        self.generation += 1;
        eventually(&format!("{id}: B goes on alone"), || async {
            match self.b.ban(next_address()).await {
                Ok(()) => Some(()),
                Err(words) => {
                    assert!(words.contains("no quorum"), "{words}");
                    None
                }
            }
        })
        .await;
        let generation = self.generation;
        let goes_on = |cluster: &Cluster| cluster.generation == generation && cluster.quorum;
        let now = client::cluster(&self.b.socket()).await.unwrap();
        assert!(goes_on(&now), "{id}: B confirmed a change, and stands like this:\n{now}");
    }

    /// Nodes that are named confirm a change, others that run refuse it. `apart`: each in a
    /// generation of its own.
    async fn writes_are(&mut self, nodes: Nodes, id: &str, apart: bool) {
        for side in [Side::A, Side::B] {
            if sides(nodes).any(|one| one == side) {
                self.confirms(side, id).await;
            } else if self.node(side).runs() {
                self.refuses(side, id).await;
            }
        }
        if nodes == Nodes::Both && !apart {
            for side in [Side::A, Side::B] {
                if self.is_full(side).await {
                    continue;
                }
                for record in &self.pushed {
                    let what = format!("{side:?} has {record}");
                    let node = self.node(side);
                    node.until(&what, |status| crate::place::knows(status, record)).await;
                }
            }
        }
    }

    /// A change asked of that node is confirmed, within the time an election takes; and a record
    /// that AppAPI pushes there is on the cluster's record.
    pub(crate) async fn confirms(&mut self, side: Side, id: &str) {
        eventually(&format!("{id}: {side:?} confirms a change"), || async {
            self.node(side).ban(next_address()).await.ok()
        })
        .await;
        let record = next_record(id);
        self.push_to(side, &record).await;
        // A node without room has others write it down.
        let on = if self.is_full(side).await { side.other() } else { side };
        let what = format!("{id}: {on:?} has {record}");
        self.node(on).until(&what, |status| crate::place::knows(status, &record)).await;
    }

    async fn is_full(&self, side: Side) -> bool {
        self.node(side).status().await.is_some_and(|status| status.cluster.disk_full)
    }

    /// A change asked of that node is refused in words, and a record that AppAPI pushes is kept and
    /// used there.
    async fn refuses(&mut self, side: Side, id: &str) {
        let record = next_record(id);
        let what = format!("{id}: {side:?} refuses a change");
        let refused =
            eventually(&what, || async { self.node(side).ban(next_address()).await.err() });
        // Each waits for seconds before it is answered.
        let (words, ()) = tokio::join!(refused, self.push(side, &record));
        self.pushed.push(record.clone());
        assert!(words.contains("no quorum"), "{words}");
        assert!(self.routes(side, &record).await, "{id}: {side:?} does not use what it was told");
    }

    /// A tunnel client that comes to that node can register there.
    async fn registers(&self, side: Side) {
        let node = self.node(side);
        let name = format!("newcomer-{side:?}");
        let tunnel = self.tunnel(&name, node.address(), NEWCOMER);
        let _client = TunnelClient::start(&self.app, self.path(), &tunnel);
        node.until("a new tunnel", |status| {
            status.tunnels.iter().any(|tunnel| tunnel.proxy == NEWCOMER && tunnel.live_here)
        })
        .await;
    }

    async fn users_saw(&self, row: &Row, served: Option<Instant>) {
        match row.users {
            Users::Nothing => {
                // What was asked since the failure, and goes on being asked.
                self.users.are_served(Instant::now()).await;
                let failures = self.users.failures(self.since);
                assert!(failures.is_empty(), "{}: {failures:#?}", row.id);
            }
            Users::OneMove => {
                let served = served.expect("looked at before");
                let failures = self.users.failures(served);
                assert!(failures.is_empty(), "{}: after the move: {failures:#?}", row.id);
            }
            // The test itself has to look.
            Users::BothServed | Users::PublicOnly | Users::Outage => {}
        }
    }
}

pub(crate) fn sides(nodes: Nodes) -> impl Iterator<Item = Side> {
    let named = [(Side::A, nodes.has_a()), (Side::B, nodes.has_b())];
    named.into_iter().filter_map(|(side, named)| named.then_some(side))
}

fn next() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// An address nobody has banned yet.
pub(crate) fn next_address() -> String {
    let [_, _, c, d] = next().to_be_bytes();
    format!("198.18.{c}.{d}")
}

fn next_record(id: &str) -> String {
    format!("{id}-{}", next())
}
