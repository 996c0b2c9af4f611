//! What comes to the cluster port and does not belong there: it is closed and counted, costs
//! nobody anything, and is told in the log at a rate a stranger cannot choose.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::forming::{self, Papers};
use crate::machine::Machine;
use crate::place::{Place, Setup, Side};
use crate::support::eventually;

/// The name of the counter of refused connections.
const REFUSED: &str = "trigon_cluster_peers_refused_total";

/// Longest a node may keep a stranger: its own limit is five seconds.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn bytes_of_strangers_are_refused_and_counted() {
    let mut place = Place::start(Setup::default()).await;
    let before = place.a.counter(REFUSED).await;
    let hello = [0x16, 3, 1, 0x40, 0];
    let inputs: [&[u8]; 5] =
        [b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0xff, 0xff], &hello, &[0xff; 9000], &[0; 70_000]];
    for bytes in inputs {
        let mut stream = connect(&place.client, &place.a);
        let _ = stream.write_all(bytes);
        // One that waits for more gives up by itself.
        is_closed(&mut stream);
    }
    is_counted(&place.a, before, inputs.len()).await;
    place.confirms(Side::B, "strangers").await;
}

#[tokio::test]
async fn many_who_say_nothing_are_closed_and_members_do_not_notice() {
    let mut place = Place::start(Setup::default()).await;
    let before = place.a.counter(REFUSED).await;
    let mut idle: Vec<_> = (0..200).map(|_| connect(&place.client, &place.a)).collect();
    for stream in &mut idle {
        // A record that is announced and does not come.
        let _ = stream.write_all(&[0x16]);
    }
    place.confirms(Side::B, "strangers").await;
    place.confirms(Side::A, "strangers").await;
    for stream in &mut idle {
        is_closed(stream);
    }
    is_counted(&place.a, before, idle.len()).await;
    let told = place.a.log().matches("peer connection refused").count();
    assert!(told <= 3, "{told} lines for {} strangers", idle.len());
    place.users.are_served(place.since).await;
    assert!(
        place.users.failures(place.since).is_empty(),
        "{:?}",
        place.users.failures(place.since)
    );
}

#[tokio::test]
async fn frames_of_a_member_that_are_none_end_its_connection_only() {
    let mut place = Place::start(Setup::default()).await;
    let papers = forming::papers(place.witness.as_ref().unwrap(), &place.a);
    let before = place.a.counter(REFUSED).await;
    // Whatever version this build speaks: every header is of another one or far too long.
    let oversized = (0..8).map(|version| vec![version, 0xff, 0xff, 0xff, 0xff]);
    // A frame of the right length that is no message, whatever the version.
    let nonsense = (0..8).map(|version| [&[version, 0, 0, 0, 9][..], &[0xff; 9]].concat());
    let frames: Vec<_> = oversized.chain(nonsense).collect();
    for frame in &frames {
        let mut stream = connect_as(&papers, &place.client, &place.a);
        let _ = stream.write_all(frame).and_then(|()| stream.flush());
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    is_counted(&place.a, before, frames.len()).await;
    // Half a frame, and then nothing: nobody is waited for but its sender.
    let mut half = connect_as(&papers, &place.client, &place.a);
    let _ = half.write_all(&[3, 0, 0]).and_then(|()| half.flush());
    place.confirms(Side::B, "frames").await;
    let _ = half.sock.shutdown(Shutdown::Write);
    let mut rest = Vec::new();
    let _ = half.read_to_end(&mut rest);
    // The member itself is as welcome as before.
    place.witness().end(rustix::process::Signal::KILL);
    place.witness().start();
    place.b.end(rustix::process::Signal::KILL);
    place.confirms(Side::A, "frames").await;
}

fn connect(from: &trigon::lab::namespaces::Host, to: &Machine) -> TcpStream {
    let address = forming::control(to.address());
    let stream = from.within(move || TcpStream::connect(address)).unwrap().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Reads to the end, which has to come.
fn is_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "left connected");
    }
}

async fn is_counted(node: &Machine, before: u64, more: usize) {
    eventually("every refusal is counted", || async {
        (node.counter(REFUSED).await >= before + more as u64).then_some(())
    })
    .await;
}

/// A connection with the certificate of a member.
fn connect_as(
    papers: &Papers,
    from: &trigon::lab::namespaces::Host,
    to: &Machine,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&papers.authority).unwrap()).unwrap();
    let own = CertificateDer::from_pem_file(&papers.certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(&papers.key).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own], key)
        .unwrap();
    let name = ServerName::try_from(papers.server_name.clone()).unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(session, connect(from, to))
}
