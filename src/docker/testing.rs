//! A stand-in for tests: an engine that answers what it was told to and remembers what it was
//! asked, over memory or a unix socket.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::Notify;

use super::engine::Engine;
use crate::net::{BoxFuture, Dial, Stream, Target};

type TestBody = UnsyncBoxBody<bytes::Bytes, Infallible>;

/// What the engine does when it is asked something.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Status and JSON.
    Json(u16, Value),
    /// Status and bytes.
    Bytes(u16, Vec<u8>),
    /// Nothing, ever.
    Silence,
    /// Two lines; the second one waits for the word.
    Lines(Arc<Notify>),
}

/// A request the engine has seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) call: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Cheap to clone; all clones are one engine. What it was not told about is 404.
#[derive(Clone, Default)]
pub(crate) struct Stub {
    answers: Arc<Mutex<HashMap<String, Vec<Answer>>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Told each time somebody stops waiting for a [`Answer::Silence`] to end.
    pub(crate) given_up: Arc<Notify>,
}

impl Stub {
    /// Answers this call, `METHOD /path`, with these one after the other; the last one stays.
    pub(crate) fn on(&self, call: &str, answers: impl IntoIterator<Item = Answer>) -> &Self {
        let answers = answers.into_iter().collect();
        self.answers.lock().unwrap().insert(call.to_owned(), answers);
        self
    }

    /// The same with one JSON answer.
    pub(crate) fn json(&self, call: &str, status: u16, body: Value) -> &Self {
        self.on(call, [Answer::Json(status, body)])
    }

    /// The same with an empty answer.
    pub(crate) fn status(&self, call: &str, status: u16) -> &Self {
        self.on(call, [Answer::Bytes(status, Vec::new())])
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Every call so far, as `METHOD /path`.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.call).collect()
    }

    /// The engine over memory.
    pub(crate) fn engine(&self) -> Engine {
        Engine::new(24000, Target::Tunnel(24000), Arc::new(self.clone()))
    }

    /// Serves on a unix socket for as long as the runtime lives.
    pub(crate) fn listen(&self, socket: &Path) {
        let listener = UnixListener::bind(socket).unwrap();
        let stub = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stub.serve(stream);
            }
        });
    }

    fn serve(&self, stream: impl crate::net::stream::Duplex + 'static) {
        let stub = self.clone();
        let service = service_fn(move |request| {
            let stub = stub.clone();
            async move { Ok::<_, Infallible>(stub.answer(request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<TestBody> {
        let (head, body) = request.into_parts();
        let call = format!("{} {}", head.method, head.uri.path());
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        self.seen.lock().unwrap().push(Seen {
            call: call.clone(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers,
            body,
        });
        let answer = match self.answers.lock().unwrap().get_mut(&call) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
            None => Answer::Json(404, json!({ "message": format!("nothing at {call}") })),
        };
        let (status, body, kind) = match answer {
            Answer::Json(status, body) => {
                (status, Full::new(body.to_string().into()).boxed_unsync(), "application/json")
            }
            Answer::Bytes(status, bytes) => {
                (status, Full::new(bytes.into()).boxed_unsync(), "application/x-tar")
            }
            Answer::Silence => {
                let _given_up = GivenUp(Arc::clone(&self.given_up));
                std::future::pending().await
            }
            Answer::Lines(word) => {
                let lines = futures_util::stream::unfold((0, word), |(line, word)| async move {
                    if line == 1 {
                        word.notified().await;
                    }
                    let piece = bytes::Bytes::from(format!("line {line}\n"));
                    (line < 2).then_some((Ok(Frame::data(piece)), (line + 1, word)))
                });
                (200, StreamBody::new(lines).boxed_unsync(), "application/json")
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status.try_into().unwrap();
        response.headers_mut().insert(CONTENT_TYPE, kind.parse().unwrap());
        response
    }
}

/// Tells when nobody waits for an answer any more.
struct GivenUp(Arc<Notify>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Dial for Stub {
    fn dial<'a>(&'a self, _to: &'a Target) -> BoxFuture<'a, io::Result<Stream>> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        self.serve(far);
        Box::pin(async { Ok(Stream::new(near)) })
    }
}

/// Something at the other end that is no engine: it says this and no more.
pub(crate) struct Speaks(pub(crate) &'static [u8]);

impl Dial for Speaks {
    fn dial<'a>(&'a self, _to: &'a Target) -> BoxFuture<'a, io::Result<Stream>> {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let words = self.0;
        tokio::spawn(async move {
            // Not before it has been asked.
            let _ = far.read(&mut [0; 1024]).await;
            let _ = far.write_all(words).await;
        });
        Box::pin(async { Ok(Stream::new(near)) })
    }
}

/// An engine behind `dial`.
pub(crate) fn engine_behind(dial: impl Dial) -> Engine {
    Engine::new(24007, Target::Tunnel(24007), Arc::new(dial))
}
