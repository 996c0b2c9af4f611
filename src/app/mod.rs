//! A running process: what starts in which order, what it waits for, how it stops.

mod node;
mod status;

mod witness;

use anyhow::Context;

use crate::config::Config;

/// Runs a node or a witness until SIGTERM or SIGINT.
///
/// # Errors
/// Why it could not start, or why it could not go on.
pub fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime did not start")?;
    runtime.block_on(async {
        match config.serve {
            Some(serve) => node::run(config.node, config.cluster, serve).await,
            None => witness::run(config.node, config.cluster).await,
        }
    })
}

/// Removes every configured virtual address from this machine; tells how many there were.
///
/// # Errors
/// The first interface whose addresses could not be removed.
pub fn release_addresses(config: &Config) -> anyhow::Result<usize> {
    let mut removed = 0;
    let speakers = config.serve.iter().flat_map(|serve| &serve.speakers);
    for (interface, routers) in speakers {
        let addresses: Vec<_> = routers.iter().flat_map(|r| r.addresses()).copied().collect();
        removed += vrrp::release(interface, &addresses)
            .with_context(|| format!("interface {interface}"))?;
    }
    Ok(removed)
}

/// Resolves when the process is told to end.
async fn told_to_stop() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => Ok("SIGTERM"),
        _ = int.recv() => Ok("SIGINT"),
    }
}

/// Tells the service manager, if there is one.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager was not told");
    }
}
