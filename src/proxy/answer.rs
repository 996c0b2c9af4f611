//! The only place that turns a refusal or a failure into an answer (contract 1.3). Sans-io.
//!
//! HaRP's silent drop abandons the TCP connection, so that the client waits in vain. That needs a
//! kernel trick per connection and keeps our sockets as long as theirs; here the connection is
//! closed without a byte instead, which tells as little. `frontend` does that, there is no answer.
//!
//! What never becomes a request is answered where it is noticed, in `http::connection`.

use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use crate::balance::pool::Nobody;
use crate::docker;
use crate::http::body::Body;
use crate::http::client;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain");

/// HaRP's 400 for requests that cannot be read.
pub fn bad_request() -> Response<Body> {
    text(StatusCode::BAD_REQUEST, "400 Bad Request")
}

/// 204: `OPTIONS *` asks about the server as a whole, and there is nothing to tell
/// (RFC 9110 section 9.3.7).
pub fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// 501: CONNECT, which asks for a forward proxy or a protocol that is not WebSocket.
pub fn not_implemented() -> Response<Body> {
    text(StatusCode::NOT_IMPLEMENTED, "501 Not Implemented: this is no forward proxy")
}

/// 401: the control API without the right key.
pub fn unauthorized() -> Response<Body> {
    text(StatusCode::UNAUTHORIZED, "401 Unauthorized")
}

/// 403: the visitor's access level is too low.
pub fn forbidden() -> Response<Body> {
    text(StatusCode::FORBIDDEN, "403 Forbidden")
}

/// 404: no such ExApp or no such route.
pub fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404 Not Found")
}

/// 503: the decision could not be made, usually because Nextcloud cannot be asked.
pub fn unavailable() -> Response<Body> {
    soon(text(StatusCode::SERVICE_UNAVAILABLE, "503 Service Unavailable"))
}

/// 503: AppAPI's headers name a host that the operator has not allowed.
pub fn not_announced() -> Response<Body> {
    text(
        StatusCode::SERVICE_UNAVAILABLE,
        "503 Service Unavailable: the announced host is not in exapps.announced_hosts",
    )
}

/// Why the ExApp's answer is missing. At once and in words: HaRP takes three seconds, which is
/// exactly AppAPI's ping limit (weakness W20).
pub fn upstream_failed(error: &client::Error) -> Response<Body> {
    use client::Error;
    match error {
        Error::NoTunnel => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "503 Service Unavailable: the ExApp has no tunnel",
        ),
        Error::TunnelAbsent => soon(text(
            StatusCode::SERVICE_UNAVAILABLE,
            "503 Service Unavailable: the ExApp's tunnel is not back yet",
        )),
        Error::ConnectTimeout | Error::Connect(_) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "503 Service Unavailable: the ExApp does not accept connections",
        ),
        Error::Broke(_) => text(
            StatusCode::BAD_GATEWAY,
            "502 Bad Gateway: the ExApp broke off or did not speak HTTP",
        ),
        Error::RequestBroken => bad_request(),
        Error::RequestStalled => text(StatusCode::REQUEST_TIMEOUT, "408 Request Timeout"),
        Error::Silent => text(
            StatusCode::GATEWAY_TIMEOUT,
            "504 Gateway Timeout: the ExApp did not answer in time",
        ),
    }
}

/// 502: the ExApp's answer to a protocol upgrade is not one a proxy can pass on.
pub fn bad_gateway() -> Response<Body> {
    text(StatusCode::BAD_GATEWAY, "502 Bad Gateway: the ExApp did not switch protocols as asked")
}

/// Why a web node's answer is missing.
pub fn web_failed(error: &client::Error) -> Response<Body> {
    use client::Error;
    match error {
        Error::RequestBroken => bad_request(),
        Error::RequestStalled => text(StatusCode::REQUEST_TIMEOUT, "408 Request Timeout"),
        Error::Broke(_) => text(
            StatusCode::BAD_GATEWAY,
            "502 Bad Gateway: the web node broke off or did not speak HTTP",
        ),
        Error::Silent => text(
            StatusCode::GATEWAY_TIMEOUT,
            "504 Gateway Timeout: the web node did not answer in time",
        ),
        Error::NoTunnel | Error::TunnelAbsent | Error::ConnectTimeout | Error::Connect(_) => {
            soon(text(
                StatusCode::SERVICE_UNAVAILABLE,
                "503 Service Unavailable: no web node accepts connections",
            ))
        }
    }
}

/// 503: no server of the pool can take the request.
pub fn no_backend(nobody: Nobody) -> Response<Body> {
    soon(text(
        StatusCode::SERVICE_UNAVAILABLE,
        match nobody {
            Nobody::Fit => "503 Service Unavailable: no web node is up",
            Nobody::Idle => "503 Service Unavailable: all web nodes are busy",
        },
    ))
}

/// Why a Docker engine could not be asked.
pub fn engine_failed(error: &docker::Error) -> Response<Body> {
    use docker::Error;
    let status = match error {
        Error::Silent { .. } => StatusCode::GATEWAY_TIMEOUT,
        Error::Garbled { .. } => StatusCode::BAD_GATEWAY,
        Error::Foreign { .. } => StatusCode::FORBIDDEN,
        Error::Unknown { .. } | Error::Unreachable { .. } | Error::Refused { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    text(status, format!("{status}: {error}"))
}

/// Why a Docker engine's answer is missing. At once, as for ExApps.
pub fn engine_unreached(port: u16, error: &client::Error) -> Response<Body> {
    use client::Error;
    let (status, what) = match error {
        Error::NoTunnel => (StatusCode::SERVICE_UNAVAILABLE, "has no tunnel"),
        Error::TunnelAbsent | Error::ConnectTimeout => {
            (StatusCode::SERVICE_UNAVAILABLE, "is not back yet")
        }
        Error::Connect(_) => (StatusCode::SERVICE_UNAVAILABLE, "does not accept connections"),
        Error::Broke(_) => (StatusCode::BAD_GATEWAY, "broke off or did not speak HTTP"),
        Error::RequestBroken => return bad_request(),
        Error::RequestStalled => return text(StatusCode::REQUEST_TIMEOUT, "408 Request Timeout"),
        Error::Silent => (StatusCode::GATEWAY_TIMEOUT, "did not answer in time"),
    };
    text(status, format!("{status}: the Docker engine of port {port} {what}"))
}

/// A text answer in HaRP's form: no charset, no newline.
pub fn text(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

/// It is worth asking again in two seconds.
fn soon(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_tunnel_may_be_tried_again_and_a_missing_one_not() {
        let absent = upstream_failed(&client::Error::TunnelAbsent);
        assert_eq!(absent.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(absent.headers()[RETRY_AFTER], "2");
        let missing = upstream_failed(&client::Error::NoTunnel);
        assert_eq!(missing.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(!missing.headers().contains_key(RETRY_AFTER));
        assert_eq!(upstream_failed(&client::Error::Silent).status(), StatusCode::GATEWAY_TIMEOUT);
    }
}
