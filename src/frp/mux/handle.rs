//! (room being built)

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::CloseReason;

/// The streams a peer opens.
#[derive(Debug)]
pub struct Incoming {}

impl Incoming {
    /// The next stream, or `None` once the session has ended.
    pub async fn accept(&mut self) -> Option<MuxStream> {
        None
    }
}

/// One stream of a session.
#[derive(Debug)]
pub struct MuxStream {}

impl AsyncRead for MuxStream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Watches and ends a session.
#[derive(Clone, Debug)]
pub struct Control {}

impl Control {
    /// Drops the connection and every stream now.
    pub fn abort(&self) {}

    /// Waits for the session's end.
    pub async fn closed(&self) -> CloseReason {
        CloseReason::Aborted
    }

    /// Streams open right now.
    pub fn open_streams(&self) -> usize {
        0
    }

    /// Round trip of the last answered ping.
    pub fn last_rtt(&self) -> Option<Duration> {
        None
    }
}
