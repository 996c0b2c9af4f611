//! Asks a running trigon over its admin socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Status;

const WITHIN: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("{path}: no trigon answers here ({reason}); is the service running?")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        reason: std::io::Error,
    },
    /// It accepted the connection and then said nothing.
    #[error("admin socket: no answer within {} s", WITHIN.as_secs())]
    Silent,
    /// The conversation broke.
    #[error("admin socket: {0}")]
    Broken(String),
}

/// The node's status.
///
/// # Errors
/// [`Error`].
pub async fn status(socket: &Path) -> Result<Status, Error> {
    timeout(WITHIN, fetch(socket)).await.map_err(|_elapsed| Error::Silent)?
}

async fn fetch(socket: &Path) -> Result<Status, Error> {
    let broken = |error: &dyn std::fmt::Display| Error::Broken(error.to_string());
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|reason| Error::Unreachable { path: socket.to_owned(), reason })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| broken(&e))?;
    let driver = tokio::spawn(connection);
    let request = http::Request::get("/status")
        .header(http::header::HOST, "trigon")
        .body(Empty::<Bytes>::new())
        .map_err(|e| broken(&e))?;
    let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
    let body = Limited::new(answer.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|e| broken(&e))?
        .to_bytes();
    driver.abort();
    serde_json::from_slice(&body).map_err(|e| broken(&e))
}
