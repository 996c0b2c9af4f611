//! One client connection: TLS if the listener has it, then HTTP/1.1 or HTTP/2.
//!
//! Which of the two: by ALPN under TLS, else by the first bytes (RFC 9113 section 3.3). Framing is
//! hyper's, with these guarantees (each has a test): differing `Content-Length` lines, a
//! `Content-Length` beside a `Transfer-Encoding`, a `Transfer-Encoding` that does not end in
//! `chunked` or a target with a fragment get 400 and the connection closes, as it does at a bad
//! chunk; more than 100 headers (hyper's own number, which it parses without an allocation, and
//! HaRP's) or too large ones get 431. A head that was begun and is not complete within the
//! deadline gets 408; a connection that stays silent is closed.

use std::error::Error as StdError;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::body::{Body, BodyError};
use super::framing::Tap;
use super::season::Stay;
use super::server::{Abort, Config, Connection};
use super::tls::{self, TlsVersion};
use crate::net::Socket;
use crate::observe::metrics::metrics;

/// How a client of HTTP/2 opens a connection; up to here no client of HTTP/1 does.
const PREFACE: [u8; 4] = *b"PRI ";

/// Pause before looking again at a preface that came in part.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long a client may go on sending what nobody reads any more. A socket that is closed with
/// bytes unread resets the connection, and the client may lose the answer it was sent.
const LINGER: Duration = Duration::from_secs(5);

/// What one stream, and one connection, may have sent that was not read yet.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Most bytes of a response that wait for an HTTP/2 client, per stream.
const SEND_BUFFER: usize = 64 * 1024;

const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\n\
    content-length: 19\r\nconnection: close\r\n\r\n408 Request Timeout";

/// Speaks with the clients of one listener.
#[derive(Clone)]
pub(super) struct Speaker<S> {
    terms: Arc<Terms>,
    stop: CancellationToken,
    service: S,
}

struct Terms {
    head: Duration,
    standstill: Duration,
    handshake: Duration,
    max_head_bytes: usize,
    max_streams: u32,
    http1: http1::Builder,
    /// For one request per connection.
    http1_once: http1::Builder,
    tls: Option<TlsAcceptor>,
}

