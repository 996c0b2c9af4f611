//! Pooled HTTP/1.1 connections over any [`Dial`]: to ExApps by TCP or tunnel, and to Nextcloud.
//!
//! The pool is keyed by [`Target`], hands out the connection used last, and takes one back when
//! the response body has been read to its end. A request that a dying pooled connection had not
//! begun to send is moved to another one; nothing else is ever sent twice.

use std::collections::HashMap;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Context;
use std::time::Duration;

use futures_util::TryFutureExt;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use tokio::time::{Instant, timeout, timeout_at};

use super::body::{Body, BodyError, Progress, Source};
use super::link::Link;
use crate::net::{Dial, Target};
use crate::observe::transfer::{End, Notes};

/// Limits of a client.
#[derive(Clone, Debug)]
pub struct Config {
    /// Longest wait for a connection, handshake included.
    pub connect: Duration,
    /// Longest wait for the response head after the last piece of the request body was taken, and
    /// between two pieces of the response body.
    pub response: Duration,
    /// Longest wait between two pieces of the request body, which the visitor owes us.
    pub request_body: Duration,
    /// A pooled connection unused for this long is closed. Keep it below the keep-alive of
    /// common ExApp servers, or every second request meets a connection about to close.
    pub idle: Duration,
    /// Pooled connections per target; more are closed after use.
    pub max_idle: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            response: Duration::from_secs(1800),
            request_body: Duration::from_secs(30),
            idle: Duration::from_secs(4),
            max_idle: 256,
        }
    }
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No tunnel is registered under the port, on any node.
    #[error("upstream: no tunnel is registered")]
    NoTunnel,
    /// The tunnel is known but did not come back in time.
    #[error("upstream: the tunnel did not come back in time")]
    TunnelAbsent,
    /// No connection within the connect deadline.
    #[error("upstream: no connection in time")]
    ConnectTimeout,
    /// The connection was refused or failed on the way.
    #[error("upstream: connect failed")]
    Connect(#[source] io::Error),
    /// The upstream closed early or answered something that is not HTTP.
    #[error("upstream: broke the exchange")]
    Broke(#[source] hyper::Error),
    /// The visitor's request body broke off; the upstream is not to blame.
    #[error("upstream: the request body broke off")]
    RequestBroken,
    /// The visitor sent nothing more of its request body for too long.
    #[error("upstream: the request body stalled")]
    RequestStalled,
    /// Connected, but no response head within the response deadline.
    #[error("upstream: no response in time")]
    Silent,
}

impl Error {
    /// A stable word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoTunnel => "no_tunnel",
            Self::TunnelAbsent => "tunnel_absent",
            Self::ConnectTimeout => "connect_timeout",
            Self::Connect(_) => "connect",
            Self::Broke(_) => "broke",
            Self::RequestBroken => "request_broken",
            Self::RequestStalled => "request_stalled",
            Self::Silent => "silent",
        }
    }

    /// How a request ended that could not be sent because of it.
    pub fn end(&self) -> End {
        match self {
            Self::TunnelAbsent | Self::ConnectTimeout => End::TimeoutConnect,
            Self::NoTunnel | Self::Connect(_) | Self::Broke(_) => End::UpstreamAbort,
            Self::RequestBroken => End::ClientAbort,
            Self::RequestStalled => End::TimeoutClient,
            Self::Silent => End::TimeoutUpstream,
        }
    }
}

/// A request without a response, and the request itself if no byte of it was sent.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub error: Error,
    /// To be sent elsewhere, perhaps.
    pub unsent: Option<Box<Request<Body>>>,
}

/// Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    dial: Arc<dyn Dial>,
    config: Config,
    /// Never locked across an await.
    idle: Mutex<HashMap<Target, Vec<Idle>>>,
}

struct Idle {
    link: Link,
    since: Instant,
}

impl Client {
    /// A client over `dial`. Call it within a runtime: a task sweeps the pool while the client
    /// lives.
    pub fn new(dial: Arc<dyn Dial>, config: Config) -> Self {
        let inner = Arc::new(Inner { dial, config, idle: Mutex::default() });
        tokio::spawn(sweep(Arc::downgrade(&inner), inner.config.idle));
        Self { inner }
    }

