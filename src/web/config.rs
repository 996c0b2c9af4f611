//! What the pools are made of.

use std::time::Duration;

use crate::balance::pool::Terms;
use crate::net::Target;

/// Everything of `[web]`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything goes that no route takes.
    pub pool: PoolConfig,
    /// Paths that go elsewhere.
    pub routes: Vec<RouteConfig>,
    /// How often and how long servers are checked.
    pub checks: Checks,
    /// Longest wait for a connection to a server.
    pub connect: Duration,
    /// Longest wait for the head of an answer, and between two pieces of its body. Putting
    /// together a large upload takes minutes.
    pub response: Duration,
    /// Longest wait between two pieces of a request's body.
    pub request_body: Duration,
    /// Longest wait for a server that may take one more request.
    pub queue: Duration,
    /// How many of a hundred requests may be sent again after a server failed them.
    pub retry_percent: u32,
}

/// When servers are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Between two checks of a server.
    pub interval: Duration,
    /// Longest time one may take.
    pub timeout: Duration,
}

impl Default for Checks {
    fn default() -> Self {
        Self { interval: Duration::from_secs(2), timeout: Duration::from_secs(2) }
    }
}

/// Servers that do the same.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Name in status, metrics and orders.
    pub name: String,
    /// The servers, in order.
    pub servers: Vec<ServerConfig>,
    /// How they are checked.
    pub check: Check,
    /// The rules.
    pub terms: Terms,
}

/// One server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Name in the pool.
    pub name: String,
    /// Where it is.
    pub target: Target,
}

/// A path with everything below it.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Begins and ends with a slash.
    pub path: String,
    /// The server gets the path without it, but for one slash.
    pub strip_prefix: bool,
    /// Who gets it.
    pub pool: PoolConfig,
}

/// How a server is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// `/status.php` of a Nextcloud under this host name, which must be one of its trusted
    /// domains.
    Nextcloud {
        /// `Host` of the request.
        host: String,
    },
    /// Any path; an answer below 400 is good.
    Path {
        /// `Host` of the request.
        host: String,
        /// Path and query.
        path: String,
    },
    /// It accepts a connection.
    Tcp,
    /// Not at all: it counts as up.
    Off,
}
