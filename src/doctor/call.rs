//! The doctor's hands: connections, TLS and one HTTP request, each with a deadline.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_parser::pem::Pem;

use super::judge::{Answer, CallError};
use crate::net::Stream;

/// Longest for one step. AppAPI gives up after three seconds.
const STEP: Duration = Duration::from_secs(5);

/// Most bytes of an answer that are looked at.
const MAX_ANSWER: usize = 256 * 1024;

/// How a listener of this machine is reached: by loopback when it listens everywhere.
pub(super) fn reach(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// A TCP connection.
pub(super) async fn connect(to: SocketAddr) -> Result<TcpStream, CallError> {
    let stream =
        timeout(STEP, TcpStream::connect(to)).await.map_err(|_elapsed| CallError::Silent)?;
    stream.map_err(CallError::Connect)
}

/// TLS over it, verified as the node verifies Nextcloud: by the machine's authorities.
pub(super) async fn secure(stream: TcpStream, name: &str) -> Result<Stream, CallError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|error| CallError::Tls(io::Error::other(error)))?
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned())
        .map_err(|error| CallError::Tls(io::Error::other(error)))?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let tls = timeout(STEP, tls).await.map_err(|_elapsed| CallError::Silent)?;
    tls.map(Stream::new).map_err(CallError::Tls)
}

/// One GET. No redirect is followed.
pub(super) async fn get(
    stream: Stream,
    host: &str,
    path: &str,
    headers: &[(HeaderName, &[u8])],
) -> Result<Answer, CallError> {
    timeout(STEP, exchange(stream, host, path, headers))
        .await
        .map_err(|_elapsed| CallError::Silent)?
}

async fn exchange(
    stream: Stream,
    host: &str,
    path: &str,
    headers: &[(HeaderName, &[u8])],
) -> Result<Answer, CallError> {
    let broken = |error: &dyn std::fmt::Display| CallError::Broken(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let driver = tokio::spawn(connection);
    let mut request = Request::get(path)
        .header(http::header::HOST, host)
        .header(http::header::ACCEPT, "application/json")
        .header(http::header::USER_AGENT, concat!("Trigon-doctor/", env!("CARGO_PKG_VERSION")));
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| broken(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| broken(&error))?;
    driver.abort();
    Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes().into() })
}

/// Whole days until the first certificate of a PEM file ends; negative when it has.
pub(super) fn days_left(path: &Path) -> Result<i64, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    // A key may stand before it.
    let pem = Pem::iter_from_buffer(&text).flatten().find(|pem| pem.label == "CERTIFICATE");
    let pem = pem.ok_or_else(|| "no certificate in it".to_owned())?;
    let certificate = pem.parse_x509().map_err(|_bad| "a damaged certificate".to_owned())?;
    let ends = certificate.validity().not_after.timestamp();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    Ok((ends - now).div_euclid(86_400))
}
