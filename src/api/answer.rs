//! Answers of the control API: JSON, or text AppAPI logs and shows but never parses (contract 3).

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::http::body::{Body, BodyError};

/// A JSON text that is ready.
pub(super) fn json_text(status: StatusCode, body: impl Into<bytes::Bytes>) -> Response<Body> {
    typed(status, "application/json; charset=utf-8", body)
}

/// A value as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_string(value) {
        Ok(body) => json_text(status, body),
        Err(_never) => text(StatusCode::INTERNAL_SERVER_ERROR, "500 Internal Server Error"),
    }
}

/// A text.
pub(super) fn text(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", text)
}

/// 204.
pub(super) fn nothing() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// 503 for a change no majority has confirmed.
pub(super) fn unconfirmed() -> Response<Body> {
    let mut response = text(
        StatusCode::SERVICE_UNAVAILABLE,
        "503: the cluster has no quorum; in force on this node only until it has one again",
    );
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

/// 404 for a path nobody knows.
pub(super) fn unknown_path() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404: Not Found")
}

/// 405.
pub(super) fn not_allowed(allow: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// Why the caller's body could not be read.
pub(super) fn unread(error: &BodyError) -> Response<Body> {
    match error {
        BodyError::TooLong(_) => {
            text(StatusCode::PAYLOAD_TOO_LARGE, "413: the body is larger than 16 MiB")
        }
        BodyError::Idle(_) => text(StatusCode::REQUEST_TIMEOUT, "408: the body stalled"),
        BodyError::Broken(_) => text(StatusCode::BAD_REQUEST, "400: the body broke off"),
    }
}

fn typed(status: StatusCode, kind: &'static str, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
