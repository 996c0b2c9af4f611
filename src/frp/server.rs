//! The accept loop of the FRP port.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Admission;
use super::config::Config;
use super::connection::Door;
use super::credential::Credentials;
use super::crypto::cfb::Key;
use super::sieve::Sieve;
use super::tunnels::Tunnels;
use crate::guard::Guard;
use crate::net::listen;

/// Serves the FRP port until `stop`, then ends every connection.
///
/// `tls` comes from [`Keeper::begin`](super::pki::Keeper::begin), told to ask for client
/// certificates exactly when `config.tls` is `Required`; each handshake uses what is in force then.
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    tunnels: Tunnels,
    guard: Guard,
    config: Config,
    stop: CancellationToken,
) {
    let key = Key::derive(config.auth_token.as_bytes());
    let credentials = Credentials::new(guard.keys());
    let sieve = Mutex::new(Sieve::default());
    let door = Arc::new(Door { config, tls, key, tunnels, guard, credentials, sieve });
    let admission = Admission::new();
    let connections = TaskTracker::new();
    loop {
        let (tcp, client) = tokio::select! {
            accepted = listen::accept(&listener) => accepted,
            () = stop.cancelled() => break,
        };
        let Some(ticket) = admission.admit(client.ip()) else {
            refuse(tcp, client);
            continue;
        };
        let (door, stop) = (door.clone(), stop.clone());
        connections.spawn(async move {
            tokio::select! {
                () = door.serve(tcp, client, ticket) => {}
                () = stop.cancelled() => {}
            }
        });
    }
    connections.close();
    connections.wait().await;
}

fn refuse(tcp: TcpStream, client: SocketAddr) {
    tracing::debug!(client.addr = %client, "connection dropped: too many are not logged in");
    // A reset frees the socket at once; a FIN would keep it for a minute.
    let _ = tcp.set_zero_linger();
}
