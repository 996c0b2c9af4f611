//! A client's TCP socket that can still be reached after layers were built on top of it.
//!
//! When a virtual address leaves this node, or a newer login replaces an older one, the socket
//! itself must end in a certain way. TLS, HTTP and the mux hide it, so a weak [`Grip`] on it stays
//! outside. All sockets of a room are in its [`Sockets`].

use std::io::{self, IoSlice};
use std::net::{IpAddr, Shutdown, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::numbers::{Numbers, Start};

/// Connections that are told of in [`Sockets::late`], at most; more than a listener's queue holds.
const MAX_LATE: usize = 8192;

/// The socket as a byte stream.
#[derive(Debug)]
pub struct Socket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tcp: TcpStream,
    peer: SocketAddr,
    start: OnceLock<Start>,
}

/// A handle on a [`Socket`] that does not keep it open.
#[derive(Clone, Debug)]
pub struct Grip(Weak<Inner>);

impl Socket {
    /// Takes an accepted connection of `peer`.
    pub fn new(tcp: TcpStream, peer: SocketAddr) -> Self {
        Self(Arc::new(Inner { tcp, peer, start: OnceLock::new() }))
    }

    /// Remembers the sequence numbers now, before anything is sent, for [`Grip::numbers`]. What
    /// the kernel refuses (`CAP_NET_ADMIN` is needed) is done without.
    pub fn remember_start(&self) {
        if let Ok(start) = Start::of(self.0.tcp.as_fd()) {
            let _ = self.0.start.set(start);
        }
    }

    /// A handle for others.
    pub fn grip(&self) -> Grip {
        Grip(Arc::downgrade(&self.0))
    }

    /// Our end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.tcp.local_addr()
    }

    /// The connection below, for options.
    pub fn tcp(&self) -> &TcpStream {
        &self.0.tcp
    }

    /// The first bytes, left where they are; none at the end.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.tcp.peek(bytes).await
    }
}

impl Grip {
    /// Whether the socket is still there.
    pub fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Our end and the peer's.
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let socket = self.0.upgrade()?;
        Some((socket.tcp.local_addr().ok()?, socket.peer))
    }

    /// Whether [`Self::numbers`] can tell anything.
    pub fn has_start(&self) -> bool {
        self.0.upgrade().is_some_and(|socket| socket.start.get().is_some())
    }

    /// How far the connection has come; `None` while it moves, or where it is not known.
    pub fn numbers(&self) -> Option<Numbers> {
        let socket = self.0.upgrade()?;
        socket.start.get()?.now(socket.tcp.as_fd()).ok()?
    }

    /// From now on closing resets the connection and discards what was not sent.
    pub fn reset_on_close(&self) {
        if let Some(socket) = self.0.upgrade() {
            // Fails only when the connection is gone already.
            let _ = socket.tcp.set_zero_linger();
        }
    }

    /// Ends the connection here and now: whoever uses it gets errors, and nothing is kept that
    /// could be sent later. The reset this makes does not leave a machine that does not have the
    /// connection's local address any more.
    pub fn abandon(&self) {
        if let Some(socket) = self.0.upgrade()
            && rustix::net::connect_unspec(&socket.tcp).is_err()
        {
            // What is left: no more reading, and a close that keeps nothing.
            let _ = socket.tcp.set_zero_linger();
            let _ = SockRef::from(&socket.tcp).shutdown(Shutdown::Read);
        }
    }
}

/// The open sockets of a room. Clones are one list.
#[derive(Clone, Debug, Default)]
pub struct Sockets(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    all: Vec<Grip>,
    /// Those nobody has asked for yet, once somebody asks at all.
    fresh: Option<Vec<Grip>>,
    /// Addresses that left this machine.
    gone: Vec<IpAddr>,
    /// Our end and the peer's of connections to them that were accepted since.
    late: Vec<(SocketAddr, SocketAddr)>,
}

impl Sockets {
    /// Adds one; it leaves by itself when it is closed. Returns false for one that the kernel had
    /// set up before its address left this machine: no answer would reach its client, so it is to
    /// be dropped, and [`Self::late`] tells of it.
    #[must_use]
    pub fn track(&self, socket: &Socket) -> bool {
        let grip = socket.grip();
        let mut list = self.lock();
        if !list.gone.is_empty()
            && let Some(ends) = grip.ends()
            && list.gone.contains(&ends.0.ip().to_canonical())
            && is_away(ends.0.ip())
        {
            if list.late.len() < MAX_LATE {
                list.late.push(ends);
            }
            return false;
        }
        // Swept when it would have to grow: never more than twice what is open.
        if list.all.len() == list.all.capacity() {
            list.all.retain(Grip::is_open);
        }
        if let Some(fresh) = &mut list.fresh {
            fresh.push(grip.clone());
        }
        list.all.push(grip);
        true
    }

    /// `addresses` have left this machine: connections to them that are accepted from now on are
    /// turned away, see [`Self::track`].
    pub fn turn_away(&self, addresses: &[IpAddr]) {
        let mut list = self.lock();
        list.gone.retain(|address| !addresses.contains(address));
        list.gone.extend(addresses);
    }

