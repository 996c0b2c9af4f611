//! Threads of its own for the cluster's engine.
//!
//! The leader writes, sends and applies what was shared in bursts, every 50 ms under load. On the
//! threads that carry requests such a burst would stand before every request that came meanwhile.

use anyhow::Context;
use cluster::presence::Presence;
use cluster::{Config, Handle, Node};
use tokio::runtime::{self, Builder, Runtime};

use super::privileges;

/// The engine's runtime. Its tasks end with it.
pub(super) struct Engine {
    handle: runtime::Handle,
    runtime: Option<Runtime>,
}

impl Engine {
    /// One thread, and those that wait for the disk.
    ///
    /// # Errors
    /// The kernel's: no thread, no more descriptors.
    pub(super) fn new() -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("cluster")
            .enable_all()
            .on_thread_start(privileges::shed)
            .build()
            .context("the runtime of the cluster did not start")?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Starts the member; whatever it does later by itself is done there too.
    ///
    /// # Errors
    /// Those of [`Node::start_with`].
    pub(super) async fn start(
        &self,
        config: Config,
        presence: Presence,
    ) -> anyhow::Result<(Node, Handle)> {
        let started = self.handle.spawn(Node::start_with(config, presence));
        Ok(started.await.context("the cluster broke while it started")??)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Blocks nowhere: this is dropped within the other runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
