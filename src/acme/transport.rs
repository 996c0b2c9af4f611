//! The authority's calls over our own HTTP client and TLS, so that nothing else of either is
//! linked.

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Error;
use crate::http::body::Body;
use crate::http::client::{self, Client};
use crate::net::{BoxFuture, Dial, Stream, Target, TcpDial};

/// Longest a call may take in all. Shorter than a node's name stands in the record.
const TOTAL: Duration = Duration::from_secs(10);

const CONNECT: Duration = Duration::from_secs(5);

/// Most bytes of an answer.
const MAX_ANSWER: usize = 1024 * 1024;

/// Sends requests over HTTPS. Cheap to clone.
#[derive(Clone)]
pub(super) struct Transport(Client);

type Refused = Box<dyn StdError + Send + Sync>;

impl Transport {
    /// Trusts the machine's authorities, or those in the file.
    pub(super) fn new(authorities: Option<&Path>) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?;
        let builder = match authorities {
            Some(file) => builder.with_root_certificates(roots(file)?),
            None => builder.with_platform_verifier().map_err(Error::Tls)?,
        };
        let tcp = TcpDial { within: CONNECT, refuse_loopback: false };
        let connector = TlsConnector::from(Arc::new(builder.with_no_client_auth()));
        let limits = client::Config {
            connect: CONNECT,
            response: TOTAL,
            max_idle: 1,
            ..client::Config::default()
        };
        Ok(Self(Client::new(Arc::new(TlsDial { tcp, connector }), limits)))
    }

    async fn exchange(
        self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, Refused> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let (target, host) = place(&head.uri).ok_or("not an https URL")?;
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = Uri::from_str(path)?;
        head.headers.insert(HOST, host);
        let request = Request::from_parts(head, Body::full(body));
        let answer = self.0.send(&target, request).await.map_err(Refused::from)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
        Ok(BytesResponse::from(Response::from_parts(head, Full::new(body))))
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            let answer = timeout(TOTAL, this.exchange(request)).await;
            let answer = answer.unwrap_or_else(|late| Err(late.into()));
            answer.map_err(|error| instant_acme::Error::Other(said(&*error).into()))
        })
    }
}

/// The error with everything that led to it: whoever shows it asks for no sources.
fn said(error: &(dyn StdError + 'static)) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// Where an https URL leads, and the value of `Host` for it.
pub(super) fn place(uri: &Uri) -> Option<(Target, HeaderValue)> {
    let authority = uri.authority()?;
    if uri.scheme_str() != Some("https") || authority.as_str().contains('@') {
        return None;
    }
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let target = Target::Tcp { host: name.into(), port: authority.port_u16().unwrap_or(443) };
    Some((target, HeaderValue::from_str(authority.as_str()).ok()?))
}

/// The authorities of a PEM file.
pub(super) fn roots(file: &Path) -> Result<RootCertStore, Error> {
    let wrong = |text: String| Error::Authorities(format!("{}: {text}", file.display()));
    let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for one in CertificateDer::pem_slice_iter(&text) {
        let one = one.map_err(|error| wrong(format!("is not PEM: {error}")))?;
        roots.add(one).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate; expected PEM".to_owned()));
    }
    Ok(roots)
}

/// TLS over TCP with the server each target names.
struct TlsDial {
    tcp: TcpDial,
    connector: TlsConnector,
}

impl Dial for TlsDial {
    fn dial<'a>(&'a self, to: &'a Target) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let Target::Tcp { host, .. } = to else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
            let tcp = self.tcp.dial(to).await?;
            Ok(Stream::new(self.connector.connect(name, tcp).await?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_urls_lead_somewhere() {
        for (url, expected) in [
            ("https://ca.example/dir", Some("ca.example:443")),
            ("https://ca.example:14000/dir?x", Some("ca.example:14000")),
            ("https://[::1]:14000/dir", Some("::1:14000")),
            ("http://ca.example/dir", None),
            ("https://u:p@ca.example/dir", None),
            ("/dir", None),
        ] {
            let found = place(&Uri::from_str(url).unwrap()).map(|(target, _)| target.to_string());
            assert_eq!(found.as_deref(), expected, "{url}");
        }
    }
}
