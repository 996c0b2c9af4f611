//! The bytes of a presence connection: TLS driven by hand, so that one task owns both directions
//! and a connection can move from the runtime that accepted it to the thread of the presence.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use rustls::Connection;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::message::MAX_BEAT;
use crate::network::frame::{self, FrameError, HEADER};

/// TLS records read before others get their turn: more than an honest peer ever sends at once.
const READ_AT_ONCE: usize = 64;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("message of {0} bytes, at most {MAX_BEAT} are allowed")]
    TooLarge(usize),
    #[error("message is malformed or from another build: {0}")]
    Message(#[from] postcard::Error),
    #[error("peer closed the connection")]
    Closed,
}

/// One connection and what it has received but not understood yet.
pub(super) struct Wire {
    tcp: TcpStream,
    tls: Connection,
    received: Vec<u8>,
}

impl Wire {
    /// Takes over a connection. Unacknowledged bytes end it after `patience`.
    pub(super) fn new(tcp: TcpStream, tls: Connection, patience: Duration) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        let millis = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(&tcp, millis)?;
        Ok(Self { tcp, tls, received: Vec::new() })
    }

    pub(super) fn tls(&self) -> &Connection {
        &self.tls
    }

    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.tcp.peer_addr().ok()
    }

    /// Whether the peer does not take what was sent.
    pub(super) fn is_clogged(&self) -> bool {
        self.tls.wants_write()
    }

    /// Sends what waits and receives what is there; returns after either. Dropping the future
    /// loses nothing.
    pub(super) async fn turn(&mut self) -> Result<(), WireError> {
        let mut interest = Interest::READABLE;
        if self.tls.wants_write() {
            interest |= Interest::WRITABLE;
        }
        let ready = self.tcp.ready(interest).await?;
        if ready.is_writable() {
            self.flush()?;
        }
        if ready.is_readable() { self.fill() } else { Ok(()) }
    }

    /// Sends a message as far as the kernel takes it; [`Wire::turn`] sends the rest.
    pub(super) fn send(&mut self, message: &impl Serialize) -> Result<(), WireError> {
        let mut bytes = postcard::to_extend(message, vec![0; HEADER])?;
        let header = frame::header(bytes.len() - HEADER)?;
        bytes.splice(..HEADER, header);
        self.tls.writer().write_all(&bytes)?;
        self.flush()
    }

    /// The next message that has been received whole.
    pub(super) fn message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, WireError> {
        let Some((header, rest)) = self.received.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = frame::length(*header)?;
        if length > MAX_BEAT {
            return Err(WireError::TooLarge(length));
        }
        let Some(bytes) = rest.get(..length) else { return Ok(None) };
        let (message, trailing) = postcard::take_from_bytes(bytes)?;
        if !trailing.is_empty() {
            return Err(postcard::Error::DeserializeBadEncoding.into());
        }
        self.received.drain(..HEADER + length);
        Ok(Some(message))
    }

    fn flush(&mut self) -> Result<(), WireError> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Socket(&self.tcp)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<(), WireError> {
        for _ in 0..READ_AT_ONCE {
            match self.tls.read_tls(&mut Socket(&self.tcp)) {
                Ok(0) => return Err(WireError::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
            self.decrypt()?;
            if self.received.len() > HEADER + MAX_BEAT {
                break;
            }
        }
        Ok(())
    }

    /// Moves what the TLS session has decrypted; also what it already held when it was taken over.
    pub(super) fn decrypt(&mut self) -> Result<(), WireError> {
        let processed = self.tls.process_new_packets();
        if let Err(error) = processed {
            // The alert tells the peer why; whether it arrives does not matter any more.
            let _ = self.flush();
            return Err(error.into());
        }
        let mut buffer = [0; 4096];
        loop {
            match self.tls.reader().read(&mut buffer) {
                Ok(0) => return Err(WireError::Closed),
                Ok(length) => self.received.extend(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The socket as a TLS session reads and writes it: never waits.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
