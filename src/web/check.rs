//! Asks one server how it is, over a connection of its own: what clients will need is that it
//! still accepts some.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT};
use http_body_util::{BodyExt, Limited};
use hyper::{Request, Uri};
use tokio::time::timeout;

use super::config::Check;
use super::status;
use crate::http::body::Body;
use crate::http::client::{self, Client};
use crate::net::{Dial, Target};

/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 64 * 1024;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("Trigon/", env!("CARGO_PKG_VERSION")));
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Checks the servers of one pool.
#[derive(Clone)]
pub(super) struct Checker {
    check: Check,
    within: Duration,
    dial: Arc<dyn Dial>,
    client: Client,
}

impl Checker {
    /// Call it within a runtime.
    pub(super) fn new(check: Check, within: Duration, dial: Arc<dyn Dial>) -> Self {
        let limits = client::Config {
            connect: within,
            response: within,
            request_body: within,
            max_idle: 0,
            ..client::Config::default()
        };
        Self { check, within, client: Client::new(Arc::clone(&dial), limits), dial }
    }

    /// Whether there is anything to ask.
    pub(super) fn is_off(&self) -> bool {
        self.check == Check::Off
    }

    /// A word about the server, or why it cannot be used.
    pub(super) async fn ask(&self, server: &Target) -> Result<String, String> {
        let asked = async {
            match &self.check {
                Check::Nextcloud { host } => {
                    let (status, body) = self.get(server, host, "/status.php").await?;
                    status::judge(status, host, &body)
                }
                Check::Path { host, path } => {
                    let (status, _body) = self.get(server, host, path).await?;
                    if status < 400 {
                        return Ok(String::new());
                    }
                    Err(format!("{path} answered {status}, expected less than 400"))
                }
                Check::Tcp => match self.dial.dial(server).await {
                    Ok(_closed) => Ok(String::new()),
                    Err(error) => Err(format!("no connection: {error}")),
                },
                Check::Off => Ok("not checked".to_owned()),
            }
        };
        let late = |_| Err(format!("the check did not end within {:?}", self.within));
        timeout(self.within, asked).await.unwrap_or_else(late)
    }

    async fn get(&self, server: &Target, host: &str, path: &str) -> Result<(u16, Vec<u8>), String> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = Uri::try_from(path).map_err(|error| format!("{path}: {error}"))?;
        let headers = request.headers_mut();
        let host = HeaderValue::from_str(host).map_err(|error| format!("{host}: {error}"))?;
        headers.insert(HOST, host);
        headers.insert(USER_AGENT, AGENT);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        // Or a server that insists on TLS would redirect.
        headers.insert(PROTO, HeaderValue::from_static("https"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let answer = self.client.send(server, request).await.map_err(|error| match error {
            client::Error::Connect(why) => format!("no connection: {why}"),
            client::Error::Broke(why) => format!("no proper HTTP: {why}"),
            other => other.to_string(),
        })?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?;
        Ok((status, body.to_bytes().to_vec()))
    }
}
