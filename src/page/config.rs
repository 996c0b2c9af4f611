//! What the status page is started with. `config` reads it from the file.

use std::net::SocketAddr;

use crate::http::tls::Files;
use crate::secret::Secret;

/// Fewest bytes of the admin token. Guessing is slowed down per address only, so the token itself
/// must be out of reach of a guess.
pub const MIN_TOKEN: usize = 20;

/// Where the page is served and what opens it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address and port.
    pub listen: SocketAddr,
    /// What an admin logs in with.
    pub token: Secret,
    /// Certificate and key; none: plain HTTP.
    pub tls: Option<Files>,
}
