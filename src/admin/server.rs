//! Serves the admin socket.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::Status;

/// Where the server gets its answers from.
pub type Source = Arc<dyn Fn() -> Status + Send + Sync>;

/// Opens the socket at `path`, readable and writable by its owner only. A socket left behind by
/// a killed process is replaced; one that is still answered is not.
///
/// # Errors
/// `AddrInUse` when another process answers there, else the file system's own error.
pub async fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        let text = format!("{}: another trigon answers on this socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until `stop`.
pub async fn serve(listener: UnixListener, source: Source, stop: CancellationToken) {
    let routes = Router::new().route("/status", get(move || async move { Json(source()) }));
    let served = axum::serve(listener, routes)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the admin socket failed");
    }
}
