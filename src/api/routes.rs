//! Table of the control API: path and method to work, outcome to answer (contract 3).

use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::docker::{self, Docker};
use super::info::{HEARTBEAT, Info};
use super::storage::{self, Stored};
use super::{answer, kubernetes};
use crate::access::AppId;
use crate::access::docker_engine::is_engine_path;
use crate::exapps::Directory;
use crate::http::body::{Body, read_whole};

/// Most bytes of a request body. HaRP's 1 MiB breaks certificate installs with large CA bundles
/// (weakness W21).
pub const MAX_BODY: usize = 16 * 1024 * 1024;

/// The control API of one node.
pub struct Api {
    directory: Directory,
    docker: Docker,
    body_idle: Duration,
}

/// What a path stands for.
enum Resource<'p> {
    Heartbeat,
    Info,
    Storage(&'p str),
    Docker(docker::Call),
    Kubernetes(kubernetes::Call),
}

impl Api {
    /// Over these records and engines; callers may pause for `body_idle` while they send a body.
    pub fn new(directory: Directory, docker: Docker, body_idle: Duration) -> Self {
        Self { directory, docker, body_idle }
    }

    /// Answers one call; `path` is without the `/exapps/app_api` prefix.
    pub async fn handle(&self, path: &str, request: Request<Incoming>) -> Response<Body> {
        let Some(resource) = Resource::at(path) else {
            return unknown(path, request.headers());
        };
        let method = request.method();
        let read = matches!(*method, Method::GET | Method::HEAD);
        match resource {
            Resource::Heartbeat if read => answer::json_text(StatusCode::OK, HEARTBEAT),
            Resource::Info if read => {
                answer::json(StatusCode::OK, &Info::current(self.docker.has_engine()))
            }
            Resource::Heartbeat | Resource::Info => answer::not_allowed("GET,HEAD"),
            Resource::Storage(id) if *method == Method::POST => self.push(id, request).await,
            Resource::Storage(id) if *method == Method::DELETE => {
                stored(storage::delete(&self.directory, &AppId::from_display(id)).await)
            }
            Resource::Storage(_) => answer::not_allowed("DELETE,POST"),
            Resource::Docker(_) | Resource::Kubernetes(_) if *method != Method::POST => {
                answer::not_allowed("POST")
            }
            Resource::Docker(call) => match docker::engine_port(request.headers()) {
                Err(why) => answer::text(StatusCode::BAD_REQUEST, why),
                Ok(port) => match self.body(request).await {
                    Ok(body) => self.docker.handle(call, port, &body).await,
                    Err(unread) => unread,
                },
            },
            Resource::Kubernetes(call) => match self.body(request).await {
                Ok(body) => kubernetes::handle(call, &body),
                Err(unread) => unread,
            },
        }
    }

    async fn push(&self, id: &str, request: Request<Incoming>) -> Response<Body> {
        match self.body(request).await {
            Ok(body) => {
                stored(storage::post(&self.directory, &AppId::from_display(id), &body).await)
            }
            Err(unread) => unread,
        }
    }

    async fn body(&self, request: Request<Incoming>) -> Result<bytes::Bytes, Response<Body>> {
        let read = read_whole(request.into_body(), MAX_BODY, self.body_idle).await;
        read.map_err(|error| answer::unread(&error))
    }
}

impl<'p> Resource<'p> {
    /// Exact: HaRP tolerates no trailing slash either.
    fn at(path: &'p str) -> Option<Self> {
        match path {
            "/heartbeat" => return Some(Self::Heartbeat),
            "/info" => return Some(Self::Info),
            _ => {}
        }
        if let Some(name) = path.strip_prefix("/docker/exapp/") {
            return docker::Call::named(name).map(Self::Docker);
        }
        if let Some(name) = path.strip_prefix("/k8s/exapp/") {
            return kubernetes::Call::named(name).map(Self::Kubernetes);
        }
        let id = path.strip_prefix("/exapp_storage/")?;
        (!id.is_empty() && !id.contains('/')).then_some(Self::Storage(id))
    }
}

/// A call for a Docker engine that does not say which would be a riddle as a 404: old daemon
/// entries of AppAPI and hand-made requests lack the header (HaRP issue 77).
fn unknown(path: &str, headers: &HeaderMap) -> Response<Body> {
    match docker::engine_port(headers) {
        Err(why) if is_engine_path(path) => answer::text(StatusCode::BAD_REQUEST, why),
        _ => answer::unknown_path(),
    }
}

fn stored(stored: Stored) -> Response<Body> {
    match stored {
        Stored::Done => answer::nothing(),
        Stored::Here => answer::unconfirmed(),
        Stored::Unknown => answer::text(StatusCode::NOT_FOUND, "404: no such record"),
        Stored::Malformed(error) => answer::text(StatusCode::BAD_REQUEST, format!("400: {error}")),
    }
}
