//! A started work connection in a user's hands.
//!
//! frp has no half-close: whichever side ends first ends both (frpc closes the backend on our
//! FIN). So the end is sent once, and nothing is written after it; reading goes on until the
//! client has answered, because a response may still be under way.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Stream;
use crate::observe::metrics::metrics;

#[derive(Debug)]
pub(super) struct WorkStream {
    inner: Stream,
    ended: bool,
    _user: User,
}

impl WorkStream {
    pub(super) fn new(inner: Stream, user: User) -> Self {
        Self { inner, ended: false, _user: user }
    }
}

/// How many work connections of one client are in users' hands. Clones are one counter.
#[derive(Clone, Debug, Default)]
pub(super) struct Users(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct User(Users);

impl Users {
    /// Counts one more.
    pub(super) fn enter(&self) -> User {
        self.0.fetch_add(1, Ordering::Relaxed);
        User(self.clone())
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for WorkStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        metrics().tunnel_in((buf.filled().len() - before) as u64);
        polled
    }
}

impl AsyncWrite for WorkStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        counted(Pin::new(&mut self.inner).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        counted(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
            self.ended = true;
        }
        Poll::Ready(Ok(()))
    }
}

fn counted(written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    if let Poll::Ready(Ok(bytes)) = written {
        metrics().tunnel_out(bytes as u64);
    }
    written
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn the_answer_is_still_read_after_our_end_was_sent() {
        let (near, mut far) = tokio::io::duplex(64);
        let users = Users::default();
        let mut work = WorkStream::new(Stream::new(near), users.enter());
        work.write_all(b"question").await.unwrap();
        work.shutdown().await.unwrap();
        work.shutdown().await.unwrap();
        assert!(work.write_all(b"more").await.is_err());
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        far.write_all(b"answer").await.unwrap();
        drop(far);
        let mut answer = String::new();
        work.read_to_string(&mut answer).await.unwrap();
        assert_eq!((text.as_str(), answer.as_str()), ("question", "answer"));
        assert_eq!(users.count(), 1);
        drop(work);
        assert_eq!(users.count(), 0);
    }
}
