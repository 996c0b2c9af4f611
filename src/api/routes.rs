//! Table of the control API: path and method to work, outcome to answer (contract 3).

use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::info::{HEARTBEAT, Info};
use super::storage::{self, Stored};
use crate::access::AppId;
use crate::exapps::Directory;
use crate::http::body::{Body, BodyError, read_whole};

/// Most bytes of a request body. HaRP's 1 MiB breaks certificate installs with large CA bundles
/// (weakness W21).
pub const MAX_BODY: usize = 16 * 1024 * 1024;

/// The control API of one node.
pub struct Api {
    directory: Directory,
    body_idle: Duration,
}

/// What a path stands for.
enum Resource<'p> {
    Heartbeat,
    Info,
    Storage(&'p str),
    /// Known to HaRP, not part of this build.
    NotBuilt,
}

impl Api {
    /// Over these records; callers may pause for `body_idle` while they send a body.
    pub fn new(directory: Directory, body_idle: Duration) -> Self {
        Self { directory, body_idle }
    }

    /// Answers one call; `path` is without the `/exapps/app_api` prefix.
    pub async fn handle(&self, path: &str, request: Request<Incoming>) -> Response<Body> {
        let Some(resource) = Resource::at(path) else {
            return text(StatusCode::NOT_FOUND, "404: Not Found");
        };
        let method = request.method();
        let read = matches!(*method, Method::GET | Method::HEAD);
        match resource {
            Resource::Heartbeat if read => json(HEARTBEAT),
            Resource::Info if read => match serde_json::to_string(&Info::current()) {
                Ok(body) => json(body),
                Err(_never) => text(StatusCode::INTERNAL_SERVER_ERROR, "500 Internal Server Error"),
            },
            Resource::Heartbeat | Resource::Info => not_allowed("GET,HEAD"),
            Resource::Storage(id) if *method == Method::POST => self.push(id, request).await,
            Resource::Storage(id) if *method == Method::DELETE => {
                stored(storage::delete(&self.directory, &AppId::from_display(id)).await)
            }
            Resource::Storage(_) => not_allowed("DELETE,POST"),
            Resource::NotBuilt => {
                text(StatusCode::NOT_IMPLEMENTED, "501: this build of Trigon cannot do that yet")
            }
        }
    }

    async fn push(&self, id: &str, request: Request<Incoming>) -> Response<Body> {
        match read_whole(request.into_body(), MAX_BODY, self.body_idle).await {
            Ok(body) => {
                stored(storage::post(&self.directory, &AppId::from_display(id), &body).await)
            }
            Err(BodyError::TooLong(_)) => {
                text(StatusCode::PAYLOAD_TOO_LARGE, "413: the body is larger than 16 MiB")
            }
            Err(BodyError::Idle(_)) => text(StatusCode::REQUEST_TIMEOUT, "408: the body stalled"),
            Err(BodyError::Broken(_)) => text(StatusCode::BAD_REQUEST, "400: the body broke off"),
        }
    }
}

impl<'p> Resource<'p> {
    /// Exact: HaRP tolerates no trailing slash either.
    fn at(path: &'p str) -> Option<Self> {
        match path {
            "/heartbeat" => Some(Self::Heartbeat),
            "/info" => Some(Self::Info),
            _ if path.starts_with("/docker/") || path.starts_with("/k8s/") => Some(Self::NotBuilt),
            _ => {
                let id = path.strip_prefix("/exapp_storage/")?;
                (!id.is_empty() && !id.contains('/')).then_some(Self::Storage(id))
            }
        }
    }
}

fn stored(stored: Stored) -> Response<Body> {
    match stored {
        Stored::Done => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Stored::Unknown => text(StatusCode::NOT_FOUND, "404: no such record"),
        Stored::Malformed(error) => text(StatusCode::BAD_REQUEST, format!("400: {error}")),
    }
}

fn json(body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn not_allowed(allow: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

fn text(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
