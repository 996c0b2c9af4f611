//! Asks a running trigon over its admin socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Status;
use super::backends::{self, Backends};
use super::bans::{Bans, NewBan, Removal, Removed};
use super::certificates::{Certificates, Order};
use super::cluster::{Cluster, Promoted, Promotion};
use super::events::Events;
use super::exapps::ExApps;
use super::nodes::{self, Nodes};
use super::tokens::{Created, NewToken, Revocation, Revoked, Tokens};
use super::tunnels::Tunnels;
use super::vrrp::Vrrp;
use super::{drain, failover, reload};
use crate::balance::Member;

const WITHIN: Duration = Duration::from_secs(5);
/// The same where addresses have to move or files to be read first.
const MOVED_WITHIN: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 64 << 20;

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
    #[error("admin socket: no answer in time")]
    Silent,
    /// The conversation broke.
    #[error("admin socket: {0}")]
    Broken(String),
    /// The configuration is wrong; each problem in a line.
    #[error("{0}")]
    Configuration(String),
    /// It would do harm now; in its own words.
    #[error("{0}")]
    Unsafe(String),
    /// It was understood and not done; in its own words.
    #[error("{0}")]
    Refused(String),
    /// The cluster has no quorum to confirm the change.
    #[error("{0}")]
    Unconfirmed(String),
}

/// The node's status.
///
/// # Errors
/// [`Error`].
pub async fn status(socket: &Path) -> Result<Status, Error> {
    get(socket, "/status").await
}

/// The ExApp records in force on the node.
///
/// # Errors
/// [`Error`].
pub async fn exapps(socket: &Path) -> Result<ExApps, Error> {
    get(socket, "/exapps").await
}

/// The servers behind the node.
///
/// # Errors
/// [`Error`].
pub async fn backends(socket: &Path) -> Result<Backends, Error> {
    get(socket, "/backends").await
}

/// Gives one of them an order.
///
/// # Errors
/// [`Error`].
pub async fn tell_backend(socket: &Path, order: &backends::Order) -> Result<Member, Error> {
    decoded(&call(socket, Method::POST, "/backends", Some(encoded(order)?)).await?)
}

/// The tunnels of the cluster.
///
/// # Errors
/// [`Error`].
pub async fn tunnels(socket: &Path) -> Result<Tunnels, Error> {
    get(socket, "/tunnels").await
}

/// The virtual routers of the node.
///
/// # Errors
/// [`Error`].
pub async fn vrrp(socket: &Path) -> Result<Vrrp, Error> {
    get(socket, "/vrrp").await
}

/// The replicated state as the bytes of a backup; with `with_keys`, also the key of its secrets.
///
/// # Errors
/// [`Error`].
pub async fn backup(socket: &Path, with_keys: bool) -> Result<Bytes, Error> {
    let path = if with_keys { "/backup/with-keys" } else { "/backup" };
    call(socket, Method::GET, path, None).await
}

/// Who is kept out; with `all`, also who has failed but not often enough.
///
/// # Errors
/// [`Error`].
pub async fn bans(socket: &Path, all: bool) -> Result<Bans, Error> {
    get(socket, if all { "/bans/all" } else { "/bans" }).await
}

/// Keeps somebody out.
///
/// # Errors
/// [`Error`].
pub async fn ban(socket: &Path, new: &NewBan) -> Result<(), Error> {
    call(socket, Method::POST, "/bans", Some(encoded(new)?)).await.map(|_empty| ())
}

/// Lets somebody in again and forgets the failures.
///
/// # Errors
/// [`Error`].
pub async fn pardon(socket: &Path, removal: &Removal) -> Result<Removed, Error> {
    decoded(&call(socket, Method::DELETE, "/bans", Some(encoded(removal)?)).await?)
}

/// The members of the cluster.
///
/// # Errors
/// [`Error`].
pub async fn nodes(socket: &Path) -> Result<Nodes, Error> {
    get(socket, "/nodes").await
}

/// Removes a member for good.
///
/// # Errors
/// [`Error`].
pub async fn remove_node(socket: &Path, removal: nodes::Removal) -> Result<nodes::Removed, Error> {
    decoded(&call(socket, Method::DELETE, "/nodes", Some(encoded(&removal)?)).await?)
}

/// The node itself leaves the cluster.
///
/// # Errors
/// [`Error`].
pub async fn leave(socket: &Path) -> Result<(), Error> {
    call(socket, Method::POST, "/leave", None).await.map(|_empty| ())
}

/// How the cluster stands.
///
/// # Errors
/// [`Error`].
pub async fn cluster(socket: &Path) -> Result<Cluster, Error> {
    get(socket, "/cluster").await
}

