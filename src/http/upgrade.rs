//! What happens after a 101, or a 200 to an extended CONNECT: both connections stop speaking HTTP
//! and are joined (RFC 9110 section 7.8). WebSockets are the usual case.

use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::server::Slot;
use crate::net::splice::splice;
use crate::observe::metrics::metrics;

/// The joined pairs of one frontend. Cheap to clone.
#[derive(Clone)]
pub struct Upgrades {
    inner: Arc<Inner>,
}

struct Inner {
    idle: Duration,
    pairs: TaskTracker,
    cut: CancellationToken,
}

impl Upgrades {
    /// Pairs that end after `idle` without a byte in either direction.
    pub fn new(idle: Duration) -> Self {
        let inner = Inner { idle, pairs: TaskTracker::new(), cut: CancellationToken::new() };
        Self { inner: Arc::new(inner) }
    }

    /// Joins the two ends once both have left HTTP. `slot` keeps the place in the listener's
    /// connection limit for as long as the pair lives.
    pub fn join(&self, client: OnUpgrade, upstream: OnUpgrade, slot: Slot) {
        let inner = Arc::clone(&self.inner);
        let cut = self.inner.cut.clone();
        self.inner.pairs.spawn(async move {
            let _slot = slot;
            let _open = metrics().upgraded.enter();
            let joined = async {
                let (client, upstream) = match tokio::try_join!(client, upstream) {
                    Ok(both) => both,
                    Err(error) => {
                        tracing::debug!(%error, "upgrade was not completed");
                        return;
                    }
                };
                let done = splice(TokioIo::new(client), TokioIo::new(upstream), inner.idle).await;
                tracing::debug!(
                    bytes.up = done.forth,
                    bytes.down = done.back,
                    end = ?done.end,
                    "upgraded connection ended"
                );
            };
            tokio::select! {
                () = joined => {}
                () = cut.cancelled() => {}
            }
        });
    }

    /// How many pairs are open.
    pub fn open(&self) -> usize {
        self.inner.pairs.len()
    }

    /// Waits until all pairs have ended by themselves, at most `within`, and cuts the rest.
    pub async fn finish(&self, within: Duration) {
        self.inner.pairs.close();
        if tokio::time::timeout(within, self.inner.pairs.wait()).await.is_err() {
            self.inner.cut.cancel();
            self.inner.pairs.wait().await;
        }
    }
}