impl<S, F, B> Speaker<S>
where
    S: Fn(Request<Incoming>, Connection) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, Abort>> + Send + 'static,
    B: HttpBody<Data = Bytes, Error = BodyError> + From<Body> + Send + 'static,
{
    pub(super) fn new(
        config: &Config,
        tls: Option<TlsAcceptor>,
        stop: CancellationToken,
        service: S,
    ) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(config.head)
            .max_header_size(config.max_head_bytes)
            // Bounds what an unfinished head may pile up; also the largest single read of a body.
            .max_buf_size(config.max_head_bytes.saturating_mul(2).max(8192))
            // A proxy passes the origin's Date on and adds none of its own, as HaRP.
            .auto_date_header(false);
        let mut http1_once = http1.clone();
        http1_once.keep_alive(false);
        let terms = Terms {
            head: config.head,
            standstill: config.standstill,
            handshake: config.handshake,
            max_head_bytes: config.max_head_bytes,
            max_streams: config.max_streams,
            http1,
            http1_once,
            tls,
        };
        Self { terms: Arc::new(terms), stop, service }
    }

    /// Serves one connection to its end. After the stop no new request is begun.
    pub(super) async fn speak(self, stream: Socket, mut connection: Connection, stay: Stay) {
        let peer = connection.peer;
        let Some(acceptor) = &self.terms.tls else {
            let first = tokio::select! {
                first = timeout(self.terms.head, is_http2(&stream)) => first,
                () = self.told_to_end(&stay) => return,
            };
            return match first {
                Ok(Ok(false)) => self.http1(stream, connection, stay).await,
                // Boxed, as what follows, so that the many that do without pay nothing for it.
                Ok(Ok(true)) => Box::pin(self.http2(stream, connection, stay)).await,
                Ok(Err(_)) | Err(_) => {}
            };
        };
        let accepted = Box::pin(timeout(self.terms.handshake, acceptor.accept(stream)));
        let accepted = tokio::select! {
            accepted = accepted => accepted.unwrap_or_else(|late| Err(late.into())),
            () = self.told_to_end(&stay) => return,
        };
        let version = accepted.as_ref().ok().map(|stream| TlsVersion::of(stream.get_ref().1));
        metrics().shook_hands(version.map_or("none", TlsVersion::as_str), version.is_some());
        connection.tls = version;
        match accepted {
            Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(tls::H2) => {
                Box::pin(self.http2(stream, connection, stay)).await;
            }
            Ok(stream) => Box::pin(self.http1(stream, connection, stay)).await,
            Err(error) => {
                tracing::debug!(client.addr = %peer, %error, "TLS handshake was not completed");
            }
        }
    }

    /// Resolves when the server stops, or is about to be left and this connection is one of those
    /// that end for it.
    async fn told_to_end(&self, stay: &Stay) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = stay.over() => {}
        }
    }

    async fn http1<I>(&self, io: I, connection: Connection, stay: Stay)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = connection.peer;
        let (io, doubt) = Tap::new(io);
        let service = service_fn(|request| {
            let accepted = !doubt.is_raised();
            let served = accepted.then(|| (self.service)(request, connection.clone()));
            async move {
                match served {
                    Some(served) => served.await,
                    None => Ok(refuse_and_close().map(B::from)),
                }
            }
        });
        let terms = &self.terms;
        let builder = if stay.is_brief() { &terms.http1_once } else { &terms.http1 };
        let serving = builder.serve_connection(TokioIo::new(io), service);
        let mut serving = serving.with_upgrades();
        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = self.told_to_end(&stay) => {
                Pin::new(&mut serving).graceful_shutdown();
                (&mut serving).await
            }
        };
        // No request is in flight any more.
        drop(stay);
        // Nothing is left of one that was upgraded.
        let left = serving.into_parts();
        match (ended, left) {
            (Ok(()), Some(parts)) if !self.stop.is_cancelled() => {
                discard(&mut parts.io.into_inner()).await;
            }
            (Ok(()), _) => {}
            (Err(error), Some(parts)) if error.is_timeout() && !parts.read_buf.is_empty() => {
                say_goodbye(&mut parts.io.into_inner(), TOO_SLOW).await;
            }
            (Err(error), _) => tell_end(peer, &error),
        }
    }

    async fn http2<I>(&self, io: I, connection: Connection, stay: Stay)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = connection.peer;
        let streams = Streams::new(self.terms.standstill);
        let dropped = CancellationToken::new();
        let service = service_fn(|request| {
            let served = (self.service)(request, connection.clone());
            let dropped = dropped.clone();
            async move {
                let answer = served.await;
                if matches!(answer, Err(Abort::Connection)) {
                    dropped.cancel();
                }
                answer
            }
        });
        let builder = self.terms.http2(streams.clone());
        let mut serving = pin!(builder.serve_connection(TokioIo::new(io), service));
        let leave = async {
            tokio::select! {
                () = self.told_to_end(&stay) => None,
                () = streams.quiet(self.terms.head) => Some(self.terms.head),
            }
        };
        let ended = tokio::select! {
            ended = serving.as_mut() => Some(ended),
            () = dropped.cancelled() => None,
            farewell = leave => {
                // GOAWAY; what was begun goes on, and after a stop the drain bounds it.
                serving.as_mut().graceful_shutdown();
                let farewell = async {
                    match farewell {
                        Some(within) => sleep(within).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    ended = serving.as_mut() => Some(ended),
                    () = dropped.cancelled() => None,
                    () = farewell => None,
                }
            }
        };
        if let Some(Err(error)) = ended {
            tell_end(peer, &error);
        }
    }
}

