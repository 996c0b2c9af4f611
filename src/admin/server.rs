//! Serves the admin socket.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::backends::{self, Backends, Office};
use super::bans::{NewBan, Removal};
use super::certificates::Order;
use super::cluster::{Promoted, Promotion};
use super::desk::Desk;
use super::events::Events;
use super::membership::Membership;
use super::orders::{Orders, Reload};
use super::refusal::Refusal;
use super::status::Status;
use super::tokens::{Created, NewToken, Revocation, Revoked};
use super::vrrp::Vrrp;
use super::{drain, failover, nodes, reload};
use crate::balance::Member;

/// Most bytes of an order.
const MAX_BODY: usize = 64 << 10;

/// Where the server gets its answers from.
#[derive(Clone)]
pub struct Source {
    /// The node as a whole.
    pub status: Arc<dyn Fn() -> Status + Send + Sync>,
    /// The cluster's members and tokens.
    pub membership: Membership,
    /// Reads the configuration again.
    pub reload: Reload,
    /// What a node as a whole is told; none on a witness.
    pub orders: Option<Orders>,
    /// The servers behind this node; none on a witness.
    pub backends: Option<Office>,
    /// Everything else; none on a witness.
    pub desk: Option<Desk>,
}

/// Opens the socket at `path`, readable and writable by its owner only. A socket left behind by
/// a killed process is replaced; one that is still answered is not, nor is any other kind of file.
///
/// # Errors
/// `AddrInUse` when another process answers there, `AlreadyExists` when something else lies
/// there, otherwise the file system's own error.
pub async fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        let text = "another trigon answers here; stop it first";
        return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => {
            let text = "this is not a socket; it was left as it is";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until `stop`.
pub async fn serve(listener: UnixListener, source: Source, stop: CancellationToken) {
    let served = axum::serve(listener, routes(source))
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the admin socket failed");
    }
}

fn routes(source: Source) -> Router {
    let Source { status, membership, reload, orders, backends, desk } = source;
    let routers = Arc::clone(&status);
    let link = membership.clone();
    let members = Router::new()
        .route("/nodes", get(|State(all): State<Membership>| async move { Json(all.nodes()) }))
        .route("/nodes", delete(remove_node))
        .route("/leave", post(leave))
        .route(
            "/backup",
            get(|State(all): State<Membership>| async move { all.backup(false).await }),
        )
        .route(
            "/backup/with-keys",
            get(|State(all): State<Membership>| async move { all.backup(true).await }),
        )
        .route("/tokens", get(|State(all): State<Membership>| async move { Json(all.tokens()) }))
        .route("/tokens", post(create_token).delete(revoke_token))
        .route("/cluster", get(|State(all): State<Membership>| async move { Json(all.cluster()) }))
        .route("/events", get(events))
        .route("/cluster/handover", post(hand_over))
        .route("/cluster/promote", post(promote))
        .with_state(membership);
    let all = Router::new()
        .merge(members)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .route("/status", get(move || async move { Json(status()) }))
        .route("/vrrp", get(move || async move { Json(Vrrp(routers().vrrp)) }));
    let all = all.merge(Router::new().route("/reload", post(read_again)).with_state(reload));
    let all = match orders {
        None => all,
        Some(orders) => all.merge(
            Router::new()
                .route("/drain", get(progress).post(drain))
                .route("/undrain", post(undrain))
                .route("/failover", post(move_addresses))
                .with_state(orders),
        ),
    };
    let all = match backends {
        None => all,
        Some(office) => all.merge(
            Router::new()
                .route("/backends", get(list_backends).post(tell_backend))
                .with_state(office),
        ),
    };
    let Some(desk) = desk else {
        let link = Router::new()
            .route("/certificates", get(link_certificates).post(change_link_certificates))
            .with_state(link);
        return all.merge(link).layer(DefaultBodyLimit::max(MAX_BODY)).fallback(|| async {
            (StatusCode::NOT_FOUND, "a witness knows no ExApps, tunnels or bans; ask a node")
        });
    };
    let lists = Router::new()
        .route("/exapps", get(|State(desk): State<Desk>| async move { Json(desk.exapps()) }))
        .route("/tunnels", get(|State(desk): State<Desk>| async move { Json(desk.tunnels()) }))
        .route("/bans", get(bans).post(add).delete(remove))
        .route("/bans/all", get(|State(desk): State<Desk>| async move { Json(desk.bans(true)) }))
        .route("/certificates", get(certificates).post(change_certificates))
        .with_state(desk);
    all.merge(lists).layer(DefaultBodyLimit::max(MAX_BODY))
}

/// Those after the number in the query, `after=7`; without one all that are remembered.
async fn events(
    State(all): State<Membership>,
    RawQuery(query): RawQuery,
) -> Result<Json<Events>, Refusal> {
    let after = match query.as_deref().unwrap_or_default() {
        "" => Ok(0),
        query => query.strip_prefix("after=").unwrap_or_default().parse(),
    };
    let wrong = |_| Refusal::Wrong(format!("query: found {query:?}, expected after=NUMBER"));
    after.map_err(wrong).map(|after| Json(all.events(after)))
}

