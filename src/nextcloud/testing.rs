//! A stand-in for tests: Nextcloud with AppAPI, answering as contract 2 says.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HeaderMap, LOCATION};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

pub(crate) const KEY: &str = "the shared key";

pub(crate) type TestBody = UnsyncBoxBody<Bytes, Infallible>;

pub(crate) fn full(bytes: impl Into<Bytes>) -> TestBody {
    Full::new(bytes.into()).boxed_unsync()
}

/// Accepts for ever and answers with `handler`.
pub(crate) async fn serve<H, F>(handler: H) -> SocketAddr
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<TestBody>, io::Error>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let handler = handler.clone();
            tokio::spawn(
                server::Builder::new()
                    .max_headers(300)
                    .serve_connection(TokioIo::new(stream), service_fn(handler))
                    .with_upgrades(),
            );
        }
    });
    address
}

/// Nextcloud with AppAPI, as far as a proxy can tell.
#[derive(Default)]
pub(crate) struct Nextcloud {
    pub(crate) apps: Mutex<HashMap<String, serde_json::Value>>,
    /// The shared key it knows, if not [`KEY`].
    pub(crate) key: Mutex<Option<&'static str>>,
    pub(crate) meta_calls: AtomicUsize,
    pub(crate) user_calls: AtomicUsize,
    /// When not 0, every call is answered with this status.
    pub(crate) fault: AtomicU16,
    /// The headers of the last `user-info` call.
    pub(crate) last_user_headers: Mutex<HeaderMap>,
}

impl Nextcloud {
    pub(crate) async fn start() -> (Arc<Self>, String) {
        let nextcloud = Arc::new(Self::default());
        let shared = Arc::clone(&nextcloud);
        let address = serve(move |request| {
            let answer = shared.answer(&request);
            async move {
                // Long enough for simultaneous calls to meet.
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(answer)
            }
        })
        .await;
        (nextcloud, format!("http://{address}/index.php/"))
    }

    pub(crate) fn register(&self, id: &str, host: &str, port: u16, routes: &[(&str, u8)]) {
        let routes: Vec<_> = routes
            .iter()
            .map(|(url, level)| {
                serde_json::json!({
                    "url": url, "access_level": level, "bruteforce_protection": [401],
                })
            })
            .collect();
        let record = serde_json::json!({
            "exapp_token": "secret", "exapp_version": "1.2.3", "host": host, "port": port,
            "routes": routes,
        });
        self.apps.lock().unwrap().insert(id.to_owned(), record);
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<TestBody> {
        let headers = request.headers();
        let meta = request.uri().path() == "/index.php/apps/app_api/harp/exapp-meta";
        let calls = if meta { &self.meta_calls } else { &self.user_calls };
        calls.fetch_add(1, Ordering::SeqCst);
        let fault = self.fault.load(Ordering::SeqCst);
        if fault != 0 {
            return html(StatusCode::from_u16(fault).unwrap());
        }
        let id = request.uri().query().unwrap().strip_prefix("appId=").unwrap();
        let record = self.apps.lock().unwrap().get(id).cloned();
        let key = self.key.lock().unwrap().unwrap_or(KEY);
        let Some(record) = record.filter(|_| headers["harp-shared-key"] == key) else {
            let text = serde_json::json!({"message": "Harp shared key is not valid"});
            return json(StatusCode::UNAUTHORIZED, &text);
        };
        if meta {
            return json(StatusCode::OK, &record);
        }
        *self.last_user_headers.lock().unwrap() = headers.clone();
        user(headers)
    }
}

/// Sessions are cookies `ocinstance=<user>-session`; any password but `wrong` is right.
fn user(headers: &HeaderMap) -> Response<TestBody> {
    let who = |id: &str| {
        let level = match id {
            "" => 0,
            "admin" => 2,
            _ => 1,
        };
        json(StatusCode::OK, &serde_json::json!({"user_id": id, "access_level": level}))
    };
    if let Some(basic) = headers.get("authorization") {
        let pair = STANDARD.decode(basic.to_str().unwrap().replace("Basic ", "")).unwrap();
        let pair = String::from_utf8(pair).unwrap();
        return match pair.split_once(':').unwrap() {
            (_, "wrong") => json(StatusCode::UNAUTHORIZED, &serde_json::json!({"message": ""})),
            (id, _) => who(id),
        };
    }
    let cookies = headers.get(COOKIE).map_or("", |line| line.to_str().unwrap());
    if !cookies.contains("nc_sameSiteCookielax=true") {
        let mut response = html(StatusCode::FOUND);
        response.headers_mut().insert(LOCATION, "/index.php".parse().unwrap());
        return response;
    }
    let session = cookies.split("; ").find_map(|pair| pair.strip_prefix("ocinstance="));
    who(session.and_then(|value| value.strip_suffix("-session")).unwrap_or_default())
}

pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response<TestBody> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = status;
    let kind = "application/json; charset=utf-8".parse().unwrap();
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

pub(crate) fn html(status: StatusCode) -> Response<TestBody> {
    let mut response = Response::new(full("<html>"));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, "text/html".parse().unwrap());
    response
}
