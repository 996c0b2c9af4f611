//! The peer port on the network: TCP, TLS 1.3 both ways, and a certificate that names the node.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use rustls::ServerConnection;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::identity::Identity;
use crate::record::NodeId;
use crate::transport::{Arrival, Boxed, Dialler, Door, Guest, PeerStream, Stream};

/// Silence after which the system asks whether a peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(3);

/// Longest that sent bytes may stay unacknowledged, milliseconds.
const UNACKNOWLEDGED: u32 = 6_000;

impl PeerStream for client::TlsStream<TcpStream> {
    fn into_accepted(self: Box<Self>) -> Option<(TcpStream, ServerConnection)> {
        None
    }
}

impl PeerStream for server::TlsStream<TcpStream> {
    fn into_accepted(self: Box<Self>) -> Option<(TcpStream, ServerConnection)> {
        Some(self.into_inner())
    }
}

/// Dials members with this node's certificate.
pub(crate) struct TlsDialler(pub(crate) Identity);

impl Dialler for TlsDialler {
    fn dial(&self, to: NodeId, address: SocketAddr) -> Boxed<'static, io::Result<Stream>> {
        let identity = self.0.clone();
        Box::pin(async move {
            let name = identity.name_of(to).ok_or(io::ErrorKind::InvalidInput)?;
            let stream = TcpStream::connect(address).await?;
            prepare(&stream)?;
            let connector = TlsConnector::from(identity.client());
            let stream = connector.connect(name, stream).await?;
            let (_, session) = stream.get_ref();
            // The name was checked by rustls; this also refuses a certificate with several names.
            if identity.node_of(session.peer_certificates()) != Some(to) {
                return Err(io::Error::other(format!("{address} is not node {to}")));
            }
            Ok(Box::new(stream) as Stream)
        })
    }
}

/// The listening peer port.
pub(crate) struct TlsDoor {
    pub(crate) listener: TcpListener,
    pub(crate) identity: Identity,
}

impl Door for TlsDoor {
    fn accept(&self) -> Boxed<'_, io::Result<Arrival>> {
        Box::pin(async move {
            let (stream, address) = self.listener.accept().await?;
            let greet = Box::pin(greet(self.identity.clone(), stream));
            Ok(Arrival { address, greet })
        })
    }
}

/// A peer that lost its power says nothing more; a relayed stream must not wait for it for ever.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(1))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED)?;
    Ok(())
}

async fn greet(identity: Identity, stream: TcpStream) -> Result<Guest, String> {
    prepare(&stream).map_err(|error| error.to_string())?;
    let acceptor = TlsAcceptor::from(identity.server());
    let stream = acceptor.accept(stream).await.map_err(|error| error.to_string())?;
    let (_, session) = stream.get_ref();
    let from = match session.peer_certificates() {
        None => None,
        chain => {
            let named = identity.node_of(chain);
            Some(named.ok_or("the certificate does not name one node of this cluster")?)
        }
    };
    Ok(Guest { from, stream: Box::new(stream) })
}
