//! What callers hold of a session: the streams that come in, one stream, and the session's remote
//! control. All three only translate between `session` and the async world.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::CloseReason;
use super::session::{StreamError, StreamKey};
use super::shell::Shared;

/// The streams a peer opens. Owns the session: dropping it drops the connection.
#[derive(Debug)]
pub struct Incoming {
    shared: Arc<Shared>,
}

impl Incoming {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The next stream, or `None` once the session has ended. Cancel safe.
    pub async fn accept(&mut self) -> Option<MuxStream> {
        poll_fn(|cx| {
            let key = self.shared.with(|state| match state.session.accept() {
                Some(key) => Poll::Ready(Some(key)),
                None if state.session.close_reason().is_some() => Poll::Ready(None),
                None => {
                    state.park_accept(cx);
                    Poll::Pending
                }
            });
            key.map(|key| key.map(|key| MuxStream { shared: Arc::clone(&self.shared), key }))
        })
        .await
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shared.with(|state| state.session.close(CloseReason::Aborted));
    }
}

/// One stream of a session. Its reader and writer may live in different tasks.
///
/// Shutdown sends FIN after everything written, and only once however often it is called. A
/// stream dropped after its shutdown lets the peer finish; one dropped without is reset, unless
/// the peer had already finished: then it is finished too. Written bytes leave on their own, a
/// flush never waits.
pub struct MuxStream {
    shared: Arc<Shared>,
    key: StreamKey,
}

impl AsyncRead for MuxStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.shared.with(|state| {
            let result =
                state.session.read(self.key, buf.remaining(), |bytes| buf.put_slice(bytes));
            if result.is_pending() {
                state.park_reader(self.key, cx);
            }
            result.map(|result| result.map(drop).map_err(io::Error::from))
        })
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shared.with(|state| {
            let result = state.session.write(self.key, data);
            if result.is_pending() {
                state.park_writer(self.key, cx);
            }
            result.map(|result| result.map_err(io::Error::from))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.with(|state| state.session.finish(self.key));
        Poll::Ready(Ok(()))
    }
}

impl Drop for MuxStream {
    fn drop(&mut self) {
        let waiting = self.shared.with(|state| {
            state.session.release(Instant::now().into_std(), self.key);
            state.unpark(self.key)
        });
        drop(waiting);
    }
}

impl fmt::Debug for MuxStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MuxStream").field(&self.key).finish()
    }
}

/// Watches and ends a session. Holding one keeps nothing alive.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
}

impl Control {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Lifts [`super::Config::probation`]: the peer has proved itself.
    pub fn admit(&self) {
        self.shared.with(|state| state.session.admit());
    }

    /// Drops the connection and every stream now; what was queued is lost.
    pub fn abort(&self) {
        self.shared.with(|state| state.session.close(CloseReason::Aborted));
    }

    /// Waits until the connection is gone and says why.
    pub async fn closed(&self) -> CloseReason {
        let mut closed = self.shared.closed.subscribe();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(CloseReason::Aborted),
            Err(_) => CloseReason::Aborted,
        }
    }

    /// Streams open right now, those waiting for the peer to close them included.
    pub fn open_streams(&self) -> usize {
        self.shared.with(|state| state.session.open_streams())
    }

    /// Round trip of the last answered ping; `None` before the first.
    pub fn last_rtt(&self) -> Option<Duration> {
        self.shared.with(|state| state.session.last_rtt())
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match error {
            StreamError::Reset => io::ErrorKind::ConnectionReset,
            StreamError::Finished => io::ErrorKind::BrokenPipe,
            StreamError::Closed(_) => io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, error)
    }
}
