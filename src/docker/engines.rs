//! Which port leads to which engine: the local one by its unix socket, others by their tunnels.
//!
//! A port is a name here and never a TCP port of this machine: HaRP binds every engine to one,
//! where any local process becomes root on the engine (weakness W4), and takes any port it is
//! told (weakness W19).

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use super::engine::Engine;
use super::error::Error;
use crate::net::{Dial, Target};

/// The port AppAPI uses when nobody told it another. Leads to the local engine, unless somebody
/// has registered a tunnel under it.
pub const LOCAL: u16 = 24000;

/// What an operator can set about engines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Socket of the engine on this machine; none if there is none to be used.
    pub socket: Option<PathBuf>,
    /// Whether the key of the FRP client certificate is readable by every user in a container, as
    /// HaRP leaves it.
    pub readable_client_key: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { socket: Some(PathBuf::from("/var/run/docker.sock")), readable_client_key: false }
    }
}

/// Tells whether a tunnel is registered under a port, on whichever node.
pub type IsRegistered = Box<dyn Fn(u16) -> bool + Send + Sync>;

/// The engines that can be reached. Cheap to clone.
#[derive(Clone)]
pub struct Engines {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    ports: RangeInclusive<u16>,
    dial: Arc<dyn Dial>,
    is_registered: IsRegistered,
}

impl Engines {
    /// Tunnels within `ports` are engines; `dial` reaches them and the local socket.
    pub fn new(
        config: Config,
        ports: RangeInclusive<u16>,
        dial: Arc<dyn Dial>,
        is_registered: IsRegistered,
    ) -> Self {
        Self { inner: Arc::new(Inner { config, ports, dial, is_registered }) }
    }

    /// What was set.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Where the engine of this port is.
    ///
    /// # Errors
    /// [`Error::Unknown`] when no engine belongs to it.
    pub fn target(&self, port: u16) -> Result<Target, Error> {
        if self.inner.ports.contains(&port) && (self.inner.is_registered)(port) {
            return Ok(Target::Tunnel(port));
        }
        match &self.inner.config.socket {
            Some(socket) if port == LOCAL => Ok(Target::Unix(socket.as_path().into())),
            _ => Err(Error::Unknown { port }),
        }
    }

    /// The engine of this port.
    ///
    /// # Errors
    /// [`Error::Unknown`] when no engine belongs to it.
    pub fn get(&self, port: u16) -> Result<Engine, Error> {
        Ok(Engine::new(port, self.target(port)?, Arc::clone(&self.inner.dial)))
    }

    /// Whether there is any engine, as far as can be told without asking it: a socket or a tunnel.
    pub fn any(&self) -> bool {
        let local = self.inner.config.socket.as_ref();
        local.is_some_and(|socket| socket.exists())
            || self.inner.ports.clone().any(|port| (self.inner.is_registered)(port))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::TcpDial;

    fn engines(socket: Option<&str>, registered: &'static [u16]) -> Engines {
        let config = Config { socket: socket.map(PathBuf::from), ..Config::default() };
        let dial = TcpDial { within: Duration::from_secs(1), refuse_loopback: true };
        let is_registered = Box::new(move |port| registered.contains(&port));
        Engines::new(config, 24000..=24099, Arc::new(dial), is_registered)
    }

    #[test]
    fn w04_w19_ports_are_names_of_registered_engines_only() {
        let engines = engines(Some("/run/d.sock"), &[24001, 23001, 2375]);
        let local = Target::Unix(PathBuf::from("/run/d.sock").as_path().into());
        assert_eq!(engines.target(24000).unwrap(), local);
        assert_eq!(engines.target(24001).unwrap(), Target::Tunnel(24001));
        // Not registered, an ExApp's tunnel, and a port of this machine.
        for port in [24002, 23001, 2375, 80, 1] {
            let text = engines.target(port).unwrap_err().to_string();
            assert_eq!(text, format!("no Docker engine is registered under port {port}"));
        }
    }

    #[test]
    fn a_tunnel_under_the_local_port_takes_its_place() {
        let tunnel = engines(Some("/run/d.sock"), &[24000]);
        assert_eq!(tunnel.target(24000).unwrap(), Target::Tunnel(24000));
        assert!(engines(None, &[]).target(24000).is_err());
    }

    #[test]
    fn whether_there_is_an_engine_is_told_truthfully() {
        assert!(!engines(None, &[]).any());
        assert!(!engines(Some("/nonexistent/docker.sock"), &[]).any());
        assert!(!engines(None, &[23001]).any());
        assert!(engines(None, &[24099]).any());
    }
}