async fn remove_node(
    State(all): State<Membership>,
    Json(removal): Json<nodes::Removal>,
) -> Result<Json<nodes::Removed>, Refusal> {
    all.remove(removal).await.map(Json)
}

async fn leave(State(all): State<Membership>) -> Result<StatusCode, Refusal> {
    all.leave().await.map(|()| StatusCode::NO_CONTENT)
}

async fn hand_over(State(all): State<Membership>) -> Result<StatusCode, Refusal> {
    all.hand_over().await.map(|()| StatusCode::NO_CONTENT)
}

async fn promote(
    State(all): State<Membership>,
    Json(order): Json<Promotion>,
) -> Result<Json<Promoted>, Refusal> {
    all.promote(order).await.map(Json)
}

async fn drain(
    State(orders): State<Orders>,
    Json(order): Json<drain::Order>,
) -> Result<Json<drain::Drain>, Refusal> {
    (orders.drain)(order).map(Json)
}

async fn read_again(State(reload): State<Reload>) -> Result<Json<reload::Reloaded>, Refusal> {
    reload().await.map(Json)
}

async fn progress(State(orders): State<Orders>) -> Json<Option<drain::Drain>> {
    Json((orders.progress)())
}

async fn undrain(State(orders): State<Orders>) -> Json<drain::Undrained> {
    Json((orders.undrain)())
}

async fn move_addresses(
    State(orders): State<Orders>,
    Json(order): Json<failover::Order>,
) -> Result<Json<failover::Moved>, Refusal> {
    (orders.failover)(order).await.map(Json)
}

async fn list_backends(State(office): State<Office>) -> Json<Backends> {
    Json(office.backends())
}

async fn tell_backend(
    State(office): State<Office>,
    Json(order): Json<backends::Order>,
) -> Result<Json<Member>, Refusal> {
    office.order(&order).map(Json)
}

async fn create_token(
    State(all): State<Membership>,
    Json(new): Json<NewToken>,
) -> Result<Json<Created>, Refusal> {
    all.create(new).await.map(Json)
}

async fn revoke_token(
    State(all): State<Membership>,
    Json(revocation): Json<Revocation>,
) -> Result<Json<Revoked>, Refusal> {
    all.revoke(&revocation).await.map(Json)
}

async fn bans(State(desk): State<Desk>) -> Response {
    Json(desk.bans(false)).into_response()
}

async fn add(State(desk): State<Desk>, Json(new): Json<NewBan>) -> Result<StatusCode, Refusal> {
    desk.add(new).await.map(|()| StatusCode::NO_CONTENT)
}

async fn remove(
    State(desk): State<Desk>,
    Json(removal): Json<Removal>,
) -> Result<Response, Refusal> {
    desk.remove(&removal).await.map(|removed| Json(removed).into_response())
}

async fn certificates(State(desk): State<Desk>) -> Response {
    Json(desk.certificates()).into_response()
}

async fn change_certificates(
    State(desk): State<Desk>,
    Json(order): Json<Order>,
) -> Result<StatusCode, Refusal> {
    desk.change_certificates(order).await.map(|()| StatusCode::NO_CONTENT)
}

async fn link_certificates(State(all): State<Membership>) -> Response {
    Json(all.certificates()).into_response()
}

async fn change_link_certificates(
    State(all): State<Membership>,
    Json(order): Json<Order>,
) -> Result<StatusCode, Refusal> {
    all.change_certificates(order).await.map(|()| StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every path and method the routers above name.
    fn routes() -> BTreeSet<(String, String)> {
        let (source, _) = include_str!("server.rs").split_once("#[cfg(test)]").unwrap();
        let mut found = BTreeSet::new();
        for route in source.split(".route(").skip(1) {
            let path = route.split('"').nth(1).unwrap();
            for method in ["get", "post", "put", "patch", "delete"] {
                let call = format!("{method}(");
                let named = |(at, _): (usize, &str)| {
                    !route[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                };
                // A chained `.post(` belongs to the same route.
                if route.match_indices(&call).any(named) {
                    found.insert((path.to_owned(), method.to_owned()));
                }
            }
        }
        found
    }

    #[test]
    fn the_description_of_the_api_has_every_route_and_nothing_else() {
        let text = include_str!("../../docs/reference/openapi.json");
        let document: serde_json::Value = serde_json::from_str(text).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                described.insert((path.clone(), method.clone()));
            }
        }
        assert_eq!(described, routes());
        let named = text.matches("\"#/components/schemas/").count();
        let known = document["components"]["schemas"].as_object().unwrap();
        let dangling = text
            .split("\"#/components/schemas/")
            .skip(1)
            .filter(|rest| !known.contains_key(rest.split('"').next().unwrap()));
        assert!(named > 0 && dangling.count() == 0, "a schema is named and not described");
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/admin.sock");
        let first = bind(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind(&path).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        drop(bind(&path).await.unwrap());
        let file = dir.path().join("precious");
        std::fs::write(&file, "kept").unwrap();
        assert_eq!(bind(&file).await.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&file).unwrap(), b"kept");
    }
}
