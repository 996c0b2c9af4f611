//! The one body type that passes through the proxy, and the ways to read a body whole.
//!
//! Bodies stream: nothing here collects more than a caller asked for. What a stalled peer may
//! cost is bounded by the idle limit, not by a limit on size.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::observe::metrics::metrics;
use crate::observe::transfer::Notes;

/// A request or response body: nothing, a few bytes of our own, or a stream from a peer.
#[derive(Default)]
pub struct Body {
    kind: Kind,
    /// Kept until the last byte was handed on, or the body is dropped.
    held: Option<Box<dyn Send>>,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Stream(Idle),
    /// A stream, and what it comes from.
    Sourced(Idle, Box<dyn Source>),
    /// Whatever a task of our own tells, for as long as it likes.
    Told(mpsc::Receiver<Bytes>),
}

/// What a streamed body comes from. Dropping it unfinished means that the body was abandoned.
pub trait Source: Send {
    /// The body has nothing to hand on: gets what it can, and has `cx` woken when there is more.
    fn advance(&mut self, cx: &mut Context<'_>);

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
    upload: Upload,
}

/// Whether it is a request's body, and who wants to know of it.
enum Upload {
    No,
    Counted,
    Noted(Notes),
}

/// How a body that is being read gets on. Clones watch the same body.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Mutex<(Instant, bool)>>);

impl Progress {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((Instant::now(), false))))
    }

    /// When the last piece was taken; at first, when the watching began.
    pub fn last(&self) -> Instant {
        self.lock().0
    }

    /// Whether the last piece there is was taken.
    pub fn is_over(&self) -> bool {
        self.lock().1
    }

    fn mark(&self, over: bool) {
        *self.lock() = (Instant::now(), over);
    }

    fn lock(&self) -> MutexGuard<'_, (Instant, bool)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        Self::of(Kind::Empty)
    }

    /// A body of these bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::of(if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) })
    }

    /// A peer's body; reading it fails when nothing comes for `idle`.
    pub fn stream(incoming: Incoming, idle: Duration) -> Self {
        if incoming.is_end_stream() {
            return Self::of(Kind::Empty);
        }
        Self::of(Kind::Stream(Idle::new(incoming, idle)))
    }

    /// Like [`Body::stream`], for a request's body on its way to an ExApp: it is counted, and
    /// noted for the access log.
    pub fn upload(incoming: Incoming, idle: Duration, notes: Option<Notes>) -> Self {
        let mut body = Self::stream(incoming, idle);
        if let Kind::Stream(idle) = &mut body.kind {
            idle.upload = notes.map_or(Upload::Counted, Upload::Noted);
        }
        body
    }

    /// Like [`Body::stream`], for a body that only comes if its source is polled.
    pub fn from_source(incoming: Incoming, idle: Duration, source: Box<dyn Source>) -> Self {
        if incoming.is_end_stream() {
            source.finished();
            return Self::of(Kind::Empty);
        }
        Self::of(Kind::Sourced(Idle::new(incoming, idle), source))
    }

    /// A body of our own that is not over until its sender is dropped.
    pub fn events(told: mpsc::Receiver<Bytes>) -> Self {
        Self::of(Kind::Told(told))
    }

    /// Keeps `guard` until the body is over, however it ends.
    #[must_use]
    pub fn holding(mut self, guard: impl Send + 'static) -> Self {
        if !self.is_end_stream() {
            self.held = Some(Box::new(guard));
        }
        self
    }

    /// The same body once more, if it is at hand whole.
    pub fn again(&self) -> Option<Self> {
        match &self.kind {
            Kind::Empty => Some(Self::empty()),
            Kind::Full(bytes) => Some(Self::full(bytes.clone())),
            Kind::Stream(_) | Kind::Sourced(..) | Kind::Told(_) => None,
        }
    }

    fn of(kind: Kind) -> Self {
        Self { kind, held: None }
    }

    /// Lets the caller see how a streamed body is getting on; `None` for one that is whole.
    pub fn progress(&mut self) -> Option<Progress> {
        match &mut self.kind {
            Kind::Empty | Kind::Full(_) | Kind::Told(_) => None,
            Kind::Stream(idle) | Kind::Sourced(idle, _) => {
                Some(idle.progress.get_or_insert_with(Progress::new).clone())
            }
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Empty => "Body(empty)",
            Kind::Full(_) => "Body(full)",
            Kind::Stream(_) | Kind::Sourced(..) | Kind::Told(_) => "Body(stream)",
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
        let polled = match &mut self.kind {
            Kind::Empty => return Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::empty();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Kind::Told(told) => {
                return told.poll_recv(cx).map(|told| told.map(|bytes| Ok(Frame::data(bytes))));
            }
            Kind::Stream(idle) => idle.poll(cx, |_| {}),
            Kind::Sourced(idle, source) => idle.poll(cx, |cx| source.advance(cx)),
        };
        let over = match &polled {
            Poll::Pending => false,
            // Nothing follows trailers, and whoever passes them on does not ask.
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || self.is_end_stream(),
            Poll::Ready(Some(Err(_))) => {
                *self = Self::empty();
                false
            }
            Poll::Ready(None) => true,
        };
        if over {
            self.held = None;
            match std::mem::take(&mut self.kind) {
                Kind::Stream(idle) => idle.mark(true),
                Kind::Sourced(_, source) => source.finished(),
                Kind::Empty | Kind::Full(_) | Kind::Told(_) => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(_) | Kind::Told(_) => false,
            Kind::Stream(idle) | Kind::Sourced(idle, _) => idle.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Told(_) => SizeHint::default(),
            Kind::Stream(idle) | Kind::Sourced(idle, _) => idle.incoming.size_hint(),
        }
    }
}

impl Idle {
    fn new(incoming: Incoming, limit: Duration) -> Self {
        let (timer, progress, upload) = (None, None, Upload::No);
        Self { incoming, limit, timer, armed: false, progress, upload }
    }

    fn mark(&self, over: bool) {
        if let Some(progress) = &self.progress {
            progress.mark(over);
        }
    }

    /// The clock is only touched while the peer keeps us waiting: a body that is there already
    /// costs no timer. `advance` is called when there is nothing, and may bring something.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        advance: impl FnOnce(&mut Context<'_>),
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_pending() {
            advance(cx);
            polled = Pin::new(&mut self.incoming).poll_frame(cx);
        }
        if let Poll::Ready(frame) = polled {
            self.armed = false;
            self.mark(false);
            if let Some(Ok(frame)) = &frame
                && let Some(bytes) = frame.data_ref()
            {
                self.upload.passed(bytes.len() as u64);
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

impl Upload {
    fn passed(&self, bytes: u64) {
        match self {
            Self::No => return,
            Self::Counted => {}
            Self::Noted(notes) => notes.received(bytes),
        }
        metrics().http.request_bytes.inc_by(bytes);
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
