//! Registered tunnels, and which of two registrations of a port is the newer one. Sans-io.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::by_tenant::ByTenant;
use crate::command::Reply;
use crate::record::{MAX_TUNNELS, NodeId, Tenant, Tunnel, TunnelStamp};

/// One registration per tenant and port, at most [`MAX_TUNNELS`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tunnels {
    records: ByTenant<u16, Arc<Tunnel>>,
    /// The highest epoch of any registration so far; never goes back.
    epoch: u64,
}

impl Tunnels {
    /// Takes in a registration unless what is known is newer.
    pub(super) fn up(&mut self, tunnel: &Tunnel) -> Reply {
        match self.get(&tunnel.tenant, tunnel.port) {
            Some(known) if !tunnel.replaces(known) => return Reply::Nothing,
            None if self.records.len() >= MAX_TUNNELS => return Reply::Full,
            _ => {}
        }
        self.epoch = self.epoch.max(tunnel.stamp.epoch);
        self.records.insert(&tunnel.tenant, tunnel.port, Arc::new(tunnel.clone()));
        Reply::Done
    }

    /// Takes back this very registration.
    pub(super) fn down(
        &mut self,
        tenant: &Tenant,
        port: u16,
        node: NodeId,
        stamp: TunnelStamp,
    ) -> bool {
        let ours = |known: &Arc<Tunnel>| known.node == node && known.stamp == stamp;
        self.get(tenant, port).is_some_and(ours) && self.records.remove(tenant, &port).is_some()
    }

    pub(super) fn get(&self, tenant: &Tenant, port: u16) -> Option<&Arc<Tunnel>> {
        self.records.get(tenant, &port)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Tunnel>> {
        self.records.iter().map(|(_, _, record)| record)
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(node: NodeId, epoch: u64, count: u64) -> Tunnel {
        Tunnel {
            tenant: Tenant::default(),
            port: 23001,
            proxy: "app".into(),
            run_id: "the client keeps it".into(),
            node,
            client: "192.0.2.1:40000".parse().unwrap(),
            server: "192.0.2.9:8782".parse().unwrap(),
            since: 0,
            stamp: TunnelStamp { epoch, count },
        }
    }

    /// (node, epoch, count) of what is known, of what comes, and whether the latter is kept.
    type Row = (&'static str, (NodeId, u64, u64), (NodeId, u64, u64), bool);

    #[test]
    fn a_registration_is_replaced_by_newer_ones_only() {
        let table: [Row; 8] = [
            ("the same node, again", (1, 5, 1), (1, 5, 1), true),
            ("the same node, later", (1, 5, 1), (1, 5, 2), true),
            ("the same node, its earlier one comes late", (1, 5, 2), (1, 5, 1), false),
            ("the same node after others registered", (1, 5, 9), (1, 7, 1), true),
            ("another node that knew of it", (1, 5, 1), (2, 6, 0), true),
            ("another node, made at the same time: first come", (1, 5, 1), (2, 5, 9), false),
            ("a node that was cut off before it", (2, 6, 0), (1, 5, 9), false),
            ("a node that registered much before", (2, 90, 0), (1, 5, 9), false),
        ];
        for (name, known, comes, kept) in table {
            let [known, comes] =
                [known, comes].map(|(node, epoch, count)| tunnel(node, epoch, count));
            let mut tunnels = Tunnels::default();
            assert_eq!(tunnels.up(&known), Reply::Done, "{name}");
            let expected = if kept { Reply::Done } else { Reply::Nothing };
            assert_eq!(tunnels.up(&comes), expected, "{name}");
            let now = tunnels.get(&Tenant::default(), 23001).unwrap();
            assert_eq!(**now, if kept { comes } else { known }, "{name}");
        }
    }

    /// Node 1 loses the address while its registration waits for a quorum; the client goes to
    /// node 2; then the words of node 1 arrive, in any number and order.
    #[test]
    fn what_a_node_without_the_address_says_late_changes_nothing() {
        let mut tunnels = Tunnels::default();
        tunnels.up(&tunnel(1, 1, 0));
        let seen_by_both = tunnels.epoch();
        let late: Vec<_> = (1..4).map(|count| tunnel(1, seen_by_both + 1, count)).collect();
        let newer = tunnel(2, tunnels.epoch() + 1, 0);
        assert_eq!(tunnels.up(&newer), Reply::Done);
        for late in &late {
            assert_eq!(tunnels.up(late), Reply::Nothing);
            assert!(!tunnels.down(&late.tenant, late.port, late.node, late.stamp));
        }
        assert_eq!(**tunnels.get(&Tenant::default(), 23001).unwrap(), newer);
        // Once it has seen that and the client has come back to it, it is heard.
        assert_eq!(tunnels.up(&tunnel(1, tunnels.epoch() + 1, 4)), Reply::Done);
    }
}
