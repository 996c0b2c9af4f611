//! The terms of a session: what it grants, what its peer may not do, how it can end.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// What a session grants its peer and how long it waits.
#[derive(Clone, Debug)]
pub struct Config {
    /// Streams a peer may hold open; more are refused one by one.
    pub max_streams: usize,
    /// Streams that may wait for [`super::Incoming::accept`]; more are refused one by one.
    pub backlog: usize,
    /// Receive window of a stream, bytes. Yamux's initial 262,144 is the least.
    pub window: u32,
    /// How many streams at a time get that window; the others keep the initial one. Together
    /// with `max_streams` this bounds what a peer can make us hold.
    pub wide_streams: usize,
    /// Quiet time between the answer to our ping and the next one.
    pub ping_interval: Duration,
    /// How long a peer may stay silent after our ping before it counts as dead.
    pub ping_timeout: Duration,
    /// Bytes of stream data taken before [`super::Control::admit`]; `None` admits at once. A peer
    /// that has not proved itself must not make us hold whole windows.
    pub probation: Option<u32>,
    /// How long a stream we closed waits for the peer to close it too, before it is reset.
    pub linger: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_streams: 1024,
            backlog: 256,
            window: 1 << 20,
            wide_streams: 64,
            ping_interval: Duration::from_secs(15),
            ping_timeout: Duration::from_secs(10),
            probation: None,
            linger: Duration::from_secs(60),
        }
    }
}

/// What a peer did that no yamux peer may do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    #[error("frame version is {0}, expected 0")]
    Version(u8),
    #[error("frame type is {0}, expected 0 to 3")]
    Kind(u8),
    #[error("client opened stream {0}, expected an odd id")]
    StreamId(u32),
    #[error("client opened stream {0} twice")]
    DuplicateStream(u32),
    #[error("stream {0} was sent {1} bytes beyond its window")]
    Window(u32, u32),
    #[error("more stream data than a login needs")]
    Probation,
    #[error("answers pile up unread")]
    NotReading,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CloseReason {
    #[error("peer closed the connection")]
    PeerClosed,
    #[error("connection failed: {0}")]
    Io(io::ErrorKind),
    #[error("peer sent nothing for {0:?} after a ping")]
    Dead(Duration),
    #[error("peer broke the mux protocol: {0}")]
    Violation(#[from] Violation),
    #[error("peer went away with code {0}")]
    PeerGoAway(u32),
    #[error("session was aborted")]
    Aborted,
}
