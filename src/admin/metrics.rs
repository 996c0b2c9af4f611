//! The listener Prometheus and load balancers ask: `/metrics`, `/healthz`, `/readyz`. It has no
//! key and tells no secret; who may reach it is the address it listens on.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::body::Body;
use crate::http::server;
use crate::observe::metrics::CONTENT_TYPE as METRICS;

/// Readers at a time; Prometheus is one.
const MAX_CONNECTIONS: usize = 32;

/// How long a reader may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the answers come from.
#[derive(Clone)]
pub struct Source {
    /// The text of `/metrics`.
    pub render: Arc<dyn Fn() -> String + Send + Sync>,
    /// What the node waits for before it can serve; empty when it is ready.
    pub waiting_for: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// Answers until `stop`.
pub async fn serve(listener: TcpListener, source: Source, stop: CancellationToken) {
    let limits = server::Config {
        head: PATIENCE,
        unread: PATIENCE,
        max_connections: MAX_CONNECTIONS,
        drain: Duration::ZERO,
        ..server::Config::default()
    };
    let service = move |request: Request<Incoming>, _| {
        let answer = source.answer(request.method(), request.uri().path());
        async move { Ok(answer) }
    };
    server::Server::new(limits).serve(listener, stop, service).await;
}

impl Source {
    fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        let plain = "text/plain; charset=utf-8";
        let (status, kind, text) = match path {
            "/metrics" => (StatusCode::OK, METRICS, (self.render)()),
            "/healthz" => (StatusCode::OK, plain, "alive\n".to_owned()),
            "/readyz" => {
                let missing = (self.waiting_for)();
                if missing.is_empty() {
                    (StatusCode::OK, plain, "ready\n".to_owned())
                } else {
                    let text = format!("not ready: waiting for {}\n", missing.join(", "));
                    (StatusCode::SERVICE_UNAVAILABLE, plain, text)
                }
            }
            _ => {
                let text = "404: there are /metrics, /healthz and /readyz\n".to_owned();
                (StatusCode::NOT_FOUND, plain, text)
            }
        };
        let mut response = if matches!(*method, Method::GET | Method::HEAD) {
            let mut response = Response::new(Body::full(text));
            *response.status_mut() = status;
            response
        } else {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(waiting_for: &'static [&'static str]) -> Source {
        Source {
            render: Arc::new(|| "trigon_up 1\n".to_owned()),
            waiting_for: Arc::new(|| waiting_for.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn who_asks_learns_whether_the_node_lives_and_whether_it_can_serve() {
        for (method, path, waiting, expected) in [
            (Method::GET, "/metrics", &[][..], 200),
            (Method::HEAD, "/metrics", &[], 200),
            (Method::POST, "/metrics", &[], 405),
            (Method::GET, "/healthz", &["the frp certificates"], 200),
            (Method::GET, "/readyz", &["the frp certificates"], 503),
            (Method::GET, "/readyz", &[], 200),
            (Method::GET, "/", &[], 404),
            (Method::GET, "/metrics/", &[], 404),
        ] {
            let answer = source(waiting).answer(&method, path);
            assert_eq!(answer.status().as_u16(), expected, "{method} {path}");
        }
    }
}
