//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;

/// Trigon, HAProxy + frps + frpc and a bare hyper proxy under the same load, in turn.
///
/// Everything runs on this machine and shares its cores: compare only within one run. Needs root
/// (an address for the target that is not loopback), and the peers `tests/run --bench` builds.
#[derive(Debug, Parser)]
#[command(name = "contenders")]
pub(crate) struct Options {
    /// Times each contender meets each load; the table shows medians.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Length of one measurement, after a quarter of that to warm up.
    #[arg(long, default_value_t = 1.6)]
    pub(crate) seconds: f64,
    /// One short round: shows that everything works, measures nothing.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Another running server to put beside them, as `NAME=http://HOST:PORT/PREFIX`; may be
    /// repeated. PREFIX must lead to the target, for instance `/exapps/bench`.
    #[arg(long = "peer", value_name = "NAME=URL", value_parser = peer)]
    pub(crate) peers: Vec<Peer>,
    /// Only contenders whose name contains one of these words.
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Only loads whose name contains one of these words.
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    pub(crate) load: Vec<String>,
    /// Where the target listens besides its unix socket, to point a peer at it.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) target_port: u16,
    /// Where the stand-in for Nextcloud listens, to point a peer at it. Its shared key is
    /// `a-shared-key-for-benches`.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) nextcloud_port: u16,
    /// The trigon to measure instead of the one built with this program.
    #[arg(long, value_name = "PATH")]
    pub(crate) trigon: Option<PathBuf>,
    /// Where frpc-0.61.1 and frps-0.61.1 lie.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers"))]
    pub(crate) programs: PathBuf,
    /// Runs the bare hyper proxy towards this address and nothing else.
    #[arg(long, hide = true, requires = "listen")]
    pub(crate) bare_proxy_to: Option<SocketAddr>,
    #[arg(long, hide = true)]
    pub(crate) listen: Option<SocketAddr>,
    /// Cargo says so to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    pub(crate) fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds.clamp(1, 100) }
    }

    pub(crate) fn window(&self) -> Duration {
        let seconds = if self.quick { 0.2 } else { self.seconds.clamp(0.05, 60.0) };
        Duration::from_secs_f64(seconds)
    }

    pub(crate) fn wants_contender(&self, name: &str) -> bool {
        contains_any(name, &self.only)
    }

    pub(crate) fn wants_load(&self, name: &str) -> bool {
        contains_any(name, &self.load)
    }
}

fn contains_any(name: &str, words: &[String]) -> bool {
    let name = name.to_lowercase();
    words.is_empty() || words.iter().any(|word| name.contains(&word.to_lowercase()))
}

/// A server somebody else runs.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) prefix: String,
}

fn peer(text: &str) -> anyhow::Result<Peer> {
    let (name, url) = text.split_once('=').context("expected NAME=URL")?;
    let Some(rest) = url.strip_prefix("http://") else { bail!("expected a URL with http://") };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let with_port =
        if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let address = with_port.to_socket_addrs()?.next().context("the host has no address")?;
    if name.is_empty() || address.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        bail!("expected a name and a host");
    }
    let path = path.trim_end_matches('/');
    let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
    Ok(Peer { name: name.to_owned(), address, prefix })
}
