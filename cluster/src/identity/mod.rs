//! Who is who on the peer port.
//!
//! A node is its certificate: issued by the cluster's own authority, naming
//! `node-<id>.<cluster>.trigon.internal` and nothing else. [`Authority`] makes certificates,
//! [`Identity`] proves one and checks the peer's.

mod authority;
mod tls;

pub use authority::{Authority, AuthorityError};
pub use tls::{ALPN, Identity, IdentityError};

use crate::record::NodeId;

/// The DNS name that stands for a node in its certificate.
pub fn node_name(node_id: NodeId, cluster_name: &str) -> String {
    format!("node-{node_id}.{cluster_name}.trigon.internal")
}

/// The node a DNS name stands for, if it is one of this cluster's and spelt the one right way.
pub(crate) fn named_node(name: &str, cluster_name: &str) -> Option<NodeId> {
    let id: NodeId = name.strip_prefix("node-")?.split('.').next()?.parse().ok()?;
    (node_name(id, cluster_name) == name).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_name_of_this_cluster_is_a_node() {
        let table = [
            ("node-7.alpha.trigon.internal", Some(7)),
            ("node-07.alpha.trigon.internal", None),
            ("node-+7.alpha.trigon.internal", None),
            ("node-7.beta.trigon.internal", None),
            ("node-7.alpha.trigon.internal.example", None),
            ("node-.alpha.trigon.internal", None),
            ("*.alpha.trigon.internal", None),
            ("node-18446744073709551616.alpha.trigon.internal", None),
            ("", None),
        ];
        for (name, expected) in table {
            assert_eq!(named_node(name, "alpha"), expected, "{name}");
        }
    }
}
