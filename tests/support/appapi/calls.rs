//! The requests themselves, with the header sets AppAPI was seen to send.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Answer, App, AppApi, Failure};
use crate::support::http;

/// AppAPI sets no limit for most calls; a test must end.
const PATIENCE: Duration = Duration::from_secs(100);
const PREFIX: &str = "/exapps/app_api";
const JSON: (&str, &str) = ("content-type", "application/json");

impl AppApi {
    /// A call of the Docker API, passed through to the engine.
    pub(crate) async fn docker(&self, method: &str, path: &str) -> Result<Answer, Failure> {
        self.docker_within(method, path, PATIENCE).await
    }

    pub(super) async fn docker_within(
        &self,
        method: &str,
        path: &str,
        within: Duration,
    ) -> Result<Answer, Failure> {
        let path = format!("{PREFIX}/{}{path}", self.dialect.docker);
        let headers = self.docker_headers();
        self.send(method, &path, &borrowed(&headers), String::new(), within).await
    }

    /// `images/create`, which goes through another HTTP client of Nextcloud's.
    pub(crate) async fn pull_one(&self, image: &str) -> Result<Answer, Failure> {
        let image = image.replace(':', "%3A").replace('/', "%2F");
        let docker = self.dialect.docker;
        let path = format!("{PREFIX}/{docker}/images/create?fromImage={image}");
        let headers = self.docker_headers();
        let mut headers = borrowed(&headers);
        headers.extend([("content-length", "0"), ("connection", "close")]);
        self.send("POST", &path, &headers, String::new(), PATIENCE).await
    }

    /// `POST docker/exapp/{action}`.
    pub(crate) async fn exapp(&self, action: &str, body: Value) -> Result<Answer, Failure> {
        self.exapp_within(action, body, PATIENCE).await
    }

    pub(super) async fn exapp_within(
        &self,
        action: &str,
        body: Value,
        within: Duration,
    ) -> Result<Answer, Failure> {
        self.exapp_raw(action, body.to_string(), within).await
    }

    /// The same with any body.
    pub(crate) async fn exapp_raw(
        &self,
        action: &str,
        body: String,
        within: Duration,
    ) -> Result<Answer, Failure> {
        let headers = self.docker_headers();
        let mut headers = borrowed(&headers);
        headers.push(JSON);
        self.send("POST", &format!("{PREFIX}/docker/exapp/{action}"), &headers, body, within).await
    }

    /// Calls that concern no engine: only the key.
    pub(crate) async fn plain(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, Failure> {
        let mut headers =
            vec![("harp-shared-key", self.daemon.key), ("user-agent", "GuzzleHttp/7")];
        if body.is_some() {
            headers.push(JSON);
        }
        let body = body.map_or_else(String::new, |body| body.to_string());
        self.send(method, &format!("{PREFIX}{path}"), &headers, body, PATIENCE).await
    }

    /// A call to the ExApp itself, signed for no user.
    pub(crate) async fn signed(
        &self,
        app: &App,
        method: &str,
        target: &str,
    ) -> Result<Answer, Failure> {
        let signature = STANDARD.encode(format!(":{}", app.secret));
        let port = app.port.to_string();
        let mut headers = vec![
            ("aa-version", self.dialect.version),
            ("ex-app-id", &app.id),
            ("ex-app-version", &app.version),
            ("authorization-app-api", &signature),
            ("aa-request-id", "CLI"),
            ("harp-shared-key", self.daemon.key),
            ("ex-app-port", &port),
            ("ex-app-host", "127.0.0.1"),
            ("user-agent", "Nextcloud Server Crawler"),
            ("accept-encoding", "gzip"),
        ];
        if target == "/heartbeat" {
            headers.extend([("accept", "application/json"), JSON]);
        } else {
            headers.push(("accept-language", "en"));
        }
        if method != "GET" {
            headers.push(("content-length", "0"));
        }
        let within = Duration::from_secs(if target.starts_with("/enabled") { 60 } else { 30 });
        let path = format!("/exapps/{}{target}", app.id);
        self.send(method, &path, &headers, String::new(), within).await
    }

    fn docker_headers(&self) -> Vec<(&'static str, String)> {
        let key = self.daemon.key;
        let basic = STANDARD.encode(format!("app_api_haproxy_user:{key}"));
        vec![
            ("harp-shared-key", key.to_owned()),
            ("docker-engine-port", self.daemon.engine.to_string()),
            ("user-agent", "GuzzleHttp/7".to_owned()),
            ("authorization", format!("Basic {basic}")),
        ]
    }

    /// One request on a connection of its own.
    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
        within: Duration,
    ) -> Result<Answer, Failure> {
        let request = http::request(method, path, headers, body);
        let asked = format!("{method} {path}");
        let failed = |found: String| Failure {
            step: None,
            asked: asked.clone(),
            wanted: "an answer".to_owned(),
            found,
        };
        match tokio::time::timeout(within, http::send(self.daemon.server, request)).await {
            Ok(Some(answer)) => {
                let (head, body) = answer.into_parts();
                Ok(Answer { asked, status: head.status, body })
            }
            Ok(None) => Err(failed("a connection refused or closed without one".to_owned())),
            Err(_late) => Err(failed(format!("none within {within:?}"))),
        }
    }
}

fn borrowed<'a>(headers: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    headers.iter().map(|(name, value)| (*name, value.as_str())).collect()
}
