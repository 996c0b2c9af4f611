//! Where a connection should lead, and how plain TCP and unix sockets are dialled. `frp::Tunnels` is the other
//! implementation of [`Dial`]: it answers [`Target::Tunnel`] and hands the rest to [`TcpDial`].

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::Stream;

/// A boxed future, for the traits at the seams.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a request is to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The FRP tunnel registered under this port, on whichever node holds it. Never a real
    /// loopback connection (weakness W4 of HaRP).
    Tunnel(u16),
    /// A host reached by TCP.
    Tcp {
        /// Name or literal address.
        host: Arc<str>,
        /// TCP port.
        port: u16,
    },
    /// A unix socket of this machine. Only the configuration can name one.
    Unix(Arc<Path>),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tunnel(port) => write!(f, "tunnel:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Opens a stream to a [`Target`].
pub trait Dial: Send + Sync + 'static {
    /// Resolves once the stream can carry bytes, or with the reason it cannot:
    /// `NotFound` = no such tunnel is known, `TimedOut` = known but not back in time,
    /// anything else = the network's own answer.
    fn dial<'a>(&'a self, to: &'a Target) -> BoxFuture<'a, io::Result<Stream>>;
}

/// Dials plain TCP with a deadline; prefers IPv4 as HaRP does (contract 1.2 step 9).
#[derive(Clone, Debug)]
pub struct TcpDial {
    /// Longest time for resolution and connect together.
    pub within: Duration,
    /// Never connects to this machine itself by a loopback or unspecified address, whatever a
    /// name resolves to: for targets that strangers have a say in.
    pub refuse_loopback: bool,
}

impl Dial for TcpDial {
    fn dial<'a>(&'a self, to: &'a Target) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            match to {
                Target::Tcp { host, port } => timeout(self.within, self.connect(host, *port))
                    .await
                    .map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?
                    .map(Stream::new),
                Target::Unix(path) => timeout(self.within, UnixStream::connect(path))
                    .await
                    .map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?
                    .map(Stream::new)
                    .map_err(|error| io::Error::new(error.kind(), format!("{to}: {error}"))),
                Target::Tunnel(port) => Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("no tunnel server is running for port {port}"),
                )),
            }
        })
    }
}

impl TcpDial {
    async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut addresses: Vec<_> = lookup_host((host, port)).await?.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for address in addresses {
            if self.refuse_loopback && is_here(address.ip()) {
                let text = format!("{host} is {}, which leads nowhere but here", address.ip());
                last = io::Error::new(io::ErrorKind::PermissionDenied, text);
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn is_here(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn loopback_is_out_of_reach_for_those_who_may_not_go_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // A name the resolver leads to loopback, as a record could hold one.
        for host in ["localhost", "127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1"] {
            let to = Target::Tcp { host: host.into(), port };
            let dial =
                |refuse_loopback| TcpDial { within: Duration::from_secs(5), refuse_loopback };
            assert!(dial(false).dial(&to).await.is_ok(), "{host}");
            let refused = dial(true).dial(&to).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{host}");
        }
    }
}
