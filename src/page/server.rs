//! Serves the page: the listener and its limits. What an answer is, `site` knows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::site::Site;
use crate::http::body::{Body, BodyError, read_whole};
use crate::http::door::Door;
use crate::http::server;

/// Connections at a time. Browsers make a handful each.
const MAX_CONNECTIONS: usize = 128;

/// How long a browser may take to ask.
const PATIENCE: Duration = Duration::from_secs(15);

/// Most bytes of a form.
const MAX_FORM: usize = 8 << 10;

/// Answers until `stop`, with TLS if there is an acceptor.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    site: Arc<Site>,
    stop: CancellationToken,
) {
    let limits = server::Config {
        head: PATIENCE,
        max_head_bytes: 16 << 10,
        max_connections: MAX_CONNECTIONS,
        max_streams: 16,
        drain: Duration::from_secs(1),
        ..server::Config::default()
    };
    let answering = Arc::clone(&site);
    let service = move |request: Request<Incoming>, connection: server::Connection| {
        let site = Arc::clone(&answering);
        async move { Ok(answer(&site, request, connection).await) }
    };
    let serving = server::Server::new(limits);
    tokio::join!(serving.serve(Door { tls, ..Door::from(listener) }, stop, service), site.watch());
}

async fn answer(
    site: &Site,
    request: Request<Incoming>,
    connection: server::Connection,
) -> Response<Body> {
    let (head, incoming) = request.into_parts();
    let body = match head.method {
        Method::POST => match read_whole(incoming, MAX_FORM, PATIENCE).await {
            Ok(body) => body,
            Err(BodyError::TooLong(_)) => return site.too_long(),
            Err(_) => return site.broken_off(),
        },
        _ => Bytes::new(),
    };
    site.answer(&head, &body, connection.peer.ip()).await
}