impl Terms {
    fn http2(&self, streams: Streams) -> http2::Builder<Streams> {
        let mut builder = http2::Builder::new(streams);
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.max_head_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(self.max_streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            // WebSockets (RFC 8441).
            .enable_connect_protocol()
            .auto_date_header(false);
        builder
    }
}

/// The streams of one HTTP/2 connection, each a task of its own, and whether there are any.
#[derive(Clone)]
struct Streams {
    count: Arc<Count>,
    /// Longest time a stream may stand still.
    standstill: Duration,
}

#[derive(Default)]
struct Count {
    open: AtomicUsize,
    begun: AtomicU64,
}

tokio::task_local! {
    /// Set in the task of a stream.
    static IN_STREAM: ();
}

/// One stream, or one direction of an upgraded one.
struct Open(Arc<Count>);

impl Streams {
    fn new(standstill: Duration) -> Self {
        Self { count: Arc::default(), standstill }
    }

    /// Resolves when there was no stream for at least `within`, at most twice that.
    async fn quiet(&self, within: Duration) {
        loop {
            let before = self.count.begun.load(Ordering::Relaxed);
            sleep(within).await;
            let open = self.count.open.load(Ordering::Relaxed);
            if open == 0 && self.count.begun.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        self.count.open.fetch_add(1, Ordering::Relaxed);
        self.count.begun.fetch_add(1, Ordering::Relaxed);
        let open = Open(Arc::clone(&self.count));
        let standstill = self.standstill;
        // What a stream starts is the sending half of its upgrade. It moves with what is sent only,
        // and those who joined it know how long it may be idle.
        let is_upgrade = IN_STREAM.try_with(|()| ()).is_ok();
        tokio::spawn(async move {
            let _open = open;
            if is_upgrade {
                stream.await;
            } else {
                IN_STREAM.scope((), while_it_moves(stream, standstill)).await;
            }
        });
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs a stream to its end, or until it has not been woken for `standstill`; dropping it resets
/// it.
async fn while_it_moves(stream: impl Future, standstill: Duration) {
    let mut stream = pin!(stream);
    let mut timer = pin!(sleep(standstill));
    let mut last = Instant::now();
    poll_fn(|cx| {
        // The timer is moved when it fires, not with every piece.
        if timer.as_mut().poll(cx).is_ready() {
            let due = last + standstill;
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
            let _ = timer.as_mut().poll(cx);
        } else {
            last = Instant::now();
        }
        stream.as_mut().poll(cx).map(|_| ())
    })
    .await;
}

/// Looks at the first bytes and leaves them where they are.
async fn is_http2(stream: &Socket) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut first).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first[..seen] != PREFACE[..seen] {
            return Ok(false);
        }
        if seen == PREFACE.len() {
            return Ok(true);
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn tell_end(peer: std::net::SocketAddr, error: &hyper::Error) {
    let aborted = error.source().is_some_and(|source| source.is::<Abort>());
    tracing::debug!(client.addr = %peer, aborted, %error, "connection ended early");
}

async fn say_goodbye<I: AsyncRead + AsyncWrite + Unpin>(io: &mut I, words: &[u8]) {
    let said = async {
        io.write_all(words).await?;
        io.shutdown().await
    };
    if let Ok(Ok(())) = timeout(LINGER, said).await {
        discard(io).await;
    }
}

/// Reads on for a while, so that a client that is still sending gets to read our last words.
async fn discard<I: AsyncRead + Unpin>(io: &mut I) {
    let end = poll_fn(|cx| {
        let mut chunk = [MaybeUninit::<u8>::uninit(); 16 * 1024];
        loop {
            let mut buffer = ReadBuf::uninit(&mut chunk);
            let read = ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    });
    // Whether the end came or not, there is nothing more to do.
    let _ = timeout(LINGER, end).await;
}

fn refuse_and_close() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
