//! `POST /k8s/exapp/…` as HaRP answers it with Kubernetes disabled (contract 3.4): the body is
//! checked, then the call is refused.

use http::{Response, StatusCode};

use super::answer;
use crate::docker::payload::{self, PayloadError};
use crate::http::body::Body;

/// HaRP's words.
const DISABLED: &str = "Kubernetes backend is disabled in HaRP.";

/// One of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Names an ExApp and nothing else: `exists`, `start`, `stop`, `wait_for_start`.
    Named,
    Create,
    Remove,
    InstallCertificates,
    Expose,
}

impl Call {
    /// The call of this name, which stands behind `/k8s/exapp/`.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "exists" | "start" | "stop" | "wait_for_start" => Self::Named,
            "create" => Self::Create,
            "remove" => Self::Remove,
            "install_certificates" => Self::InstallCertificates,
            "expose" => Self::Expose,
            _ => return None,
        })
    }
}

/// Answers a call.
pub(super) fn handle(call: Call, body: &[u8]) -> Response<Body> {
    match read(call, body) {
        Err(error) => answer::text(StatusCode::BAD_REQUEST, format!("400: {error}")),
        // There, certificates are mounted by Kubernetes itself.
        Ok(()) if call == Call::InstallCertificates => answer::nothing(),
        Ok(()) => answer::text(StatusCode::SERVICE_UNAVAILABLE, DISABLED),
    }
}

fn read(call: Call, body: &[u8]) -> Result<(), PayloadError> {
    match call {
        Call::Named | Call::Expose => payload::exapp(body).map(drop),
        Call::Create => payload::create(body).map(drop),
        Call::Remove => payload::remove(body).map(drop),
        Call::InstallCertificates => payload::install_certificates(body).map(drop),
    }
}
