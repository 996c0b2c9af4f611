//! The listener with TLS.

use std::path::Path;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::http::tls::Files;

/// Writes a new certificate with its key; returns what a client has to trust.
fn renew(path: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["cloud.example".to_owned()]).unwrap();
    std::fs::write(path, made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
    CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()
}

struct Guarded {
    bed: Bed,
    files: Files,
    trust: CertificateDer<'static>,
    address: SocketAddr,
    certificate: Certificate,
    _dir: tempfile::TempDir,
}

impl Guarded {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = Files { certificate: dir.path().join("cert.pem"), key: None };
        let trust = renew(&files.certificate);
        let tls = Tls { listen: SocketAddr::from(([127, 0, 0, 1], 0)), files: files.clone() };
        let bed = Bed::with(|config| {
            config.tls = Some(tls);
            config.timeouts.client = Duration::from_millis(500);
        })
        .await;
        let (address, certificate) = bed.tls.clone().unwrap();
        Self { bed, files, trust, address, certificate, _dir: dir }
    }

    async fn connect(
        &self,
        alpn: &[&str],
        version: &'static SupportedProtocolVersion,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.trust.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("cloud.example").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

#[tokio::test]
async fn both_versions_of_tls_and_of_http_are_spoken() {
    let guarded = Guarded::start().await;
    for version in [&version::TLS12, &version::TLS13] {
        let path = "https://cloud.example/exapps/demo/public";
        let stream = guarded.connect(&["h2", "http/1.1"], version).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let seen = json_of(sender.send_request(request("GET", path, &[])).await.unwrap()).await;
        assert_eq!(seen["headers"]["host"], "cloud.example");

        for alpn in [&["http/1.1"][..], &[]] {
            let stream = guarded.connect(alpn, version).await.unwrap();
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let request = request("GET", "/exapps/demo/public", &[("host", "cloud.example")]);
            let seen = json_of(sender.send_request(request).await.unwrap()).await;
            assert_eq!(seen["method"], "GET");
        }
    }
    assert!(guarded.connect(&["h3"], &version::TLS13).await.is_err(), "nothing to agree on");
}

#[tokio::test]
async fn a_websocket_goes_through_tls() {
    let guarded = Guarded::start().await;
    let stream = guarded.connect(&["http/1.1"], &version::TLS13).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let headers = [
        ("host", "cloud.example"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let upgrade = request("GET", "/exapps/demo/ws", &headers);
    let mut response = sender.send_request(upgrade).await.unwrap();
    let upgraded = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
    let message = Message::binary(vec![7; 70_000]);
    socket.send(message.clone()).await.unwrap();
    assert_eq!(timeout(LONG, socket.next()).await.unwrap().unwrap().unwrap(), message);
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_breaks_no_old_one() {
    let mut guarded = Guarded::start().await;
    let stream = guarded.connect(&["http/1.1"], &version::TLS13).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let path = "/exapps/demo/sse";
    let open = sender.send_request(request("GET", path, &[("host", "h")])).await.unwrap();

    let old = std::mem::replace(&mut guarded.trust, renew(&guarded.files.certificate));
    guarded.certificate.replace(guarded.files.clone()).unwrap();
    assert!(guarded.connect(&[], &version::TLS13).await.is_ok());
    guarded.trust = old;
    assert!(guarded.connect(&[], &version::TLS13).await.is_err(), "no longer shown");

    guarded.bed.exapp.go_on.notify_one();
    let events = open.into_body().collect().await.unwrap().to_bytes();
    assert!(events.ends_with(b"data: two\n\n"));
}

#[tokio::test]
async fn a_handshake_that_is_not_finished_is_cut() {
    let guarded = Guarded::start().await;
    assert_eq!(raw(guarded.address, b"\x16\x03\x01").await, "");
    // Nor is plain HTTP a handshake.
    let answer = raw(guarded.address, b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(!answer.contains("HTTP"), "{answer}");
    assert!(guarded.connect(&[], &version::TLS13).await.is_ok());
}

#[tokio::test]
async fn both_listeners_share_one_limit() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files { certificate: dir.path().join("cert.pem"), key: None };
    renew(&files.certificate);
    let tls = Tls { listen: SocketAddr::from(([127, 0, 0, 1], 0)), files };
    let bed = Bed::with(|config| {
        config.max_connections = 2;
        config.tls = Some(tls);
    })
    .await;
    // Each listener waits for a connection with a place in hand.
    let busy = bed.get("/exapps/demo/sse", &[]).await;
    let second = bed.get("/exapps/demo/public", &[]);
    assert!(timeout(Duration::from_millis(100), second).await.is_err());
    drop(busy);
    assert_eq!(bed.status("/exapps/demo/public", &[]).await, 200);
}
