//! How bytes get from node to node, what time it is and where things are kept: all the engine
//! needs from the world. Two implementations each: `tls_transport` over the network and the file
//! system, and the simulation of `tests/simulation`, whose network, clock and disk are its own.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::disk::Disk;
use crate::record::{Millis, NodeId};

/// A future that is handed around.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One connection to or from a peer.
pub type Stream = Box<dyn PeerStream>;

/// What a connection has to be.
pub trait PeerStream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Its parts, for a thread that drives TLS by hand; only an accepted connection from the
    /// network has them.
    fn into_accepted(self: Box<Self>) -> Option<(TcpStream, ServerConnection)>;
}

/// Who came in at the peer port.
pub struct Guest {
    /// Who it proved to be; none for a stranger, who may only ask to join.
    pub from: Option<NodeId>,
    /// The connection.
    pub stream: Stream,
}

/// A connection that has yet to prove whose it is.
pub struct Arrival {
    /// Where it comes from.
    pub address: SocketAddr,
    /// The proof. The error is the reason to refuse it.
    pub greet: Boxed<'static, Result<Guest, String>>,
}

/// The way out.
pub trait Dialler: Send + Sync + 'static {
    /// Opens a connection to a member and makes sure it is that one.
    fn dial(&self, to: NodeId, address: SocketAddr) -> Boxed<'static, io::Result<Stream>>;
}

/// The way in.
pub trait Door: Send + Sync + 'static {
    /// The next connection.
    fn accept(&self) -> Boxed<'_, io::Result<Arrival>>;
}

/// The world around a node.
#[derive(Clone)]
pub struct World {
    /// The way to the peers.
    pub dialler: Arc<dyn Dialler>,
    /// The way of the peers to this node; none for a cluster of one.
    pub door: Option<Arc<dyn Door>>,
    /// Wall-clock milliseconds since the Unix epoch.
    pub clock: Arc<dyn Fn() -> Millis + Send + Sync>,
    /// What `state_dir` is on.
    pub disk: Disk,
}
