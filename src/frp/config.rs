//! What an operator can set about the FRP port.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Whether clients must speak TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// TLS with a client certificate of our CA, nothing else.
    #[default]
    Required,
    /// Plain connections are served, and TLS ones without asking for a certificate: clients that
    /// keep frpc's default (TLS on, unverified) must get in too, as with frps.
    Optional,
}

/// Settings of the FRP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address the FRP port listens on.
    pub listen: SocketAddr,
    /// Whether TLS is required.
    pub tls: TlsMode,
    /// Remote ports ExApps may register.
    pub apps: RangeInclusive<u16>,
    /// Remote ports Docker engines may register.
    pub engines: RangeInclusive<u16>,
    /// Whether containers get a token for their own tunnel in place of the shared key, and records
    /// keep holders of the shared key from other apps' ports. Tokens are accepted either way.
    pub app_credentials: bool,
    /// How long a request waits for a tunnel that is registered but not connected.
    pub tunnel_wait: Duration,
    /// How long a request waits for a connected client to provide a work connection.
    pub work_connection_wait: Duration,
    /// How long a tunnel stays registered after its client was lost.
    pub forget_after: Duration,
    /// Validity of the certificates when they are made, days.
    pub certificate_days: u32,
    /// Where HaRP's certificates lie, to start a cluster with; `None` = new ones are made.
    pub certificates_from: Option<PathBuf>,
    /// frp's `auth.token`; empty with HaRP, where the shared key in the metadata is the proof.
    pub auth_token: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8782)),
            tls: TlsMode::Required,
            apps: 23000..=23999,
            engines: 24000..=24099,
            app_credentials: true,
            tunnel_wait: Duration::from_secs(5),
            work_connection_wait: Duration::from_secs(10),
            forget_after: Duration::from_secs(90),
            certificate_days: 5000,
            certificates_from: None,
            auth_token: String::new(),
        }
    }
}
