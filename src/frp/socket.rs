//! A tunnel client's TCP socket that can still be reached after layers were built on top of it.
//!
//! Ending a session must end its socket in a certain way: reset when a newer login replaces it,
//! without a single packet when the virtual IP has left this node. TLS and the mux hide the
//! socket, so a weak [`Grip`] on it stays outside.

use std::io::{self, IoSlice, Read};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Unsent bytes the kernel may hold: a ping reply behind more than this would miss frpc's 10 s on
/// a slow line.
const NOTSENT_LOWAT: u32 = 128 * 1024;

/// The socket as a byte stream.
#[derive(Debug)]
pub(super) struct Socket(Arc<TcpStream>);

/// A handle on a [`Socket`] that does not keep it open.
#[derive(Clone, Debug)]
pub(super) struct Grip(Weak<TcpStream>);

impl Socket {
    pub(super) fn new(tcp: TcpStream) -> Self {
        // The tunnel works without either option, only worse.
        let _ = tcp.set_nodelay(true);
        let _ = SockRef::from(&tcp).set_tcp_notsent_lowat(NOTSENT_LOWAT);
        Self(Arc::new(tcp))
    }

    pub(super) fn grip(&self) -> Grip {
        Grip(Arc::downgrade(&self.0))
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// The next byte, left where it is; `None` at the end.
    pub(super) async fn peek(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.0.peek(&mut byte).await? > 0).then_some(byte[0]))
    }
}

impl Grip {
    pub(super) fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Whether our end of the connection is one of `addresses`.
    pub(super) fn ends_at(&self, addresses: &[IpAddr]) -> bool {
        let local = self.0.upgrade().and_then(|tcp| tcp.local_addr().ok());
        local.is_some_and(|local| addresses.contains(&local.ip().to_canonical()))
    }

    /// From now on closing resets the connection and discards what was not sent.
    pub(super) fn reset_on_close(&self) {
        if let Some(tcp) = self.0.upgrade() {
            // Fails only when the connection is gone already.
            let _ = tcp.set_zero_linger();
        }
    }

    /// Ends the connection on this side only: readers see the end, and the close that follows
    /// keeps nothing that could be sent later. Sends no packet as long as the local address is
    /// not this node's any more.
    pub(super) fn abandon(&self) {
        if let Some(tcp) = self.0.upgrade() {
            let _ = tcp.set_zero_linger();
            // Reading side only: shutting down the writing side would queue a FIN.
            let _ = SockRef::from(&*tcp).shutdown(Shutdown::Read);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buf.initialize_unfilled();
        if room.is_empty() {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            let mut taken = 0;
            let done = self.0.try_io(Interest::READABLE, || {
                taken = (&*SockRef::from(&*self.0)).read(room)?;
                // A read that leaves room has emptied the socket: to say so saves the next read,
                // which would find nothing.
                let emptied = 0 < taken && taken < room.len();
                if emptied { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken == 0 => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                _ => {
                    buf.advance(taken);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write_vectored(bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match SockRef::from(&*self.0).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            done => done,
        })
    }
}
