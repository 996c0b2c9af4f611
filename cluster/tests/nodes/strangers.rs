//! Who is not let in on the peer port, and what it costs.

use std::sync::Arc;

use cluster::identity::{Authority, link_files};
use cluster::{Handle, Node, Role, StartError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::support::{PATIENCE, Site, exapp, free_address, until};

async fn refused_more_than(handle: &Handle, count: u64) {
    until(handle, "refusal", |status| status.refused_peers > count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_cluster_is_refused_on_both_sides() {
    let (site, other) = (Site::one(), Site::new(&[Role::Node, Role::Node]));
    let (one, first) = site.start(1).await;
    until(&first, "leader", |status| status.quorum).await;
    // Node 1 of another cluster takes node 1 of this one for its node 2.
    for file in ["node.json", "founding.json"] {
        let path = other.state_dir(1).join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        let moved = text.replace(&other.address(2).to_string(), &site.address(1).to_string());
        std::fs::write(&path, moved).unwrap();
    }
    let (intruder, seen) = other.start(1).await;
    until(&seen, "a learner", |status| status.learners.len() == 1).await;
    refused_more_than(&first, 1).await;
    assert_eq!(seen.status().learners[0].reachable, Some(false));
    assert_eq!(first.members().len(), 1);
    first.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    intruder.shutdown().await;
    one.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_number_cannot_be_used() {
    let site = Site::new(&[Role::Node, Role::Node]);
    let [from, to] = [1, 2].map(|id| link_files(&site.state_dir(id)).certificate);
    std::fs::copy(from, to).unwrap();
    let refused = Node::start(site.config(2)).await.err().unwrap().to_string();
    assert!(refused.contains("must name node-2."), "{refused}");

    let passport = cluster::Passport::load(&site.state_dir(1)).unwrap().unwrap();
    let stranger = Authority::generate(&passport.group.cluster.to_string()).unwrap();
    let (certificate, key) = stranger.issue(1).unwrap();
    let file = link_files(&site.state_dir(1)).certificate;
    std::fs::write(file, format!("{certificate}{key}")).unwrap();
    let refused = Node::start(site.config(1)).await.err().unwrap();
    assert!(matches!(refused, StartError::Identity(_)), "{refused}");
}

/// Writes and closes; returns when the other end has closed too.
async fn write_and_wait(site: &Site, bytes: &[u8]) {
    let mut stream = TcpStream::connect(site.address(1)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the connection is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_counted_and_the_cluster_goes_on() {
    let site = Site::three();
    let nodes = site.start_all().await;
    let (_, first) = &nodes[0];
    let before = first.status().refused_peers;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0x16, 3, 1, 0xff, 0xff]] {
        write_and_wait(&site, garbage).await;
    }
    refused_more_than(first, before + 2).await;

    // Slowly, and silently: both are cut off in the time a handshake may take.
    let mut slow = TcpStream::connect(site.address(1)).await.unwrap();
    slow.write_all(&[0x16, 3, 1]).await.unwrap();
    let mut silent = TcpStream::connect(site.address(1)).await.unwrap();
    for stream in [&mut slow, &mut silent] {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "the connection is closed");
    }
    refused_more_than(first, before + 4).await;
    first.propose(exapp("a", "1"), PATIENCE).await.unwrap();
    for (node, _) in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_may_do_nothing_but_ask_to_join() {
    let site = Site::one();
    let (node, handle) = site.start(1).await;
    until(&handle, "leader", |status| status.quorum).await;
    let passport = cluster::Passport::load(&site.state_dir(1)).unwrap().unwrap();
    let authority = std::fs::read(link_files(&site.state_dir(1)).ca).unwrap();
    let config = crate::support::anonymous(&authority);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let version = [3];
    let frames: [(&str, Vec<u8>); 4] = [
        ("half a frame", [&version[..], &[0, 0, 0, 9, 1]].concat()),
        ("a frame larger than a request to join", [&version[..], &[0, 1, 0, 0]].concat()),
        ("a frame of another version", vec![99, 0, 0, 0, 1, 0]),
        ("a frame of noise", [&version[..], &[0, 0, 0, 4, 255, 255, 255, 255]].concat()),
    ];
    for (name, bytes) in frames {
        let before = handle.status().refused_peers;
        let tcp = TcpStream::connect(site.address(1)).await.unwrap();
        let of = format!("node-1.{}.trigon.internal", passport.group.cluster);
        let mut tls = connector.connect(ServerName::try_from(of).unwrap(), tcp).await.unwrap();
        tls.write_all(&bytes).await.unwrap();
        tls.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, tls.read_to_end(&mut rest)).await.expect(name);
        assert!(rest.is_empty(), "{name} was answered: {rest:?}");
        refused_more_than(&handle, before).await;
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_keep_the_others_out() {
    let site = Site::one();
    let (node, handle) = site.start(1).await;
    let mut silent = Vec::new();
    for _ in 0..80 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(site.address(1)).await.unwrap());
    }
    refused_more_than(&handle, 60).await;
    // A handshake from elsewhere, while those are open, gets its turn.
    let authority = std::fs::read(link_files(&site.state_dir(1)).ca).unwrap();
    let config = Arc::new(crate::support::anonymous(&authority));
    let passport = cluster::Passport::load(&site.state_dir(1)).unwrap().unwrap();
    let name = format!("node-1.{}.trigon.internal", passport.group.cluster);
    let tcp = TcpStream::connect(site.address(1)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let shaken = connector.connect(ServerName::try_from(name).unwrap(), tcp).await;
    assert!(shaken.is_ok(), "{shaken:?}");
    drop(silent);
    node.shutdown().await;
}

#[tokio::test]
async fn a_port_in_use_and_a_missing_file_are_told_by_key() {
    let mut site = Site::one();
    let taken = tokio::net::TcpListener::bind(free_address()).await.unwrap();
    site.members[0].address = Some(taken.local_addr().unwrap());
    let refused = Node::start(site.config(1)).await.err().unwrap().to_string();
    assert!(refused.starts_with("cluster.listen: "), "{refused}");

    std::fs::remove_file(link_files(&site.state_dir(1)).ca).unwrap();
    let refused = Node::start(site.config(1)).await.err().unwrap().to_string();
    assert!(refused.contains("link/authority.pem"), "{refused}");
}
