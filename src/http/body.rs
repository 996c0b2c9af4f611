//! The one body type that passes through the proxy, and the ways to read a body whole.
//!
//! Bodies stream: nothing here collects more than a caller asked for. What a stalled peer may
//! cost is bounded by the idle limit, not by a limit on size.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

/// A request or response body: nothing, a few bytes of our own, or a stream from a peer.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Stream(Idle),
    /// A stream, and what has to happen once it has ended.
    Watched(Idle, Box<dyn Finish>),
}

/// Told once when a streamed body has been read to its end. Dropping it unseen means that the
/// body was abandoned before.
pub trait Finish: Send {
    /// The last byte was handed on.
    fn finished(self: Box<Self>);
}

/// A peer's body with a limit on the time between two frames.
struct Idle {
    incoming: Incoming,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    armed: bool,
    progress: Option<Progress>,
}

/// When a body was last read from. Clones watch the same body.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// When the last piece was taken; at first, when the watching began.
    pub fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection failed or the peer broke the framing.
    #[error("body: the transfer broke off")]
    Broken(#[source] hyper::Error),
    /// Nothing came for the whole idle limit.
    #[error("body: nothing came for {0:?}")]
    Idle(Duration),
    /// More bytes than the reader takes.
    #[error("body: longer than {0} bytes")]
    TooLong(usize),
}

impl Body {
    /// A body of nothing.
    pub fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// A body of these bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) })
    }

    /// A peer's body; reading it fails when nothing comes for `idle`.
    pub fn stream(incoming: Incoming, idle: Duration) -> Self {
        if incoming.is_end_stream() {
            return Self(Kind::Empty);
        }
        Self(Kind::Stream(Idle::new(incoming, idle)))
    }

    /// Like [`Body::stream`]; `finish` hears of the end.
    pub fn watched(incoming: Incoming, idle: Duration, finish: Box<dyn Finish>) -> Self {
        if incoming.is_end_stream() {
            finish.finished();
            return Self(Kind::Empty);
        }
        Self(Kind::Watched(Idle::new(incoming, idle), finish))
    }

    /// Lets the caller see how a streamed body is getting on; `None` for one that is whole.
    pub fn progress(&mut self) -> Option<Progress> {
        match &mut self.0 {
            Kind::Empty | Kind::Full(_) => None,
            Kind::Stream(idle) | Kind::Watched(idle, _) => {
                Some(idle.progress.get_or_insert_with(Progress::new).clone())
            }
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Empty => "Body(empty)",
            Kind::Full(_) => "Body(full)",
            Kind::Stream(_) | Kind::Watched(..) => "Body(stream)",
        })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.0 {
            Kind::Empty => return Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Kind::Stream(idle) | Kind::Watched(idle, _) => idle.poll(cx),
        };
        let over = match &polled {
            Poll::Pending => false,
            // Nothing follows trailers, and whoever passes them on does not ask.
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || self.is_end_stream(),
            Poll::Ready(Some(Err(_))) => {
                self.0 = Kind::Empty;
                false
            }
            Poll::Ready(None) => true,
        };
        if over && let Kind::Watched(_, finish) = std::mem::take(&mut self.0) {
            finish.finished();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Stream(idle) | Kind::Watched(idle, _) => idle.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(idle) | Kind::Watched(idle, _) => idle.incoming.size_hint(),
        }
    }
}

impl Idle {
    fn new(incoming: Incoming, limit: Duration) -> Self {
        Self { incoming, limit, timer: None, armed: false, progress: None }
    }

    /// The clock is only touched while the peer keeps us waiting: a body that is there already
    /// costs no timer.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            self.armed = false;
            if let Some(progress) = &self.progress {
                progress.mark();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)));
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| {
            self.armed = true;
            Box::pin(tokio::time::sleep(limit))
        });
        if !self.armed {
            self.armed = true;
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx).map(|()| Some(Err(BodyError::Idle(limit))))
    }
}

/// Reads a whole body of at most `limit` bytes from a peer that may pause for `idle`.
///
/// # Errors
/// [`BodyError::TooLong`] as soon as the limit is passed, else why the body broke off.
pub async fn read_whole(
    incoming: Incoming,
    limit: usize,
    idle: Duration,
) -> Result<Bytes, BodyError> {
    if incoming.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLong(limit));
    }
    match Limited::new(Body::stream(incoming, idle), limit).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) => Err(match error.downcast::<BodyError>() {
            Ok(broken) => *broken,
            Err(_length_limit) => BodyError::TooLong(limit),
        }),
    }
}