    /// The limits this client was made with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Sends one request (origin-form target, `Host` already set) and waits for the response
    /// head. A 101 response carries the upgrade in its extensions.
    ///
    /// # Errors
    /// [`Error`] says who is at fault; only a request that was never begun is sent again.
    pub fn send(
        &self,
        to: &Target,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, Error>> + Send {
        self.try_send(to, request).map_err(|failure| failure.error)
    }

    /// The same for callers who know somebody else to ask.
    ///
    /// # Errors
    /// As [`Client::send`], with the request if nobody has seen it.
    pub async fn try_send(
        &self,
        to: &Target,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let sent = |error| Failure { error, unsent: None };
        let upload = request.body_mut().progress();
        let notes = request.extensions_mut().remove::<Notes>();
        loop {
            let (mut link, reused) = match self.connection(to, notes.as_ref()).await {
                Ok(connection) => connection,
                Err(error) => return Err(Failure::unsent(error, request, notes)),
            };
            let answered = self.answered(pin!(link.send(request)), upload.as_ref()).await;
            match answered {
                None => return Err(sent(Error::Silent)),
                Some(Ok(response)) => {
                    if upload.is_some_and(|upload| !upload.is_over()) {
                        // The rest must not wait for a visitor who reads the answer only then.
                        link.detach();
                    }
                    return Ok(self.receive(to, link, response));
                }
                Some(Err(mut failed)) => match failed.take_message() {
                    Some(unsent) if reused => request = unsent,
                    Some(unsent) => {
                        return Err(Failure::unsent(blame(failed.into_error()), unsent, notes));
                    }
                    None => return Err(sent(blame(failed.into_error()))),
                },
            }
        }
    }

    /// Waits for the response head, `None` when it does not come in time. An upload that moves
    /// may take as long as it likes.
    async fn answered<F: Future>(
        &self,
        mut sent: Pin<&mut F>,
        upload: Option<&Progress>,
    ) -> Option<F::Output> {
        let mut due = Instant::now() + self.inner.config.response;
        loop {
            if let Ok(answer) = timeout_at(due, sent.as_mut()).await {
                return Some(answer);
            }
            let later = upload?.last() + self.inner.config.response;
            if later <= due {
                return None;
            }
            due = later;
        }
    }

    fn receive(&self, to: &Target, mut link: Link, response: Response<Incoming>) -> Response<Body> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            link.detach();
            return response.map(|_none| Body::empty());
        }
        let source = Lent { pool: Arc::downgrade(&self.inner), to: to.clone(), link };
        let silence = self.inner.config.response;
        response.map(|incoming| Body::from_source(incoming, silence, Box::new(source)))
    }

    /// A pooled connection if one is alive, else a new one.
    async fn connection(&self, to: &Target, notes: Option<&Notes>) -> Result<(Link, bool), Error> {
        if let Some(link) = self.inner.take(to) {
            return Ok((link, true));
        }
        // Boxed: a request that finds a connection is not to carry this along.
        let connected = Box::pin(timeout(self.inner.config.connect, self.connect(to, notes))).await;
        Ok((connected.map_err(|_elapsed| Error::ConnectTimeout)??, false))
    }

    async fn connect(&self, to: &Target, notes: Option<&Notes>) -> Result<Link, Error> {
        let began = Instant::now();
        let stream = self.inner.dial.dial(to).await.map_err(|error| match (error.kind(), to) {
            (io::ErrorKind::NotFound, Target::Tunnel(_)) => Error::NoTunnel,
            (io::ErrorKind::TimedOut, Target::Tunnel(_)) => Error::TunnelAbsent,
            (io::ErrorKind::TimedOut, Target::Tcp { .. }) => Error::ConnectTimeout,
            _ => Error::Connect(error),
        })?;
        let link = Link::open(stream).await.map_err(Error::Broke)?;
        if let Some(notes) = notes {
            notes.connected(began.elapsed());
        }
        Ok(link)
    }
}

impl Failure {
    fn unsent(error: Error, mut request: Request<Body>, notes: Option<Notes>) -> Self {
        if let Some(notes) = notes {
            request.extensions_mut().insert(notes);
        }
        Self { error, unsent: Some(Box::new(request)) }
    }
}

impl Inner {
    /// The connection given back last that can take a request. Those that cannot yet stay: the
    /// upstream answered before it had taken the whole request.
    fn take(&self, to: &Target) -> Option<Link> {
        let now = Instant::now();
        let mut pool = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = pool.get_mut(to)?;
        let last = kept.iter_mut().rposition(|idle| idle.link.is_ready())?;
        let fresh = now.duration_since(kept[last].since) < self.config.idle;
        fresh.then(|| kept.remove(last).link)
    }

    fn put(&self, to: Target, link: Link) {
        let mut pool = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = pool.entry(to).or_default();
        if kept.len() < self.config.max_idle {
            kept.push(Idle { link, since: Instant::now() });
        }
    }
}

/// The connection a response body comes from; returned to the pool once that has been read.
struct Lent {
    pool: Weak<Inner>,
    to: Target,
    link: Link,
}

impl Source for Lent {
    fn advance(&mut self, cx: &mut Context<'_>) {
        self.link.advance(cx);
    }

    fn finished(self: Box<Self>) {
        let Self { pool, to, mut link } = *self;
        if !link.is_ready() {
            link.detach();
        }
        if let Some(inner) = pool.upgrade().filter(|_| !link.is_closed()) {
            inner.put(to, link);
        }
    }
}

/// Closes what has been idle too long, until the client is gone.
async fn sweep(pool: Weak<Inner>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(inner) = pool.upgrade() else { return };
        let mut pool = inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        pool.retain(|_, kept| {
            kept.retain(|idle| !idle.link.is_closed() && idle.since.elapsed() < every);
            !kept.is_empty()
        });
    }
}

/// Whether the failure came from the visitor's body or from the upstream.
fn blame(error: hyper::Error) -> Error {
    let body = std::error::Error::source(&error).and_then(|source| source.downcast_ref());
    match body {
        Some(BodyError::Idle(_)) => Error::RequestStalled,
        Some(_) => Error::RequestBroken,
        None => Error::Broke(error),
    }
}

#[cfg(test)]
mod tests;