    /// Our end and the peer's of each connection [`Self::track`] turned away since the last call.
    pub fn late(&self) -> Vec<(SocketAddr, SocketAddr)> {
        std::mem::take(&mut self.lock().late)
    }

    /// `addresses` are on this machine again.
    pub fn regain(&self, addresses: &[IpAddr]) {
        let mut list = self.lock();
        list.gone.retain(|address| !addresses.contains(address));
        list.late.retain(|(local, _)| !addresses.contains(&local.ip().to_canonical()));
    }

    /// Those that were added since this was asked last; all open ones the first time. One asker.
    pub fn fresh(&self) -> Vec<Grip> {
        let mut list = self.lock();
        match list.fresh.replace(Vec::new()) {
            Some(fresh) => fresh,
            None => list.all.clone(),
        }
    }

    /// Ends every connection whose local end is one of `addresses`, which left this machine, see
    /// [`Grip::abandon`]; how many there were.
    pub fn abandon(&self, addresses: &[IpAddr]) -> usize {
        self.turn_away(addresses);
        let mut list = self.lock();
        let ends_there = |grip: &Grip| {
            grip.ends().is_some_and(|(local, _)| addresses.contains(&local.ip().to_canonical()))
        };
        let ended: Vec<_> = list.all.extract_if(.., |grip| ends_there(grip)).collect();
        drop(list);
        ended.iter().for_each(Grip::abandon);
        ended.len()
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an address is not on this machine. It may have come back before we were told, and where
/// the kernel lets anybody use any address, nobody can tell.
fn is_away(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0))
        .is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        let tcp = &self.0.tcp;
        loop {
            ready!(tcp.poll_read_ready(cx))?;
            let mut taken = 0;
            let done = tcp.try_io(Interest::READABLE, || {
                taken = tcp.try_read_buf(buf)?;
                // A read that leaves room has emptied the socket: to say so saves the next read,
                // which would find nothing.
                let emptied = 0 < taken && taken < room;
                if emptied { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken == 0 => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                _ => return Poll::Ready(Ok(())),
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
            ready!(self.0.tcp.poll_write_ready(cx))?;
            match self.0.tcp.try_write(buf) {
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
            ready!(self.0.tcp.poll_write_ready(cx))?;
            match self.0.tcp.try_write_vectored(bufs) {
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
        Poll::Ready(match SockRef::from(&self.0.tcp).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            done => done,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn accepted() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, peer) = listener.accept().await.unwrap();
        (client, Socket::new(tcp, peer))
    }

    #[tokio::test]
    async fn bytes_pass_whole_whatever_the_size_of_the_pieces() {
        let (mut client, mut socket) = accepted().await;
        let sent: Vec<u8> = (0..=u8::MAX).cycle().take(300_000).collect();
        let all = sent.clone();
        let writer = tokio::spawn(async move {
            client.write_all(&all).await.unwrap();
            client.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        socket.read_to_end(&mut received).await.unwrap();
        assert!(received == sent);
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn an_abandoned_connection_ends_for_reader_and_writer_at_once() {
        let (client, mut socket) = accepted().await;
        let sockets = Sockets::default();
        assert!(sockets.track(&socket));
        let (local, peer) = socket.grip().ends().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(sockets.abandon(&["192.0.2.1".parse().unwrap()]), 0);
        let reading = async {
            let end = socket.read(&mut [0]).await;
            assert!(end.is_err(), "{end:?}");
            assert!(socket.write(b"x").await.is_err());
        };
        let ending = async { assert_eq!(sockets.abandon(&[local.ip()]), 1) };
        tokio::join!(reading, ending);
        assert_eq!(sockets.abandon(&[local.ip()]), 0, "out of the list");
    }

    /// The address of the test cannot leave this machine, so one that never was here is named.
    #[tokio::test]
    async fn what_is_accepted_after_its_address_left_is_turned_away_and_told() {
        let sockets = Sockets::default();
        let elsewhere: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(is_away(elsewhere));
        let (_client, socket) = accepted().await;
        let (local, _) = socket.grip().ends().unwrap();
        sockets.turn_away(&[local.ip(), elsewhere]);
        assert!(!is_away(local.ip()) && sockets.track(&socket), "it has come back meanwhile");
        sockets.lock().late.push(socket.grip().ends().unwrap());
        assert_eq!(sockets.late().len(), 1);
        assert_eq!(sockets.late(), [], "told once");
        sockets.regain(&[local.ip()]);
        assert_eq!(sockets.lock().gone, [elsewhere]);
    }

    #[tokio::test]
    async fn each_socket_is_fresh_once_and_closed_ones_go_by_themselves() {
        let sockets = Sockets::default();
        let (_client, early) = accepted().await;
        assert!(sockets.track(&early));
        assert_eq!(sockets.fresh().len(), 1, "also what came before anybody asked");
        let (_client, late) = accepted().await;
        assert!(sockets.track(&late));
        assert_eq!(sockets.fresh().len(), 1);
        assert_eq!(sockets.fresh().len(), 0);
        drop((early, late));
        for _ in 0..100 {
            let (_client, socket) = accepted().await;
            assert!(sockets.track(&socket));
        }
        assert!(sockets.lock().all.len() <= 4, "{}", sockets.lock().all.len());
    }
}