/// The other node of a pair becomes its voter.
///
/// # Errors
/// [`Error`].
pub async fn hand_over(socket: &Path) -> Result<(), Error> {
    call(socket, Method::POST, "/cluster/handover", None).await.map(|_empty| ())
}

/// The node goes on alone.
///
/// # Errors
/// [`Error`].
pub async fn promote(socket: &Path, order: Promotion) -> Result<Promoted, Error> {
    decoded(&call(socket, Method::POST, "/cluster/promote", Some(encoded(&order)?)).await?)
}

/// What happened after the event with this number.
///
/// # Errors
/// [`Error`].
pub async fn events(socket: &Path, after: u64) -> Result<Events, Error> {
    get(socket, &format!("/events?after={after}")).await
}

/// The tokens machines may still join with.
///
/// # Errors
/// [`Error`].
pub async fn tokens(socket: &Path) -> Result<Tokens, Error> {
    get(socket, "/tokens").await
}

/// A new token.
///
/// # Errors
/// [`Error`].
pub async fn create_token(socket: &Path, new: &NewToken) -> Result<Created, Error> {
    decoded(&call(socket, Method::POST, "/tokens", Some(encoded(new)?)).await?)
}

/// Takes a token back.
///
/// # Errors
/// [`Error`].
pub async fn revoke_token(socket: &Path, revocation: &Revocation) -> Result<Revoked, Error> {
    decoded(&call(socket, Method::DELETE, "/tokens", Some(encoded(revocation)?)).await?)
}

/// The certificates the node uses.
///
/// # Errors
/// [`Error`].
pub async fn certificates(socket: &Path) -> Result<Certificates, Error> {
    get(socket, "/certificates").await
}

/// Changes the certificates of the tunnel port or of the control link.
///
/// # Errors
/// [`Error`].
pub async fn change_certificates(socket: &Path, order: Order) -> Result<(), Error> {
    let order = encoded(&order)?;
    call(socket, Method::POST, "/certificates", Some(order)).await.map(|_empty| ())
}

/// The node leaves service; tells how far it is, also when asked again.
///
/// # Errors
/// [`Error`].
pub async fn drain(socket: &Path, order: drain::Order) -> Result<drain::Drain, Error> {
    decoded(&call(socket, Method::POST, "/drain", Some(encoded(&order)?)).await?)
}

/// How far a drain is; none: the node is in service.
///
/// # Errors
/// [`Error`].
pub async fn draining(socket: &Path) -> Result<Option<drain::Drain>, Error> {
    get(socket, "/drain").await
}

/// The node comes back into service.
///
/// # Errors
/// [`Error`].
pub async fn undrain(socket: &Path) -> Result<drain::Undrained, Error> {
    decoded(&call(socket, Method::POST, "/undrain", None).await?)
}

/// Reads the configuration again; tells what that has changed.
///
/// # Errors
/// [`Error`].
pub async fn reload(socket: &Path) -> Result<reload::Reloaded, Error> {
    let asked = exchange(socket, Method::POST, "/reload", None);
    decoded(&timeout(MOVED_WITHIN, asked).await.map_err(|_elapsed| Error::Silent)??)
}

/// Virtual addresses move.
///
/// # Errors
/// [`Error`].
pub async fn failover(socket: &Path, order: &failover::Order) -> Result<failover::Moved, Error> {
    let asked = exchange(socket, Method::POST, "/failover", Some(encoded(order)?));
    decoded(&timeout(MOVED_WITHIN, asked).await.map_err(|_elapsed| Error::Silent)??)
}

async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, Error> {
    decoded(&call(socket, Method::GET, path, None).await?)
}

fn encoded(value: &impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(value).map(Bytes::from).map_err(broken)
}

fn decoded<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(broken)
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::Broken(error.to_string())
}

async fn call(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<Bytes>,
) -> Result<Bytes, Error> {
    timeout(WITHIN, exchange(socket, method, path, body)).await.map_err(|_elapsed| Error::Silent)?
}

async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<Bytes>,
) -> Result<Bytes, Error> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|reason| Error::Unreachable { path: socket.to_owned(), reason })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "trigon");
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let request = request.body(Full::new(body.unwrap_or_default())).map_err(broken)?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(broken)?;
    driver.abort();
    let body = body.to_bytes();
    let words = || String::from_utf8_lossy(&body).into_owned();
    match status {
        _ if status.is_success() => Ok(body),
        StatusCode::SERVICE_UNAVAILABLE => Err(Error::Unconfirmed(words())),
        StatusCode::UNPROCESSABLE_ENTITY => Err(Error::Configuration(words())),
        StatusCode::CONFLICT => Err(Error::Unsafe(words())),
        _ => Err(Error::Refused(words())),
    }
}
