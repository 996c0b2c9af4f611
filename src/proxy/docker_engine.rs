//! Calls that reach a Docker engine as AppAPI made them (contract 4). Which ones may is decided in
//! `access::docker_engine`; here they are carried.
//!
//! The engine sees neither the shared key nor anything else that is for Trigon (weakness W3), and
//! is asked in a version of its API that it speaks.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cluster::record::Tenant;
use http::header::{ACCEPT, ACCEPT_ENCODING, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use hyper::body::{Body as _, Incoming};

use super::answer;
use super::forward::Forward;
use crate::access::EngineCall;
use crate::docker::version::{ApiVersion, Supported};
use crate::docker::{Engines, Error, containers};
use crate::http::body::Body;
use crate::http::server::Slot;

/// All an engine is told about the caller. The last is the caller's account at the registry an
/// image is pulled from.
const PASSED_ON: [HeaderName; 4] =
    [ACCEPT, ACCEPT_ENCODING, USER_AGENT, HeaderName::from_static("x-registry-auth")];

/// Carries calls to engines.
pub struct Passthrough {
    tenant: Tenant,
    engines: Engines,
    forward: Forward,
    /// What each engine speaks, as long as it answers.
    versions: Mutex<HashMap<u16, Supported>>,
}

impl Passthrough {
    /// The calls of one tenant, over these engines; `forward` has to reach their targets.
    pub fn new(tenant: Tenant, engines: Engines, forward: Forward) -> Self {
        Self { tenant, engines, forward, versions: Mutex::default() }
    }

    /// Answers one call for the engine of `port`; `path` is without the `/exapps/app_api` prefix.
    pub async fn handle(
        &self,
        request: Request<Incoming>,
        port: u16,
        path: &str,
        slot: Slot,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let has_body = !body.is_end_stream();
        let Some(call) = EngineCall::read(&head.method, path, head.uri.query(), has_body) else {
            tracing::info!(port, method = %head.method, path, "call to a Docker engine refused");
            return answer::forbidden();
        };
        let passed = self.pass(call, port, &head, body, slot).await;
        passed.unwrap_or_else(|failed| failed)
    }

    /// The engine's answer, or ours in its place.
    async fn pass(
        &self,
        call: EngineCall<'_>,
        port: u16,
        head: &Parts,
        body: Incoming,
        slot: Slot,
    ) -> Result<Response<Body>, Response<Body>> {
        let failed = |error: Error| {
            tracing::warn!(port, %error, "a call did not reach its Docker engine");
            answer::engine_failed(&error)
        };
        let target = self.engines.target(port).map_err(failed)?;
        if let Some(container) = call.container {
            let engine = self.engines.get(port).map_err(failed)?;
            let foreign =
                containers::is_foreign_container(&engine, self.tenant.as_str(), container);
            if foreign.await.map_err(failed)? {
                return Err(answer::forbidden());
            }
        }
        let version = match call.version.and_then(ApiVersion::parse) {
            Some(wanted) => Some(self.nearest(port, wanted).await.map_err(failed)?),
            None => None,
        };
        let uri = uri(version, call.path, head.uri.query()).ok_or_else(answer::bad_request)?;
        let mut request = Request::new(());
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers(&head.headers);
        let sent = self.forward.send(&target, request.into_parts().0, body, slot).await;
        match sent {
            Ok(response) => {
                // Perhaps it has been replaced by one that speaks other versions.
                if version.is_some() && response.status() == StatusCode::BAD_REQUEST {
                    self.versions().remove(&port);
                }
                Ok(response)
            }
            Err(error) => {
                self.versions().remove(&port);
                tracing::warn!(port, %error, "a call did not reach its Docker engine");
                Err(answer::engine_unreached(port, &error))
            }
        }
    }

    /// The version to ask in when `wanted` is asked for.
    async fn nearest(&self, port: u16, wanted: ApiVersion) -> Result<ApiVersion, Error> {
        let known = self.versions().get(&port).copied();
        let supported = match known {
            Some(supported) => Some(supported),
            None => {
                let told = self.engines.get(port)?.versions().await?;
                if let Some(supported) = told {
                    self.versions().insert(port, supported);
                }
                told
            }
        };
        Ok(supported.map_or(wanted, |supported| supported.nearest(wanted)))
    }

    fn versions(&self) -> MutexGuard<'_, HashMap<u16, Supported>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn uri(version: Option<ApiVersion>, path: &str, query: Option<&str>) -> Option<Uri> {
    let mut target = version.map_or_else(String::new, |version| format!("/v{version}"));
    target.push_str(path);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    PathAndQuery::try_from(target).ok().map(Uri::from)
}

fn headers(caller: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in &PASSED_ON {
        if let Some(value) = caller.get(name) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(HOST, HeaderValue::from_static("docker"));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w03_an_engine_never_sees_the_shared_key() {
        let mut caller = HeaderMap::new();
        for (name, value) in [
            ("harp-shared-key", "key"),
            ("authorization", "Basic eDprZXk="),
            ("docker-engine-port", "24000"),
            ("ex-app-id", "demo"),
            ("authorization-app-api", "x"),
            ("cookie", "c=1"),
            ("connection", "upgrade"),
            ("upgrade", "tcp"),
            ("host", "cloud.example"),
            ("user-agent", "GuzzleHttp/7"),
            ("x-registry-auth", "e30="),
        ] {
            caller.insert(name, HeaderValue::from_static(value));
        }
        let passed = headers(&caller);
        let mut names: Vec<_> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["host", "user-agent", "x-registry-auth"]);
        assert_eq!(passed[HOST], "docker");
    }

    #[test]
    fn only_the_version_in_the_path_is_changed() {
        let version = ApiVersion::parse("1.41");
        let target =
            |version, query| uri(version, "/images/a%2Fb/json", query).unwrap().to_string();
        assert_eq!(target(version, None), "/v1.41/images/a%2Fb/json");
        assert_eq!(target(None, Some("a=%20")), "/images/a%2Fb/json?a=%20");
    }
}
