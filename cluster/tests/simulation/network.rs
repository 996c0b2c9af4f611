//! The way between simulated hosts: turmoil's TCP, a hello that stands for the certificates, and
//! connections that can be torn at will.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use cluster::record::NodeId;
use cluster::{Arrival, Boxed, Dialler, Door, Guest, PeerStream, Stream};
use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

pub(crate) const PORT: u16 = 7443;

/// Where a host lives. Several clusters share the network, each has a net of its own.
pub(crate) fn ip(net: u8, id: NodeId) -> IpAddr {
    Ipv4Addr::new(10, 0, net, u8::try_from(id).unwrap()).into()
}

/// Every connection there is, by its two ends.
#[derive(Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<Vec<Connection>>>);

type Connection = (IpAddr, IpAddr, Arc<Tear>);

#[derive(Default)]
struct Tear(Mutex<(bool, Vec<Waker>)>);

impl Connections {
    /// Tears all connections between two hosts.
    pub(crate) fn tear(&self, a: IpAddr, b: IpAddr) {
        self.0.lock().unwrap().retain(|(from, to, tear)| {
            let torn = (*from, *to) == (a, b) || (*from, *to) == (b, a);
            if torn {
                let mut state = tear.0.lock().unwrap();
                state.0 = true;
                state.1.drain(..).for_each(Waker::wake);
            }
            !torn && Arc::strong_count(tear) > 1
        });
    }

    fn wrap(&self, from: IpAddr, to: IpAddr, inner: TcpStream) -> Tearable {
        let tear = Arc::<Tear>::default();
        self.0.lock().unwrap().push((from, to, Arc::clone(&tear)));
        Tearable { inner, tear }
    }
}

struct Tearable {
    inner: TcpStream,
    tear: Arc<Tear>,
}

impl Tearable {
    fn check(&self, context: &Context<'_>) -> io::Result<()> {
        let mut state = self.tear.0.lock().unwrap();
        if state.0 {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if !state.1.iter().any(|waker| waker.will_wake(context.waker())) {
            state.1.push(context.waker().clone());
        }
        Ok(())
    }
}

impl AsyncRead for Tearable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for Tearable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}

impl PeerStream for Tearable {
    fn into_accepted(self: Box<Self>) -> Option<(tokio::net::TcpStream, ServerConnection)> {
        None
    }
}

/// The way out of one host.
pub(crate) struct SimDialler {
    pub(crate) net: u8,
    pub(crate) me: NodeId,
    pub(crate) connections: Connections,
}

impl Dialler for SimDialler {
    fn dial(&self, to: NodeId, address: SocketAddr) -> Boxed<'static, io::Result<Stream>> {
        let (me, here, connections) = (self.me, ip(self.net, self.me), self.connections.clone());
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            let mut stream = connections.wrap(here, address.ip(), stream);
            stream.write_u64(me).await?;
            stream.write_u64(to).await?;
            let found = stream.read_u64().await?;
            if found != to {
                return Err(io::Error::other(format!("{address} is node {found}, not {to}")));
            }
            Ok(Box::new(stream) as Stream)
        })
    }
}

/// The way into one host.
pub(crate) struct SimDoor {
    pub(crate) net: u8,
    pub(crate) me: NodeId,
    pub(crate) listener: TcpListener,
    pub(crate) connections: Connections,
}

impl Door for SimDoor {
    fn accept(&self) -> Boxed<'_, io::Result<Arrival>> {
        Box::pin(async move {
            let (stream, address) = self.listener.accept().await?;
            let stream = self.connections.wrap(ip(self.net, self.me), address.ip(), stream);
            let greet = Box::pin(greet(self.me, stream));
            Ok(Arrival { address, greet })
        })
    }
}

async fn greet(me: NodeId, mut stream: Tearable) -> Result<Guest, String> {
    let hello = async {
        let from = stream.read_u64().await?;
        let to = stream.read_u64().await?;
        stream.write_u64(me).await?;
        Ok::<_, io::Error>((from, to))
    };
    match hello.await {
        Ok((from, to)) if to == me => Ok(Guest { from: Some(from), stream: Box::new(stream) }),
        Ok((_, to)) => Err(format!("meant for node {to}")),
        Err(error) => Err(error.to_string()),
    }
}
