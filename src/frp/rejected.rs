//! Why a connection of the FRP port was turned away.

use std::io;
use std::time::Duration;

use super::login::LoginError;
use super::preface::Refusal;
use super::wire::WireError;

/// Longest time for the first byte, the TLS handshake and the first message, each.
pub(super) const STEP: Duration = Duration::from_secs(10);

/// Why a connection ended before it was a session.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejected {
    #[error("nothing came within {} s", STEP.as_secs())]
    Silent,
    #[error("the connection ended early")]
    Ended,
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("frpc without TLS; this server requires TLS with the certificates of its CA")]
    NoTls,
    #[error("TLS handshake failed: {0}")]
    Tls(io::Error),
    #[error("{0}")]
    Preface(#[from] Refusal),
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("the first message is {0}, expected Login or NewWorkConn")]
    Message(&'static str),
    #[error("login refused: {}", .0.cause())]
    Login(#[from] LoginError),
    #[error("no session has that run id")]
    NoSession,
    #[error("no random numbers are to be had")]
    Random,
}
