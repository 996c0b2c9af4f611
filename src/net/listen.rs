//! Listening sockets that outlive a moving address, and an accept loop that does not spin.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Pending connections the kernel keeps for us. A takeover brings every client at once.
const BACKLOG: i32 = 4096;

/// Binds a listener; `IP_FREEBIND` lets it name an address this node does not hold yet, so that
/// the standby already listens when the virtual IP arrives.
///
/// # Errors
/// The kernel's, unchanged: address in use, permission.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The next connection. Errors of a single connection are passed over at once; running out of
/// descriptors or memory waits 50 ms first, because accept would fail again immediately.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Without it small frames wait 40 ms for the peer's delayed ACK. The socket
                // works without the option too, so a refusal is not worth a lost connection.
                let _ = stream.set_nodelay(true);
                return (stream, peer);
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "accept failed; retrying in 50 ms");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn binds_an_address_this_machine_does_not_hold() {
        let listener = bind("198.51.100.7:0".parse().unwrap()).unwrap();
        assert_ne!(listener.local_addr().unwrap().port(), 0);
    }
}
