//! An order of an admin's that was not carried out, and its HTTP answer.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cluster::AdminError;
use cluster::pair::PairError;

use crate::guard::ChangeError;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It cannot be understood or is not allowed.
    #[error("{0}")]
    Wrong(String),
    /// The configuration is wrong: each problem in a line.
    #[error("{0}")]
    Configuration(String),
    /// It would do harm now; who knows better may insist.
    #[error("{0}")]
    Unsafe(String),
    /// It was tried and did not work.
    #[error("{0}")]
    Failed(String),
    /// The cluster did not confirm it.
    #[error("{0}")]
    Unconfirmed(String),
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Unconfirmed(_) => Self::Unconfirmed(error.to_string()),
            ChangeError::Exempt { .. } | ChangeError::Full => Self::Wrong(error.to_string()),
        }
    }
}

impl From<AdminError> for Refusal {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Unconfirmed(error) => Self::Unconfirmed(error.to_string()),
            error => Self::Wrong(error.to_string()),
        }
    }
}

impl From<PairError> for Refusal {
    fn from(error: PairError) -> Self {
        Self::Wrong(error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Wrong(_) => StatusCode::BAD_REQUEST,
            Self::Configuration(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unsafe(_) => StatusCode::CONFLICT,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unconfirmed(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, self.to_string()).into_response()
    }
}
