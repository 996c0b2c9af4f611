//! How a listener meets its clients before a word of HTTP: TLS, the PROXY header of a balancer in
//! front, and how many connections one address may have.
//!
//! The limit is for floods. It is far above what any client opens, and whoever passes many clients
//! on (a trusted proxy) is exempt.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use cluster::record::ban_key;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::client_ip::TrustedProxies;
use crate::net::proxy_protocol::{self, Header};

/// A listener and how its clients are met.
pub struct Door {
    /// Where they come in.
    pub listener: TcpListener,
    /// TLS, if it is spoken here.
    pub tls: Option<TlsAcceptor>,
    /// Whose connections begin with a PROXY header. Nobody else's may.
    pub announcers: TrustedProxies,
    /// How many connections a client may have; none: any number.
    pub crowd: Option<Crowd>,
}

impl From<TcpListener> for Door {
    fn from(listener: TcpListener) -> Self {
        Self { listener, tls: None, announcers: TrustedProxies::default(), crowd: None }
    }
}

impl From<(TcpListener, TlsAcceptor)> for Door {
    fn from((listener, acceptor): (TcpListener, TlsAcceptor)) -> Self {
        Self { tls: Some(acceptor), ..Self::from(listener) }
    }
}

/// Why a client was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// No PROXY header where one had to be, or not in time.
    NoHeader,
    /// It has as many connections as one address may have.
    Crowded,
}

impl Refused {
    /// A stable word for counters.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NoHeader => "no_proxy_header",
            Self::Crowded => "too_many",
        }
    }
}

/// The client a balancer names; none where it names none.
pub(super) async fn announced(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<SocketAddr>> {
    let mut bytes = Vec::new();
    loop {
        match proxy_protocol::read(&bytes) {
            Ok(Header::Names(client)) => return Ok(client),
            Ok(Header::Wants(more)) => {
                let begun = bytes.len();
                bytes.resize(begun + more, 0);
                stream.read_exact(&mut bytes[begun..]).await?;
            }
            Err(malformed) => return Err(io::Error::new(io::ErrorKind::InvalidData, malformed)),
        }
    }
}

/// Connections by the address they come from: a network of 64 bits is one client in IPv6. Clones
/// count together.
#[derive(Clone, Debug)]
pub struct Crowd {
    most: usize,
    exempt: Arc<TrustedProxies>,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection's place among those of its address.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Crowd,
    address: Option<IpAddr>,
}

impl Crowd {
    /// At most `most` connections of an address at a time, any number of those in `exempt`.
    pub fn new(most: usize, exempt: TrustedProxies) -> Self {
        Self { most, exempt: Arc::new(exempt), open: Arc::default() }
    }

    pub(super) fn enter(&self, client: IpAddr) -> Result<Place, Refused> {
        if self.exempt.contains(client) {
            return Ok(Place { crowd: self.clone(), address: None });
        }
        let address = ban_key(client);
        let mut open = self.lock();
        let count = open.entry(address).or_default();
        if *count >= self.most {
            return Err(Refused::Crowded);
        }
        *count += 1;
        drop(open);
        Ok(Place { crowd: self.clone(), address: Some(address) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut open = self.crowd.lock();
        if let Some(count) = open.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_places_and_others_have_theirs() {
        let crowd = Crowd::new(2, TrustedProxies::new(["10.0.0.0/8".parse().unwrap()]));
        let enter = |text: &str| crowd.enter(text.parse().unwrap());
        let (first, _second) = (enter("192.0.2.1").unwrap(), enter("::ffff:192.0.2.1").unwrap());
        assert_eq!(enter("192.0.2.1").err(), Some(Refused::Crowded));
        assert!(enter("192.0.2.2").is_ok());
        drop(first);
        assert!(enter("192.0.2.1").is_ok(), "a place is free again");
        let _many: Vec<_> = (0..9).map(|_| enter("10.1.2.3").unwrap()).collect();
        let _both = ["2001:db8::1", "2001:db8::2"].map(|one| enter(one).unwrap());
        assert!(enter("2001:db8::3").is_err(), "one network");
    }

    #[test]
    fn nothing_is_kept_of_clients_that_went() {
        let crowd = Crowd::new(1, TrustedProxies::default());
        for last in 0..100_u8 {
            drop(crowd.enter([192, 0, 2, last].into()));
        }
        assert!(crowd.lock().is_empty());
    }

    #[tokio::test]
    async fn what_follows_the_header_is_left_to_be_read() {
        let mut stream = &b"PROXY TCP4 192.0.2.7 10.0.0.1 5 443\r\nGET"[..];
        let client = announced(&mut stream).await.unwrap();
        assert_eq!((client, stream), (Some("192.0.2.7:5".parse().unwrap()), &b"GET"[..]));
        assert!(announced(&mut &b"GET / HTTP/1.1\r\n"[..]).await.is_err());
        assert!(announced(&mut &b"PROXY TCP4 192"[..]).await.is_err());
    }
}
