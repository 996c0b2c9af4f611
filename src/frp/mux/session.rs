//! (room being built)

use std::time::Duration;

use thiserror::Error;

/// What a session grants its peer and how long it waits.
#[derive(Clone, Debug)]
pub struct Config {
    /// Streams a peer may hold open; more are refused one by one.
    pub max_streams: usize,
    /// Streams that may wait for [`super::Incoming::accept`]; more are refused one by one.
    pub backlog: usize,
    /// Receive window of a stream, bytes; 262,144 or more.
    pub window: u32,
    /// Quiet time between the answer to our ping and the next one.
    pub ping_interval: Duration,
    /// How long a peer may stay silent after our ping before it counts as dead.
    pub ping_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_streams: 1024,
            backlog: 256,
            window: 1 << 20,
            ping_interval: Duration::from_secs(15),
            ping_timeout: Duration::from_secs(10),
        }
    }
}

/// What a peer did that no yamux peer may do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    #[error("yamux version is {0}, expected 0")]
    Version(u8),
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CloseReason {
    #[error("peer closed the connection")]
    PeerClosed,
    #[error("connection failed: {0}")]
    Io(std::io::ErrorKind),
    #[error("peer sent nothing for {0:?} after a ping")]
    Dead(Duration),
    #[error("peer broke the mux protocol: {0}")]
    Violation(#[from] Violation),
    #[error("peer went away with code {0}")]
    PeerGoAway(u32),
    #[error("session was aborted")]
    Aborted,
}
