//! Joins two byte streams until either ends: upgraded connections, tunnels.
//!
//! There is no half-close: the first end of stream or error in either direction ends both, as
//! frp does it (frpc would close its backend at a lone FIN anyway). Buffers are borrowed from the
//! stack while bytes move and kept only while a slow reader owes us a write, so that an idle pair
//! costs little more than its two sockets.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Bytes moved in one go.
const CHUNK: usize = 16 * 1024;

/// What became of a joined pair.
#[derive(Debug)]
pub struct Spliced {
    /// Bytes carried from the first stream to the second.
    pub forth: u64,
    /// Bytes carried from the second stream to the first.
    pub back: u64,
    /// Why it ended.
    pub end: End,
}

/// Why a joined pair ended.
#[derive(Debug)]
pub enum End {
    /// The first stream ended.
    FirstClosed,
    /// The second stream ended.
    SecondClosed,
    /// Nothing moved in either direction for the idle limit.
    Idle,
    /// One of the streams failed.
    Failed(io::Error),
}

/// Copies both ways until one side ends or fails, or nothing has moved for `idle`. Both streams
/// are shut down and dropped on return.
pub async fn splice<A, B>(mut a: A, mut b: B, idle: Duration) -> Spliced
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut forth = Half::default();
    let mut back = Half::default();
    let mut last_move = Instant::now();
    let timer = tokio::time::sleep_until(last_move + idle);
    tokio::pin!(timer);

    let end = poll_fn(|cx| {
        let before = forth.moved + back.moved;
        if let Poll::Ready(done) = forth.poll(cx, &mut a, &mut b) {
            return Poll::Ready(done.map_or_else(End::Failed, |()| End::FirstClosed));
        }
        if let Poll::Ready(done) = back.poll(cx, &mut b, &mut a) {
            return Poll::Ready(done.map_or_else(End::Failed, |()| End::SecondClosed));
        }
        if forth.moved + back.moved != before {
            last_move = Instant::now();
        }
        // The timer is moved when it fires, not with every byte.
        while timer.as_mut().poll(cx).is_ready() {
            let due = last_move + idle;
            if due <= Instant::now() {
                return Poll::Ready(End::Idle);
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    })
    .await;

    close(&mut a, &mut b).await;
    Spliced { forth: forth.moved, back: back.moved, end }
}

/// A peer that does not read must not keep the pair alive: one attempt each, no waiting.
async fn close<A, B>(a: &mut A, b: &mut B)
where
    A: AsyncWrite + Unpin,
    B: AsyncWrite + Unpin,
{
    poll_fn(|cx| {
        let _ = Pin::new(&mut *a).poll_shutdown(cx);
        let _ = Pin::new(&mut *b).poll_shutdown(cx);
        Poll::Ready(())
    })
    .await;
}

/// One direction.
#[derive(Default)]
struct Half {
    /// Read but not yet taken by the writer; empty (and unallocated) almost always.
    owed: Vec<u8>,
    owed_from: usize,
    unflushed: bool,
    moved: u64,
}

impl Half {
    /// Ready when the reader has ended and everything it said has been written and flushed.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut chunk = [MaybeUninit::<u8>::uninit(); CHUNK];
        loop {
            ready!(self.settle(cx, to))?;
            let mut buffer = ReadBuf::uninit(&mut chunk);
            match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    ready!(self.flush(cx, to))?;
                    return Poll::Pending;
                }
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                return self.flush(cx, to);
            }
            self.moved += bytes.len() as u64;
            self.unflushed = true;
            let written = match Pin::new(&mut *to).poll_write(cx, bytes) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            self.owed.extend_from_slice(&bytes[written..]);
        }
    }

    fn settle<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while self.owed_from < self.owed.len() {
            match ready!(Pin::new(&mut *to).poll_write(cx, &self.owed[self.owed_from..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.owed_from += n,
            }
        }
        self.owed = Vec::new();
        self.owed_from = 0;
        Poll::Ready(Ok(()))
    }

    fn flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn carries_both_ways_and_ends_both_at_the_first_end() {
        let (mut client, a) = duplex(64);
        let (b, mut server) = duplex(64);
        let joined = tokio::spawn(splice(a, b, LONG));
        client.write_all(b"ping").await.unwrap();
        let mut four = [0; 4];
        server.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"ping");
        server.write_all(b"pong!").await.unwrap();
        drop(server);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"pong!");
        let spliced = joined.await.unwrap();
        assert_eq!((spliced.forth, spliced.back), (4, 5));
        assert!(matches!(spliced.end, End::SecondClosed));
    }

    #[tokio::test]
    async fn a_slow_reader_gets_every_byte_in_order() {
        let (mut client, a) = duplex(4096);
        let (b, mut server) = duplex(7);
        let sent: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let joined = tokio::spawn(splice(a, b, LONG));
        let expect = sent.clone();
        let writer = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            client
        });
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert!(got == expect);
        assert!(matches!(joined.await.unwrap().end, End::FirstClosed));
        drop(writer.await.unwrap());
    }

    #[tokio::test]
    async fn silence_ends_it() {
        let (mut client, a) = duplex(64);
        let (b, _server) = duplex(64);
        let joined = tokio::spawn(splice(a, b, Duration::from_millis(50)));
        client.write_all(b"x").await.unwrap();
        let spliced = joined.await.unwrap();
        assert!(matches!(spliced.end, End::Idle));
        assert_eq!(spliced.forth, 1);
    }
}
