//! Who is not let in on the peer port.

use cluster::identity::{Authority, Identity};
use cluster::{Handle, Node, StartError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{CLUSTER, PATIENCE, Site, exapp, free_address, until, write_pem};

async fn refused_more_than(handle: &Handle, count: u64) {
    until(handle, "refusal", |status| status.refused_peers > count).await;
}

/// The peers of `site` as node 3 with a certificate of `authority` for `certified` sees them.
async fn intruder(site: &Site, authority: &Authority, certified: u64) -> Result<Node, StartError> {
    let mut config = site.config(3);
    let (certificate, key) = authority.issue(certified).unwrap();
    let dir = tempfile::tempdir_in(site.dir.path()).unwrap().keep();
    config.tls = Some(write_pem(&dir, authority.certificate_pem(), &certificate, &key, 3));
    config.state_dir = dir.join("state");
    Ok(Node::start(config).await?.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_is_refused_on_both_sides() {
    let site = Site::three();
    let (one, first) = site.start(1).await;
    let stranger = Authority::generate(CLUSTER).unwrap();
    let intruder = intruder(&site, &stranger, 3).await.unwrap();
    // Node 1 asks node 3 and refuses what it presents; node 3 asks node 1 and is refused.
    refused_more_than(&first, 0).await;
    assert!(!first.status().quorum);
    intruder.shutdown().await;
    one.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_id_cannot_be_used() {
    let site = Site::three();
    let refused = intruder(&site, &site.authority, 2).await.err().unwrap().to_string();
    assert!(refused.contains("cluster.certificate"), "{refused}");
    assert!(refused.contains("must name node-3.alpha.trigon.internal"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_a_member_is_refused() {
    let site = Site::three();
    let (one, first) = site.start(1).await;
    // Certified by the right authority, but no node's configuration names it.
    let mut other = Site::three();
    other.members.clone_from(&site.members);
    other.members[2].id = 9;
    let (certificate, key) = site.authority.issue(9).unwrap();
    let mut config = other.config(9);
    config.tls =
        Some(write_pem(other.dir.path(), site.authority.certificate_pem(), &certificate, &key, 9));
    let (nine, _) = Node::start(config).await.unwrap();
    refused_more_than(&first, 0).await;
    nine.shutdown().await;
    one.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_counted_and_the_cluster_goes_on() {
    let site = Site::three();
    let nodes = site.start_all().await;
    let (_, first) = &nodes[0];
    let before = first.status().refused_peers;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0x16, 3, 1, 0xff, 0xff]] {
        let mut stream = TcpStream::connect(site.members[0].address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "the connection is closed");
    }
    refused_more_than(first, before + 2).await;
    first.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    for (node, _) in nodes {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_port_in_use_and_a_missing_file_are_told_by_key() {
    let mut site = Site::three();
    let taken = tokio::net::TcpListener::bind(free_address()).await.unwrap();
    site.members[0].address = taken.local_addr().unwrap();
    let refused = Node::start(site.config(1)).await.err().unwrap().to_string();
    assert!(refused.starts_with("cluster.listen: "), "{refused}");

    let mut config = site.config(1);
    let files = config.tls.as_mut().unwrap();
    files.ca = "/nowhere/ca.pem".into();
    assert!(Identity::load(files, CLUSTER, 1).is_err());
    let refused = Node::start(config).await.err().unwrap().to_string();
    assert!(refused.starts_with("cluster.ca: /nowhere/ca.pem: "), "{refused}");
}
