//! Who is who on the peer port.
//!
//! A node is its certificate: issued by the cluster's own authority, naming
//! `node-<id>.<cluster>.trigon.internal` and nothing else. [`Authority`] makes certificates,
//! [`Identity`] proves one and checks the peer's.

mod authority;
mod pinned;
mod tls;

pub(crate) use authority::LEAF_LIFE;
pub use authority::{Authority, AuthorityError, request};
pub(crate) use pinned::{Pinned, has_key, key_hash};
pub use tls::{ALPN, Identity, IdentityError};

use std::io;
use std::path::Path;

use x509_parser::pem::parse_x509_pem;

use crate::config::TlsFiles;
use crate::disk::Disk;
use crate::record::NodeId;
use crate::seal::Secret;

/// Where the certificates of the peer port lie below a state directory. Certificate and key share
/// a file, so that no power cut can part them.
pub fn link_files(state_dir: &Path) -> TlsFiles {
    let dir = state_dir.join("link");
    let node = dir.join("node.pem");
    TlsFiles { ca: dir.join("authority.pem"), certificate: node.clone(), key: node }
}

/// Largest file of certificates that is read, in bytes.
pub(crate) const MAX_PEM: u64 = 1 << 20;

/// Writes them: whom to trust, this node's certificate with that of its issuer, and its key.
pub(crate) fn store(
    disk: &Disk,
    state_dir: &Path,
    authorities: &str,
    certificate: &str,
    key: &Secret,
) -> io::Result<()> {
    let to = link_files(state_dir);
    disk.create_dir(&state_dir.join("link"))?;
    disk.store(&to.ca, authorities.as_bytes())?;
    store_own(disk, state_dir, certificate, key)
}

/// Writes this node's certificate and key again.
pub(crate) fn store_own(
    disk: &Disk,
    state_dir: &Path,
    certificate: &str,
    key: &Secret,
) -> io::Result<()> {
    let mut node = certificate.as_bytes().to_vec();
    node.extend_from_slice(key.expose());
    disk.store(&link_files(state_dir).certificate, &node)
}

/// The DNS name that stands for a node in its certificate.
pub fn node_name(node_id: NodeId, cluster_name: &str) -> String {
    format!("node-{node_id}.{cluster_name}.trigon.internal")
}

/// When the first certificate of a PEM text ends, seconds since the Unix epoch; none when there is
/// no certificate.
pub fn ends_at(pem: &[u8]) -> Option<u64> {
    let (_, pem) = parse_x509_pem(pem).ok()?;
    u64::try_from(pem.parse_x509().ok()?.validity().not_after.timestamp()).ok()
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
    fn the_end_of_a_certificate_is_read() {
        let authority = Authority::generate("alpha").unwrap();
        let (certificate, key) = authority.issue(7).unwrap();
        let [ca, node] =
            [authority.certificate_pem(), &certificate].map(|pem| ends_at(pem.as_bytes()));
        assert!(node.is_some() && node < ca, "{node:?} {ca:?}");
        assert_eq!(ends_at(key.as_bytes()), None);
        assert_eq!(ends_at(b""), None);
    }

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
