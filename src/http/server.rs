//! Listeners and their connections: one limit for all of them, and an orderly end. What is spoken
//! on a connection is `connection`'s business, what a request means the service's.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Incoming};
use hyper::{Request, Response};
use socket2::SockRef;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::{Body, BodyError};
use super::connection::Speaker;
use super::door::{Crowd, Door, Place, Refused, announced};
use super::season::Seasons;
use super::tls::TlsVersion;
use crate::net::{Socket, Sockets, listen};
use crate::observe::metrics::metrics;

/// Limits of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Longest wait for a complete request head; also the keep-alive idle time.
    pub head: Duration,
    /// Longest time a client may leave what we send unacknowledged or unread. Without it one that
    /// stops reading keeps its place, an upstream connection and the buffers between for ever.
    pub unread: Duration,
    /// Longest time an HTTP/2 stream may stand still for whatever reason. TCP keeps no clock over a
    /// client that reads its frames and allows no more. Above every limit of the service.
    pub standstill: Duration,
    /// Longest time for a TLS handshake.
    pub handshake: Duration,
    /// Most bytes of a request head.
    pub max_head_bytes: usize,
    /// Most connections at a time on all listeners together, upgraded ones included. Further ones
    /// wait in the kernel's queue instead of being refused.
    pub max_connections: usize,
    /// Most requests at a time on one HTTP/2 connection.
    pub max_streams: u32,
    /// How long requests in flight may take after the stop before they are cut.
    pub drain: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            unread: Duration::from_secs(60),
            standstill: Duration::from_secs(3600),
            handshake: Duration::from_secs(10),
            max_head_bytes: 64 * 1024,
            max_connections: 8192,
            max_streams: 128,
            drain: Duration::from_secs(30),
        }
    }
}

/// A place in the connection limit, and among the connections of one address.
pub type Slot = Arc<Places>;

/// What a connection takes up while it lives.
#[derive(Debug)]
pub struct Places {
    _of_all: OwnedSemaphorePermit,
    _of_client: Option<Place>,
}

/// What a request's connection is.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The TCP peer, which may be a proxy.
    pub peer: SocketAddr,
    /// Held while the connection lives, beyond HTTP too.
    pub slot: Slot,
    /// Version of TLS, if the listener has TLS.
    pub tls: Option<TlsVersion>,
}

/// The service's wish to end without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Abort {
    /// The connection is closed, with everything else on it.
    #[error("connection dropped on purpose")]
    Connection,
    /// Where others share the connection (HTTP/2), only this exchange ends. HTTP/1.1 has no such
    /// thing: there it is [`Abort::Connection`].
    #[error("exchange dropped on purpose")]
    Exchange,
}

/// Serves any number of listeners under one set of limits.
pub struct Server {
    config: Config,
    places: Arc<Semaphore>,
    sockets: Sockets,
    seasons: Seasons,
}

impl Server {
    /// A server with these limits and no listener yet.
    pub fn new(config: Config) -> Self {
        let places = Arc::new(Semaphore::new(config.max_connections));
        Self { config, places, sockets: Sockets::default(), seasons: Seasons::default() }
    }

    /// From now on, or no more, clients are told to come back on another connection: HTTP/1.1 by
    /// `Connection: close`, HTTP/2 by GOAWAY. Idle connections are closed; requests in flight end,
    /// new ones are answered.
    pub fn set_leaving(&self, leaving: bool) {
        self.seasons.set_leaving(leaving);
    }

    /// Connections with a request in flight from before the last [`Self::set_leaving`].
    pub fn lasting(&self) -> usize {
        self.seasons.lasting()
    }

    /// Connections that may have a request in flight; upgraded ones have none.
    pub fn open(&self) -> usize {
        self.seasons.open()
    }

    /// Every client connection, upgraded ones included.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Serves one listener until `stop`; then lets requests in flight finish within
    /// [`Config::drain`].
    pub async fn serve<S, F, B>(&self, door: impl Into<Door>, stop: CancellationToken, service: S)
    where
        S: Fn(Request<Incoming>, Connection) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response<B>, Abort>> + Send + 'static,
        B: HttpBody<Data = Bytes, Error = BodyError> + From<Body> + Send + 'static,
    {
        let connections = TaskTracker::new();
        let cut = CancellationToken::new();
        let Door { listener, tls, announcers, crowd } = door.into();
        let speaker = Speaker::new(&self.config, tls, stop.clone(), service);

        let accepting = async {
            while let Ok(place) = Arc::clone(&self.places).acquire_owned().await {
                let (stream, peer) = listen::accept(&listener).await;
                // The kernel keeps this clock, also over a window that stays shut. A socket that
                // refuses the option works without.
                let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(self.config.unread));
                let mut socket = Socket::new(stream, peer);
                if !self.sockets.track(&socket) {
                    continue;
                }
                let within = announcers.contains(peer.ip()).then_some(self.config.handshake);
                let (speaker, crowd, stay) = (speaker.clone(), crowd.clone(), self.seasons.stay());
                let one = async move {
                    // Boxed: nobody has to carry it beyond the first moment.
                    match Box::pin(meet(&mut socket, peer, within, crowd)).await {
                        Ok((peer, of_client)) => {
                            let places = Places { _of_all: place, _of_client: of_client };
                            let connection = Connection { peer, slot: Arc::new(places), tls: None };
                            speaker.speak(socket, connection, stay).await;
                        }
                        Err(refused) => metrics().turned_away(refused.as_str()),
                    }
                };
                let open = metrics().connections.enter();
                let cut = cut.clone();
                connections.spawn(async move {
                    let _open = open;
                    tokio::select! {
                        () = one => {}
                        () = cut.cancelled() => {}
                    }
                });
            }
        };
        tokio::select! {
            () = accepting => {}
            () = stop.cancelled() => {}
        }
        drop(listener);
        connections.close();
        if timeout(self.config.drain, connections.wait()).await.is_err() {
            tracing::warn!(open = connections.len(), "requests still in flight were cut");
            cut.cancel();
            connections.wait().await;
        }
    }
}

/// Learns whose connection it is, within the time a balancer has to say so, and whether that client
/// may have another one.
async fn meet(
    socket: &mut Socket,
    peer: SocketAddr,
    within: Option<Duration>,
    crowd: Option<Crowd>,
) -> Result<(SocketAddr, Option<Place>), Refused> {
    let client = match within {
        None => peer,
        Some(within) => match timeout(within, announced(socket)).await {
            Ok(Ok(client)) => client.unwrap_or(peer),
            Ok(Err(_)) | Err(_) => return Err(Refused::NoHeader),
        },
    };
    let place = crowd.map(|crowd| crowd.enter(client.ip())).transpose()?;
    Ok((client, place))
}
