//! What an answer, or its absence, says about the server. Sans-io.

use http::{HeaderMap, HeaderName, StatusCode};

use crate::balance::budget::Reached;
use crate::balance::pool::Outcome;
use crate::http::client::Error;

/// How Nextcloud says that it is in maintenance mode.
const MAINTENANCE: HeaderName = HeaderName::from_static("x-nextcloud-maintenance-mode");

/// What a whole head says. 502, 503 and 504 come from the server in front of a PHP that is gone;
/// any other error may be the request's own, and a 503 may be what the operator wanted.
pub fn answered(status: StatusCode, headers: &HeaderMap) -> Outcome {
    let gone = matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    );
    if gone && !headers.contains_key(MAINTENANCE) { Outcome::Failed } else { Outcome::Good }
}

/// Whether such an answer may be replaced by that of another server. After a 504 the request has
/// waited for long and may be at work still.
pub fn is_replaceable(status: StatusCode, headers: &HeaderMap) -> bool {
    answered(status, headers) == Outcome::Failed && status != StatusCode::GATEWAY_TIMEOUT
}

/// What a failure says, and how far the request got. `unsent`: no byte of it was sent.
pub fn failed(error: &Error, unsent: bool) -> (Outcome, Reached) {
    match error {
        Error::NoTunnel | Error::TunnelAbsent | Error::ConnectTimeout | Error::Connect(_) => {
            (Outcome::Failed, Reached::Nobody)
        }
        Error::Broke(_) if unsent => (Outcome::Failed, Reached::Nobody),
        Error::Broke(_) | Error::Silent => (Outcome::Failed, Reached::Server),
        Error::RequestBroken | Error::RequestStalled => (Outcome::Neither, Reached::Server),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn maintenance_and_the_applications_own_errors_are_no_failure_of_the_server() {
        use Outcome::{Failed, Good};
        for (status, maintenance, expected, replaceable) in [
            (200, false, Good, false),
            (404, false, Good, false),
            (500, false, Good, false),
            (507, false, Good, false),
            (503, true, Good, false),
            (503, false, Failed, true),
            (502, false, Failed, true),
            (504, false, Failed, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let mut headers = HeaderMap::new();
            if maintenance {
                headers.insert(MAINTENANCE, HeaderValue::from_static("1"));
            }
            assert_eq!(answered(status, &headers), expected, "{status} {maintenance}");
            assert_eq!(is_replaceable(status, &headers), replaceable, "{status} {maintenance}");
        }
    }

    #[test]
    fn a_clients_fault_is_not_the_servers() {
        let refused = || Error::Connect(std::io::ErrorKind::ConnectionRefused.into());
        for (error, expected) in [
            (refused(), (Outcome::Failed, Reached::Nobody)),
            (Error::ConnectTimeout, (Outcome::Failed, Reached::Nobody)),
            (Error::Silent, (Outcome::Failed, Reached::Server)),
            (Error::RequestBroken, (Outcome::Neither, Reached::Server)),
            (Error::RequestStalled, (Outcome::Neither, Reached::Server)),
        ] {
            assert_eq!(failed(&error, false), expected, "{error:?}");
        }
    }
}
